"""A unicorn that is signed in: it listens to the topic of the zone that it is in, is asked, and answers."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing, suppress
from typing import Any, Final

from eip import Backoff, Consumer, Message, Source, clock
from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.errors import EipError, Reject
from eip.health import Health
from examples.rfq.channels import Channels
from examples.rfq.model import LONGEST, PRESENT, Presence, QuoteRequest, UnicornAnswer
from examples.rfq.push import Events
from examples.rfq.questions import AnsweredAlready, Board, NotAsked, TooLate
from examples.rfq.vicinity import ZONES, Position
from examples.rfq.waiting import set_within

__all__ = ["Full", "Session"]

_lines = RepeatedLines(get_logger("examples.rfq.unicorns"))

_MAX_OPEN: Final = 200
"""Questions that a unicorn is asked at a time in one zone; more wait in its channel."""
_MAX_ZONES_LEFT: Final = 4
"""Zones that a unicorn left whose questions it may still answer."""
_MAX_STREAMS: Final = 4
"""Clients of one unicorn that follow its changes at a time."""
_ANNOUNCE_EVERY_S: Final = PRESENT / 3
"""Seconds between two messages with the place of a unicorn that does not move."""
_SETTLE_S: Final = 0.2
"""Seconds in which several moves become one."""
_ABANDONED_AFTER_S: Final = 30.0
"""Seconds without a client after which a unicorn is signed out."""
_RETRY_BACKOFF: Final = Backoff(base=2.0, cap=30.0)
"""How long one whose channels failed waits before it tries again."""
_LEAVE_TIMEOUT_S: Final = 2.0
"""Timeout, in seconds, to announce that it leaves and to end its subscription."""


class Full(Exception):
    """As many are there as there may be: unicorns, or clients of one."""


class Session:
    """One unicorn that is signed in."""

    def __init__(self, unicorn: str, name: str, position: Position, channels: Channels) -> None:
        self.id, self.name, self.position = unicorn, name, position
        self.ended = asyncio.Event()
        self._channels = channels
        self._board = Board()
        self._moved, self._leaving = asyncio.Event(), asyncio.Event()
        self._streams, self._seen = 0, 0.0
        self._consumers: deque[tuple[Consumer, asyncio.Task[None]]] = deque()
        """Of the zone it is in (the last one), and of those that it left with questions open."""
        self._zone: str | None = None
        """The zone that it is asked in."""
        self._reason = "stopping"
        """Why it is signed out."""
        self.touch()
        self._board.place(self.place())

    # What its app asks for.

    @property
    def listening(self) -> bool:
        """Whether questions asked in its zone reach it."""
        return self.position.zone == self._zone

    @property
    def leaving(self) -> bool:
        """Whether it signs out, or has."""
        return self._leaving.is_set()

    def health(self) -> Health:
        """Whether the channel answers on which it is asked."""
        return self._consumers[-1][0].health() if self._consumers else Health(ok=True)

    def touch(self) -> None:
        """Note that its app is there."""
        self._seen = asyncio.get_running_loop().time()

    def place(self) -> dict[str, Any]:
        """Who it is, and where in a city of so many zones a side."""
        at = self.position
        where = {"x": at.x, "y": at.y, "zone": at.zone, "zones": ZONES, "listening": self.listening}
        return {"unicorn": self.id, "name": self.name, **where}

    def changes(self, after: str = "") -> Events:
        """Its place and its questions, and each change of them, until it is signed out; see `Board.changes`.

        Raises `Full` for one client too many.
        """
        if self._streams >= _MAX_STREAMS:
            raise Full(f"a unicorn is followed by at most {_MAX_STREAMS} clients at a time")
        return self._changes(after)

    async def _changes(self, after: str) -> Events:
        self._streams += 1
        try:
            async with aclosing(self._board.changes(after)) as changes:
                async for change in changes:
                    yield change
        finally:
            self._streams -= 1
            self.touch()

    async def move(self, position: Position, name: str | None = None) -> None:
        """Go there; questions of zones that it leaves may still be answered."""
        self.position, self.name = position, name or self.name
        self._moved.set()
        self._board.place(self.place())

    async def answer(self, answer: UnicornAnswer) -> None:
        """Send the answer; returns once the channel has it. To give the same answer again changes nothing.

        Raises:
            NotAsked: there is no such question.
            TooLate: its deadline has passed. The answer is sent all the same: the customer sees that it was late.
            AnsweredAlready: it was answered otherwise.
            EipError: the channel did not take the answer; it may be given again.
        """
        question = self._board.find(answer.rfq)
        if question is None:
            raise NotAsked(answer.rfq)
        async with question.answering:
            if question.answer is None:
                late = question.over
                await question.replies.send(question.reply(answer, by=self.id, name=self.name))
                question.answer = answer
                self._board.close(question, "over" if late else "quoted" if answer.declined is None else "declined")
        if question.answer != answer:
            raise AnsweredAlready(answer.rfq)
        if question.state == "over":
            raise TooLate(answer.rfq)

    async def leave(self, reason: str = "left") -> None:
        """Sign out; returns once that is done."""
        if not self.leaving:
            self._reason = reason
        self._leaving.set()
        self._moved.set()
        await self.ended.wait()

    # Behind it.

    async def run(self) -> None:
        """Listen where it is until it leaves; where its channels fail, it starts again."""
        failed = 0
        try:
            while not self.leaving:
                try:
                    await self._attend()
                except* Exception as errors:  # noqa: BLE001 - one unicorn's trouble must not end the others
                    failed = 0 if self.listening else failed + 1
                    _lines.warning("unicorn_lost", varying={"unicorn": self.id}, errors=_texts(errors))
                    self._listens(None)
                    await set_within(self._leaving, _RETRY_BACKOFF.delay(failed + 1))
        finally:
            self._board.end(self._reason)
            self.ended.set()

    async def _attend(self) -> None:
        zone: str | None = None
        source: Source | None = None
        async with asyncio.TaskGroup() as tasks:
            try:
                while not self.leaving:
                    before, zone = zone, self.position.zone
                    entered = await self._channels.enter(zone, self.id)
                    if entered is not source:
                        source = entered
                        await self._listen(source, tasks)
                    await self._announce(zone, left=before)
                    self._listens(zone)
                    if before is not None:
                        await self._channels.leave(before, self.id)
                    await self._stay(zone)
            finally:
                if zone is not None:
                    await self._take_leave(zone)
                for _, task in self._consumers:  # open questions go back to the channel
                    task.cancel()
                self._consumers.clear()

    async def _listen(self, source: Source, tasks: asyncio.TaskGroup) -> None:
        """Be asked what comes from there; where it listened before, it only finishes what was asked."""
        for before, _ in list(self._consumers)[-1:]:
            tasks.create_task(before.stop(grace=LONGEST))
        self._consumers = deque(each for each in self._consumers if not each[1].done())
        while len(self._consumers) > _MAX_ZONES_LEFT:
            self._consumers.popleft()[1].cancel()
        consumer = Consumer(
            source,
            self._asked,
            dead_letters=self._channels.unreadable,
            concurrency=_MAX_OPEN,
            max_processing=2 * LONGEST,
            grace=0.0,
            name=self.id,
        )
        self._consumers.append((consumer, tasks.create_task(consumer.run())))
        await consumer.ready.wait()

    async def _asked(self, message: Message[QuoteRequest]) -> None:
        """Show the question, and keep its message until it was answered or its time is over."""
        if message.return_address is None:
            raise Reject("it names no return address")
        replies = self._channels.return_addresses.resolve(message.return_address)
        await self._board.ask(message, replies).closed.wait()

    async def _stay(self, zone: str) -> None:
        """Announce now and then where it is, until it leaves the zone or is abandoned by its app."""
        while True:
            if await set_within(self._moved, _ANNOUNCE_EVERY_S):
                await set_within(self._leaving, _SETTLE_S)
                self._moved.clear()
            elif not self._streams and asyncio.get_running_loop().time() - self._seen > _ABANDONED_AFTER_S:
                self._reason = "abandoned"
                self._leaving.set()
            if self.leaving or self.position.zone != zone:
                return
            await self._announce(zone)

    async def _announce(self, zone: str | None, *, left: str | None = None) -> None:
        presence = Presence(unicorn=self.id, name=self.name, zone=zone, left=left, position=self.position)
        here = Message(presence, type="Presence", source=self.id, group_id=self.id, expires_at=clock.now() + PRESENT)
        await self._channels.presence.send(here)

    async def _take_leave(self, zone: str) -> None:
        """Announce that it leaves, if that is possible: a failure must not take the place of what ended its stay."""
        with suppress(EipError, TimeoutError):
            async with asyncio.timeout(_LEAVE_TIMEOUT_S):
                await self._announce(None, left=zone)
                await self._channels.leave(zone, self.id)

    def _listens(self, zone: str | None) -> None:
        if zone != self._zone:
            self._zone = zone
            self._board.place(self.place())


def _texts(errors: BaseExceptionGroup[Exception]) -> list[str]:
    """The errors of a group, of the groups inside too."""
    inside = [_texts(each) if isinstance(each, BaseExceptionGroup) else [repr(each)] for each in errors.exceptions]
    return sorted({text for texts in inside for text in texts})
