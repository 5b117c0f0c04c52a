"""The records of a message scheduler, and the messages that it sends for them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from eip import clock
from eip.envelope import load_message
from eip.message import Message
from eip.patterns._records import Records, Versioned, after_conflict
from eip.patterns._timetable import Timetable
from eip.stores.base import Store

__all__ = ["ScheduledMessage", "ScheduledRecord", "ScheduledRecords", "load", "merged", "occurrence", "scheduled"]

_REFUSED_RETENTION_S: Final = 14 * 24 * 3600.0
"""For a refused message, which `MessageScheduler.move` can try again: as long as a queue of SQS would keep it."""

_NATIVE_RETENTION_S: Final = 24 * 3600.0
"""For what is known of a message that a service sends, after its time."""


class ScheduledRecord(BaseModel):
    """In the store, under its key."""

    v: int = 1
    to: str
    message: str
    """`dump_message`, as Latin-1: its body may be any bytes."""
    timetable: Timetable
    due: float
    """The time that the message is for."""
    claimed_until: float = 0.0
    """While a process sends it: when another may."""
    retry_at: float = 0.0
    """After a failure: not before."""
    failures: int = 0
    refused: str | None = None
    native: bool = False
    """Whether a service sends it, and the store only knows of it."""

    @property
    def due_in_store(self) -> float | None:
        """When a scheduler has to look at it; None: never."""
        no_work = self.native or self.refused is not None
        return None if no_work else max(self.due, self.claimed_until, self.retry_at)

    @property
    def is_leaving(self) -> bool:
        """Whether it is being sent, for the last time; a service does not report when it has sent."""
        if self.timetable.repeats:
            return False
        return self.due <= clock.now() if self.native else self.claimed_until > clock.now()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledMessage:
    """A scheduled message, as the scheduler holds it."""

    key: str
    to: str
    due: float
    """When it is sent next, seconds since the epoch."""
    message: Message[Any]
    interval: float | None
    cron: str | None
    failures: int
    """Attempts at this sending that failed."""
    refused: str | None
    """Why its channel can never carry it; None: it can, as far as is known."""
    native: bool = False
    """Whether a service sends it."""


def merged(found: ScheduledRecord | None, record: ScheduledRecord) -> ScheduledRecord:
    """The record of a key that is given again: a timetable that is the same goes on."""
    if found is None or found.refused is not None or not record.timetable.repeats:
        return record
    same = found.timetable.model_copy(update={"first": record.timetable.first}) == record.timetable
    changed = {"to": record.to, "message": record.message, "native": record.native}
    return found.model_copy(update=changed) if same else record


def load(record: ScheduledRecord) -> Message[Any]:
    """The message of a record."""
    return load_message(record.message.encode("latin-1"))


def occurrence(key: str, record: ScheduledRecord, message: Message[Any]) -> Message[Any]:
    """The message of this sending: a repeated one has ids of its own, which are the same in every attempt."""
    if not record.timetable.repeats:
        return message
    identity = hashlib.sha256(f"{key}\0{record.due!r}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
    expires_at = None if message.expires_at is None else record.due + (message.expires_at - message.created_at)
    deduplication_id = None if message.deduplication_id is None else identity
    return message.replace(id=identity, created_at=record.due, expires_at=expires_at, deduplication_id=deduplication_id)


def scheduled(key: str, record: ScheduledRecord) -> ScheduledMessage:
    """The record for people."""
    upcoming = record.timetable.next(clock.now()) if record.native else None
    return ScheduledMessage(
        key=key,
        to=record.to,
        due=upcoming or record.due,
        message=load(record),
        interval=record.timetable.interval,
        cron=record.timetable.cron,
        failures=record.failures,
        refused=record.refused,
        native=record.native,
    )


def _expiry(record: ScheduledRecord) -> float | None:
    """When the store forgets a record that no scheduler will remove."""
    if record.native:
        return None if record.timetable.repeats else record.due + _NATIVE_RETENTION_S
    return None if record.refused is None else clock.now() + _REFUSED_RETENTION_S


class ScheduledRecords(Records[ScheduledRecord]):
    """The records of a scheduler, which is woken for what they make due.

    Args:
        store: of this scheduler alone.
        wake: is called with the time that a written record is due at.
    """

    def __init__(self, store: Store, wake: Callable[[float], None]) -> None:
        super().__init__(store, ScheduledRecord)
        self._wake = wake

    async def save(self, key: str, held: Versioned[ScheduledRecord]) -> bool:
        """Write the record; False where another process changed it first."""
        due = held.value.due_in_store
        written = await self.write(key, held, due=due, expires_at=_expiry(held.value))
        if written and due is not None:
            self._wake(due)
        return written

    async def change(self, key: str, change: Callable[[ScheduledRecord | None], ScheduledRecord | None]) -> bool:
        """Write what ``change`` makes of the record, or of None; False where that is None."""
        conflicts = 0
        while True:
            held = await self.read(key)
            record = change(None if held is None else held.value)
            if record is None:
                return False
            if await self.save(key, Versioned(record) if held is None else Versioned(record, held.version)):
                return True
            conflicts = await after_conflict(conflicts, f"scheduled message {key!r}")

    async def remove(self, key: str, held: Versioned[ScheduledRecord]) -> bool:
        """Remove the record; False where another process changed it first."""
        return await self._store.delete(key, version=held.version)
