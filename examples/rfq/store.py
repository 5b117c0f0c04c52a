"""The state of the booking service, on any `eip.stores.Store`: what it knows survives the process, and is shared.

An RFQ is a record; each answer is an item of its own beside it, so that processes that note answers never wait for one
another. Only the record is written on condition: whoever completes an RFQ first settles which answers count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from eip import Message, clock
from eip.stores import ABSENT, Record, Store
from examples.rfq.model import PRESENT, Presence, Quote, RideRequest, all_zones

__all__ = ["ASKED_WITHIN", "Answer", "Presences", "Rfq", "Rfqs"]

ASKED_WITHIN: Final = 5.0
"""Seconds after which an RFQ that was noted but not asked is asked by whichever process comes first."""
_KEPT: Final = 7 * 86_400.0
"""Seconds that an RFQ and its answers are kept after its end."""
_MOST: Final = 10_000
"""RFQs of one look at what is due, and RFQs kept in mind."""


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
    request: RideRequest
    created_at: float
    eta: float
    """When it ends at the latest, seconds since the epoch."""
    addressed: tuple[str, ...] | None
    """The unicorns near the start when they were asked; None: they were not asked yet."""
    answers: tuple[Answer, ...]
    """The first of each unicorn, in the order they were sent in; final once it is complete."""
    late: tuple[Answer, ...]
    """The first of each other unicorn that came after that."""
    completed_at: float | None
    choice: str | None
    """The unicorn whose offer the customer chose."""

    @property
    def expected(self) -> int | None:
        """How many unicorns were asked; None where that is unknown, or nobody."""
        return len(self.addressed or ()) or None

    @property
    def responses(self) -> int:
        """How many have answered, those that declined included."""
        return len(self.answers)

    @property
    def quotes(self) -> list[Quote]:
        """The quotes, in the order they were sent in."""
        return [answer.quote for answer in self.answers if answer.quote is not None]

    @property
    def silent(self) -> list[str]:
        """The unicorns that were asked and have not answered, not even late."""
        heard = {answer.unicorn for answer in (*self.answers, *self.late)}
        return [unicorn for unicorn in self.addressed or () if unicorn not in heard]

    @property
    def answered(self) -> bool:
        """Whether every unicorn that was asked has answered."""
        return bool(self.addressed) and {answer.unicorn for answer in self.answers}.issuperset(self.addressed or ())


class _State(BaseModel):
    """The record of an RFQ."""

    request: RideRequest
    created_at: float
    eta: float
    addressed: list[str] | None = None
    closed_at: float | None = None
    """From then on answers are late; which came before is settled next, by anyone who looks."""
    counted: list[str] | None = None
    """The answers that count; None until that is settled."""
    choice: str | None = None


class Rfqs:
    """The RFQs and their answers."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: dict[str, float] = {}
        """The etas of some RFQs that were not complete when last seen."""

    async def create(self, rfq: str, request: RideRequest, eta: float) -> Rfq:
        """Note a new RFQ, to be asked."""
        state = _State(request=request, created_at=clock.now(), eta=eta)
        await self._write(rfq, state, ABSENT)
        return _rfq(rfq, self._learn(rfq, state), {})

    async def asked(self, rfq: str, unicorns: list[str]) -> None:
        """Note that the unicorns there were asked; where that is known, nothing changes."""
        while True:
            record = await self._store.get(_key(rfq))
            state = None if record is None else _read(record)
            if record is None or state is None or state.addressed is not None or state.closed_at is not None:
                return
            if await self._write(rfq, state.model_copy(update={"addressed": unicorns}), record.version):
                return

    async def answer(self, rfq: str, reply: Message, answer: Answer) -> bool:
        """Note the answer that came as that reply: one write. False where the RFQ is unknown or complete.

        Noted again, nothing changes. One that comes after the RFQ closed is noted as late, a unicorn's second does not
        count.
        """
        eta, taken = self._open.get(rfq), True
        if eta is None:
            record = await self._store.get(_key(rfq))
            if record is None:
                return False
            state = self._learn(rfq, _read(record))
            eta, taken = state.eta, state.closed_at is None
        value = answer.model_dump_json().encode()
        await self._store.put_part(_key(rfq), reply.id, value, expires_at=eta + _KEPT)
        return taken

    async def complete(self, rfq: str, at: float) -> bool:
        """Note that the RFQ is complete; False where it was."""
        while True:
            record = await self._store.get(_key(rfq))
            state = None if record is None else _read(record)
            if record is None or state is None or state.counted is not None:
                return False
            if state.closed_at is not None:
                await self._settle(rfq, record)
                return False
            if await self._write(rfq, state.model_copy(update={"closed_at": at}), record.version):
                await self.get(rfq)
                return True

    async def choose(self, rfq: str, unicorn: str) -> Rfq | None:
        """Note whose offer the customer chose; the RFQ with the choice, or the earlier one. None: no such RFQ."""
        while True:
            record = await self._store.get(_key(rfq))
            if record is None:
                return None
            state = _read(record)
            chosen = state.model_copy(update={"choice": unicorn})
            if state.choice is not None or await self._write(rfq, chosen, record.version):
                return await self.get(rfq)

    async def get(self, rfq: str) -> Rfq | None:
        """The RFQ, or None."""
        while True:
            # The answers first: what is seen of an RFQ that was not closed afterwards was there before it closed.
            answers = await self._answers(rfq)
            record = await self._store.get(_key(rfq))
            if record is None:
                return None
            state = self._learn(rfq, _read(record))
            if state.closed_at is None or state.counted is not None:
                return _rfq(rfq, state, answers)
            await self._settle(rfq, record)

    async def due(self, now: float) -> list[str]:
        """The RFQs that must be completed, or be asked, by now."""
        return _rfqs(await self._store.due(now, limit=_MOST))

    async def running(self) -> list[str]:
        """The RFQs that are not complete, up to 10,000; the next to end first."""
        return await self.due(clock.now() + 86_400.0)

    def _learn(self, rfq: str, state: _State) -> _State:
        """Keep in mind whether the RFQ takes answers, of the last 10,000."""
        self._open.pop(rfq, None)
        if state.closed_at is None:
            self._open[rfq] = state.eta
            if len(self._open) > _MOST:
                del self._open[next(iter(self._open))]
        return state

    async def _settle(self, rfq: str, record: Record) -> None:
        """Settle which answers of a closed RFQ count; of several that try, one does."""
        counted = list(_first(await self._answers(rfq)))
        await self._write(rfq, _read(record).model_copy(update={"counted": counted}), record.version)

    async def _answers(self, rfq: str) -> dict[str, Answer]:
        """All answers by message, in the order they were sent in."""
        parts = await self._store.parts(_key(rfq))
        found = {message: Answer.model_validate_json(value) for message, value in parts.items()}
        return dict(sorted(found.items(), key=lambda each: (each[1].sent_at, each[0])))

    async def _write(self, rfq: str, state: _State, version: str) -> bool:
        due: float | None = state.eta
        if state.addressed is None:
            due = min(state.eta, clock.now() + ASKED_WITHIN)
        if state.counted is not None:
            due = None
        value = state.model_dump_json(by_alias=True).encode()
        until = state.eta + _KEPT
        return await self._store.put(_key(rfq), value, version=version, due=due, expires_at=until) is not None


class Presences:
    """Which unicorns are where: those that said so within the last half minute."""

    def __init__(self, store: Store) -> None:
        self._store = store

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


def _key(rfq: str) -> str:
    return f"rfq {rfq}"


def _zone(zone: str) -> str:
    return f"zone {zone}"


def _rfqs(keys: list[str]) -> list[str]:
    return [key.removeprefix("rfq ") for key in keys]


def _read(record: Record) -> _State:
    return _State.model_validate_json(record.value)


def _first(answers: dict[str, Answer]) -> dict[str, Answer]:
    """The first answer of each unicorn."""
    first: dict[str, str] = {}
    for message, answer in answers.items():
        first.setdefault(answer.unicorn, message)
    return {message: answers[message] for message in first.values()}


def _rfq(rfq: str, state: _State, answers: dict[str, Answer]) -> Rfq:
    late: dict[str, Answer] = {}
    if state.counted is None:
        counted = _first(answers)
    else:
        counted = {each: answers[each] for each in state.counted if each in answers}
        heard = {answer.unicorn for answer in counted.values()}
        late = _first({message: answer for message, answer in answers.items() if answer.unicorn not in heard})
    return Rfq(
        id=rfq,
        request=state.request,
        created_at=state.created_at,
        eta=state.eta,
        addressed=None if state.addressed is None else tuple(state.addressed),
        answers=tuple(counted.values()),
        late=tuple(late.values()),
        completed_at=state.closed_at,
        choice=state.choice,
    )
