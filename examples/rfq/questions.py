"""What one unicorn has to know: where it is, and the questions that it is asked, each in its newest state.

No history is kept. Whatever changes gets the next number, in place of what was known of the same subject before; a
client that comes back names the number that it had last, and gets what changed since. So memory is bounded by the
number of subjects, however slowly clients read.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from eip import Message, Sender, clock
from examples.rfq.model import LONGEST, Quote, QuoteRequest, UnicornAnswer, as_json
from examples.rfq.push import SILENCE_S, Event, Events
from examples.rfq.waiting import set_within

__all__ = ["AnsweredAlready", "Board", "NotAsked", "Question", "TooLate"]

State: TypeAlias = Literal["open", "quoted", "declined", "over"]

_MAX_CLOSED: Final = 100
"""Questions that are shown on after they were answered, or their time was over."""
_PLACE: Final = "place"
_DEFAULT_DEADLINE_S: Final = 60.0
"""Of a question that states none."""


class NotAsked(Exception):
    """The unicorn was not asked about that RFQ, or so long ago that this is forgotten."""


class TooLate(Exception):
    """The answer came after the RFQ's deadline; the customer sees at most that it was late."""


class AnsweredAlready(Exception):
    """The unicorn has answered otherwise before."""


class Question:
    """A request for a quote, as one unicorn has it."""

    def __init__(self, message: Message[QuoteRequest], replies: Sender) -> None:
        self.message, self.replies = message, replies
        self.id = message.correlation_id or message.id
        now = clock.now()
        self.deadline = min(message.expires_at or now + _DEFAULT_DEADLINE_S, now + LONGEST)
        self.state: State = "open"
        self.answer: UnicornAnswer | None = None
        """What the unicorn answered, in time or late."""
        self.answering = asyncio.Lock()
        self.closed = asyncio.Event()
        """Set once it was answered, or its time is over."""

    @property
    def over(self) -> bool:
        """Whether its time is over."""
        return clock.now() >= self.deadline

    def shown(self) -> dict[str, Any]:
        """As the unicorn's app gets it."""
        asked = self.message.body
        where = {"start": as_json(asked.start), "destination": as_json(asked.to)}
        eta = datetime.fromtimestamp(self.deadline, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        given = {} if self.answer is None else self.answer.model_dump(exclude={"rfq"}, exclude_none=True)
        return {"rfq": self.id, **as_json(asked.ride), **where, "eta": eta, "state": self.state, **given}

    def reply(self, answer: UnicornAnswer, *, by: str, name: str) -> Message[Any]:
        """The answer as a message: with the same id each time, so that one which is sent again counts once.

        Args:
            answer: an offer, or why it declines.
            by: the unicorn's id.
            name: its name, for people.
        """
        identity = {"id": f"{by}.{self.message.id}", "source": by}
        if answer.price is None or answer.minutes is None:
            return self.message.reply({"reason": answer.declined}, type="Declined", **identity)
        quote = Quote(unicorn=by, name=name, price=answer.price, minutes=answer.minutes)
        return self.message.reply(quote, type="Quote", **identity)


class _Change(NamedTuple):
    number: int
    kind: str
    data: dict[str, Any]


class Board:
    """What a unicorn has to know, as numbered changes for any number of clients."""

    def __init__(self) -> None:
        self._life = secrets.token_hex(4)
        """Tells the numbers of this board from those of one before it, in this process or another."""
        self._number = 0
        self._changes: OrderedDict[str, _Change] = OrderedDict()
        """By subject, the newest last."""
        self._questions: dict[str, Question] = {}
        self._closed: OrderedDict[str, None] = OrderedDict()
        """Ids of questions that are closed, the oldest first."""
        self._timers: dict[str, asyncio.TimerHandle] = {}
        """Of open questions, by their ids."""
        self._news = asyncio.Event()
        self._ended = False

    def place(self, data: dict[str, Any]) -> None:
        """Show where the unicorn is."""
        self._put(_PLACE, _PLACE, data)

    def find(self, rfq: str) -> Question | None:
        """The question of an RFQ; None for one that was never asked, or was closed long ago."""
        return self._questions.get(rfq)

    def ask(self, message: Message[QuoteRequest], replies: Sender) -> Question:
        """Show a question; the same one, where it was asked before: in two zones, or once more."""
        question = Question(message, replies)
        known = self._questions.get(question.id)
        if known is not None:
            return known
        self._questions[question.id] = question
        left = max(0.0, question.deadline - clock.now())
        self._timers[question.id] = asyncio.get_running_loop().call_later(left, self._is_over, question)
        self._show(question)
        return question

    def close(self, question: Question, state: State) -> None:
        """Show that the question was answered, or that its time is over."""
        question.state = state
        question.closed.set()
        if timer := self._timers.pop(question.id, None):
            timer.cancel()
        self._closed[question.id] = None
        self._show(question)
        if len(self._closed) > _MAX_CLOSED:
            oldest, _ = self._closed.popitem(last=False)
            self._questions.pop(oldest, None)
            self._changes.pop(oldest, None)

    def end(self, reason: str) -> None:
        """End all streams of changes with an event that holds the reason."""
        self._put("end", "signed-out", {"reason": reason})
        self._ended = True
        for timer in self._timers.values():
            timer.cancel()

    async def changes(self, after: str = "") -> Events:
        """What there is to know, and then each change, until `end`.

        Args:
            after: the id of the event that the client had last, to go on after it.
        """
        seen = self._seen(after)
        while True:
            news = self._news
            for change in [each for each in self._changes.values() if each.number > seen]:
                seen = change.number
                yield Event(change.kind, change.data, f"{self._life}-{change.number}")
            if self._ended:
                return
            if news is self._news and not await set_within(news, SILENCE_S):
                yield None

    def _is_over(self, question: Question) -> None:
        if question.state == "open":
            self.close(question, "over")

    def _show(self, question: Question) -> None:
        self._put(question.id, "rfq", question.shown())

    def _put(self, subject: str, kind: str, data: dict[str, Any]) -> None:
        self._number += 1
        self._changes[subject] = _Change(self._number, kind, data)
        self._changes.move_to_end(subject)
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _seen(self, after: str) -> int:
        """The number of the last event that a client had; 0 where that was another board's."""
        life, _, number = after.partition("-")
        return int(number) if life == self._life and number.isascii() and number.isdecimal() else 0
