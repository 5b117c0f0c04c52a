"""The state of a resequencer's sequence, and how it is kept in a store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from itertools import count, islice, takewhile
from typing import Any, Final, TypeAlias

from pydantic import BaseModel

from eip import clock
from eip._ids import new_id
from eip.envelope import dump_message, load_message
from eip.errors import DecodeError, StoreError
from eip.message import Message
from eip.patterns._records import Records, Versioned, after_conflict
from eip.stores.base import Store

__all__ = ["HeldSequence", "SequenceState", "Sequences", "sequence_id"]

_CLAIM_S: Final = 60.0
"""Seconds after which another process takes over the release of a sequence."""
_IDLE_S: Final = 14 * 24 * 3600.0
"""Seconds that a sequence of unknown size is known after its latest message: SQS's longest retention."""
_PREFIX: Final = "s:"

_MAX_GAPS: Final = 100
"""Skipped ranges of a sequence that are remembered, the latest ones."""


class SequenceState(BaseModel):
    """A sequence: what comes next, what waits for it, and what was given up."""

    next: int = 0
    """The position to be released next."""
    pending: list[int] = []
    """Positions whose messages are stored, in the order of their arrival."""
    skipped: list[tuple[int, int]] = []
    """Positions given up, as first and last."""
    size: int | None = None
    """How many parts it has, once known."""
    gap_ends: float | None = None
    """When the position that others wait for is given up; None: nothing waits, or for ever."""
    owner: str | None = None
    """Who releases it now."""
    owned_until: float = 0.0
    """When another may release it."""
    failures: int = 0
    """Releases in a row that failed."""

    @property
    def due(self) -> float | None:
        """When something is to be done that no message brings about."""
        if self.next in self.pending:
            return self.owned_until
        return None if not self.pending or self.gap_ends is None else max(self.gap_ends, self.owned_until)

    @property
    def complete(self) -> bool:
        """Whether all of it was released or given up."""
        return self.size is not None and self.next >= self.size

    def taken(self, owner: str, now: float) -> bool:
        """Whether somebody else is releasing it."""
        return self.owner not in (None, owner) and self.owned_until > now

    def claim(self, owner: str, until: float) -> None:
        """Let the owner release it."""
        self.owner, self.owned_until = owner, until

    def disclaim(self) -> None:
        """Let any process release it."""
        self.owner, self.owned_until = None, 0.0

    def put_off(self, retry_at: float) -> None:
        """Let any process release it again, after a failure."""
        self.owner, self.owned_until, self.failures = None, retry_at, self.failures + 1

    def lose(self, positions: Collection[int], gap_ends: float | None) -> None:
        """Take positions that waited for missing, the next one among them, and let any process go on."""
        self.pending = [each for each in self.pending if each not in positions]
        self.note_gap(gap_ends)
        self.disclaim()

    def was_skipped(self, position: int) -> bool:
        """Whether the position was given up."""
        return any(first <= position <= last for first, last in self.skipped)

    def gap_before(self, position: int) -> tuple[int, int] | None:
        """The range given up right before a position."""
        return next((each for each in self.skipped if each[1] == position - 1), None)

    def ready(self, limit: int) -> list[int]:
        """The positions that can be released now, in order, up to ``limit`` of them."""
        waiting = set(self.pending)
        return list(islice(takewhile(waiting.__contains__, count(self.next)), limit))

    def advance(self, to: int, gap_ends: float | None) -> None:
        """What lies before ``to`` was released; a gap that shows now ends at ``gap_ends``."""
        moved = to > self.next
        self.next = max(self.next, to)
        self.pending = [each for each in self.pending if each >= self.next]
        if moved:
            self.gap_ends, self.failures = None, 0
        self.note_gap(gap_ends)

    def note_gap(self, gap_ends: float | None) -> None:
        """Start the time of a gap, where there is one that was not there before."""
        if not self.pending or self.next in self.pending:
            self.gap_ends = None
        elif self.gap_ends is None:
            self.gap_ends = gap_ends

    def skip(self) -> tuple[int, int]:
        """Give up what the first of those that wait is waiting for."""
        gap = (self.next, min(self.pending) - 1)
        self.skipped = [*self.skipped, gap][-_MAX_GAPS:]
        self.next, self.gap_ends = gap[1] + 1, None
        return gap


HeldSequence: TypeAlias = Versioned[SequenceState]


class Sequences:
    """The sequences of a store and their messages that wait, each in a record of its own.

    Args:
        store: of one resequencer alone.
        retention: seconds that a complete sequence is known.
        on_due: called when something was written, with the time at which it is due.
    """

    def __init__(self, store: Store, *, retention: float, on_due: Callable[[float], None]) -> None:
        self._store, self._retention, self._on_due = store, retention, on_due
        self._records = Records(store, SequenceState, prefix=_PREFIX)
        self._owner = new_id()

    async def read(self, key: str) -> HeldSequence | None:
        """The sequence, or None."""
        return await self._records.read(key)

    def taken(self, held: HeldSequence) -> bool:
        """Whether another process is releasing it."""
        return held.value.taken(self._owner, clock.now())

    def claim(self, held: HeldSequence) -> None:
        """Let this process alone release it for a while, once it is written."""
        held.value.claim(self._owner, clock.now() + _CLAIM_S)

    async def write(self, key: str, held: HeldSequence) -> bool:
        """Write the sequence, unless it was changed since it was read."""
        sequence = held.value
        known = clock.now() + (self._retention if sequence.complete else _IDLE_S)
        expires_at = None if sequence.pending else known
        written = await self._records.write(key, held, due=sequence.due, expires_at=expires_at)
        if written and sequence.due is not None:
            self._on_due(sequence.due)
        return written

    async def update(self, key: str, held: HeldSequence, change: Callable[[SequenceState], None]) -> None:
        """Change a sequence that this process has claimed, whatever others add to it meanwhile."""
        conflicts = 0
        while True:
            if held.value.owner != self._owner:
                raise StoreError(f"sequence {key} was taken over by another process")
            change(held.value)
            if await self.write(key, held):
                return
            conflicts = await after_conflict(conflicts, f"sequence {key}")
            found = await self.read(key)
            if found is None:
                raise StoreError(f"sequence {key} is gone")
            held.value, held.version = found.value, found.version

    async def keep(self, key: str, position: int, message: Message[Any]) -> None:
        """Store a message that has to wait."""
        await self._store.put(_message_key(key, position), dump_message(message))

    async def kept(self, key: str, positions: list[int]) -> tuple[dict[int, Message[Any]], dict[int, bytes | None]]:
        """The messages at the positions; and what is there where none can be read, None where it is gone."""
        found = await asyncio.gather(*(self._store.get(_message_key(key, each)) for each in positions))
        messages: dict[int, Message[Any]] = {}
        lost: dict[int, bytes | None] = {}
        for position, record in zip(positions, found, strict=True):
            try:
                messages[position] = load_message(b"" if record is None else record.value)
            except DecodeError:
                lost[position] = None if record is None else record.value
        return messages, lost

    async def drop(self, key: str, positions: Iterable[int]) -> None:
        """Remove the messages at the positions."""
        await asyncio.gather(*(self._store.delete(_message_key(key, each)) for each in positions))


def sequence_id(key: str) -> str:
    """The id of the sequence whose record is due."""
    return key.removeprefix(_PREFIX)


def _message_key(key: str, position: int) -> str:
    return f"m{position}:{key}"
