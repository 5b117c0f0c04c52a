"""What the booking service knows: an RFQ as its scatter-gather has it, whose offer was taken, and who is where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, ValidationError

from eip import Message
from eip.patterns.scatter_gather import Gathered
from eip.stores import ABSENT, Store
from examples.rfq.model import PRESENT, Presence, Quote, QuoteRequest, Ride
from examples.rfq.vicinity import all_zones

__all__ = ["RETENTION", "Answer", "Choices", "Presences", "Rfq", "States", "answer_of", "rfq_of"]

RETENTION: Final = 7 * 86_400.0
"""Seconds that an RFQ and its answers are kept after its end."""


class States(NamedTuple):
    """The collections of the service, shared by all of its processes."""

    quotes: Store
    """Of the scatter-gather: requests and their replies."""
    rides: Store
    """Whose offers were taken, where the unicorns are, and which URLs are to be called."""
    queues: Store
    """Which customers have reply queues of their own."""


class Answer(BaseModel):
    """What a unicorn answered."""

    unicorn: str
    quote: Quote | None
    """None: it declined."""
    sent_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rfq:
    """A request for quotes and how far it is."""

    id: str
    question: QuoteRequest
    """What the unicorns were asked."""
    created_at: float
    eta: float
    """When it ends at the latest, seconds since the epoch."""
    addressed: tuple[str, ...]
    """The unicorns near the start when they were asked."""
    answers: tuple[Answer, ...]
    """The first of each unicorn, in the order of their arrival; final once it is complete."""
    late: tuple[Answer, ...]
    """The first of each other unicorn that came after that."""
    completed_at: float | None
    choice: str | None = None
    """The unicorn whose offer the customer chose."""

    @property
    def request(self) -> Ride:
        """The ride that was asked for."""
        return self.question.ride

    @property
    def expected(self) -> int | None:
        """How many unicorns were asked; None: nobody."""
        return len(self.addressed) or None

    @property
    def responses(self) -> int:
        """How many have answered, those that declined included."""
        return len(self.answers)

    @property
    def quotes(self) -> list[Quote]:
        """The quotes, in the order of their arrival."""
        return [answer.quote for answer in self.answers if answer.quote is not None]

    @property
    def silent(self) -> list[str]:
        """The unicorns that were asked and have not answered, not even late."""
        heard = {answer.unicorn for answer in (*self.answers, *self.late)}
        return [unicorn for unicorn in self.addressed if unicorn not in heard]


def answer_of(reply: Message[Any]) -> Answer | None:
    """The answer that a reply is; None for one that is neither a unicorn's quote nor its refusal."""
    if reply.source is None or reply.type not in ("Quote", "Declined"):
        return None
    try:
        quote = Quote.model_validate(reply.body) if reply.type == "Quote" else None
    except ValidationError:
        return None
    if quote is not None and quote.unicorn != reply.source:
        return None
    return Answer(unicorn=reply.source, quote=quote, sent_at=reply.created_at)


def rfq_of(gathered: Gathered, choice: str | None = None) -> Rfq:
    """The RFQ that a scatter-gather's request is."""
    request = gathered.request
    assert request is not None
    answers = _first(gathered.replies)
    late = _first(gathered.late_replies or ())
    return Rfq(
        id=gathered.id,
        question=QuoteRequest.model_validate(request.body),
        created_at=request.created_at,
        eta=request.expires_at or request.created_at,
        addressed=tuple(sorted(gathered.names or ())),
        answers=tuple(answers.values()),
        late=tuple(answer for unicorn, answer in late.items() if unicorn not in answers),
        completed_at=gathered.completed_at,
        choice=choice,
    )


def _first(replies: Iterable[Message[Any]]) -> dict[str, Answer]:
    """By unicorn, its first answer."""
    first: dict[str, Answer] = {}
    for answer in map(answer_of, replies):
        if answer is not None:
            first.setdefault(answer.unicorn, answer)
    return first


class Choices:
    """Whose offers customers took."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def choose(self, rfq: Rfq, unicorn: str) -> str:
        """Take a unicorn's offer; returns whose is taken, which is the first one's."""
        until = rfq.eta + RETENTION
        if await self._store.put(_choice(rfq.id), unicorn.encode(), version=ABSENT, expires_at=until) is not None:
            return unicorn
        return await self.of(rfq.id) or unicorn

    async def of(self, rfq: str) -> str | None:
        """Whose offer was taken; None: nobody's."""
        found = await self._store.get(_choice(rfq))
        return None if found is None else found.value.decode()


class Presences:
    """Which unicorns are where: those that said so within the last half minute."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def take(self, message: Message[Presence]) -> None:
        """Note what a unicorn announces."""
        await self.note(message.body, message.created_at)

    async def note(self, presence: Presence, said_at: float) -> None:
        """Note where a unicorn is, or that it left."""
        value = presence.model_dump_json().encode()
        if presence.left is not None and presence.left != presence.zone:
            await self._store.put_part(_zone(presence.left), presence.unicorn, value, expires_at=said_at)
        if presence.zone is not None:
            await self._store.put_part(_zone(presence.zone), presence.unicorn, value, expires_at=said_at + PRESENT)

    async def near(self, zone: str) -> list[Presence]:
        """The unicorns of a zone."""
        parts = await self._store.parts(_zone(zone))
        return [Presence.model_validate_json(value) for _, value in sorted(parts.items())]

    async def everywhere(self) -> dict[str, Presence]:
        """All unicorns, by their id."""
        return {each.unicorn: each for zone in all_zones() for each in await self.near(zone)}


def _choice(rfq: str) -> str:
    return f"choice {rfq}"


def _zone(zone: str) -> str:
    return f"zone {zone}"
