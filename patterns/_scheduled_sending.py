"""The sending of scheduled messages that are due: each is claimed, sent, and noted as sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakValueDictionary

from eip import clock
from eip._logging import get_logger
from eip.channels import Sender
from eip.errors import InvalidMessage, error_text
from eip.message import Message
from eip.patterns._background import retry_delay
from eip.patterns._records import Versioned, after_conflict
from eip.patterns._scheduled_records import ScheduledRecord, ScheduledRecords, load, occurrence
from eip.stores.base import LAST_TIME

__all__ = ["ScheduledSending"]

_log = get_logger("eip.message_scheduler")

_CLAIM_S: Final = 60.0
"""Seconds after which another process takes over what one was sending."""
_SEND_S: Final = 45.0
"""Seconds that a send may take, well within its claim."""


class ScheduledSending:
    """Sends what is due, in the order of time within a group; of all processes one sends a message.

    Args:
        records: of the scheduler.
        channel: returns a channel by its name.
        dead_letters: takes messages that their channel can never carry; None: they are kept, as refused.
    """

    def __init__(
        self, records: ScheduledRecords, channel: Callable[[str], Sender], dead_letters: Sender | None
    ) -> None:
        self._records, self._channel, self._dead_letters = records, channel, dead_letters
        self._groups: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._last_read = asyncio.Event()
        self._last_read.set()
        self.sent = 0
        """Messages that this process sent."""
        self.refused = 0
        """Messages that their channel can never carry."""

    async def work(self, key: str) -> None:
        """Send the message of a key, if it is due and no other process sends it."""
        held = await self._read_in_turn(key)
        if held is None or (held.value.due_in_store or LAST_TIME) > clock.now():
            return
        channel, message = self._channel(held.value.to), load(held.value)
        if message.group_id is None:
            await self._send_one(key, held, channel, message)
            return
        lock = self._groups.setdefault((held.value.to, message.group_id), asyncio.Lock())
        async with lock:
            await self._send_one(key, held, channel, message)

    async def _read_in_turn(self, key: str) -> Versioned[ScheduledRecord] | None:
        """The record. Those that begin earlier end earlier, so that a group's lock is taken in the order of time."""
        previous, self._last_read = self._last_read, asyncio.Event()
        mine = self._last_read
        try:
            held = await self._records.read(key)
            await previous.wait()
            return held
        finally:
            mine.set()

    async def _send_one(
        self, key: str, held: Versioned[ScheduledRecord], channel: Sender, message: Message[Any]
    ) -> None:
        """Claim, send, note: the condition on the version lets one process do it."""
        held.value.claimed_until = clock.now() + _CLAIM_S
        if not await self._records.save(key, held):
            return
        try:
            async with asyncio.timeout(_SEND_S):
                await channel.send(occurrence(key, held.value, message))
        except InvalidMessage as error:
            await self._refuse(key, held, message, error)
        except Exception as error:  # noqa: BLE001 - whatever a driver raises, it is tried again
            await self._put_off(key, held, error)
        else:
            self.sent += 1
            await self._go_on(key, held)

    async def _go_on(self, key: str, held: Versioned[ScheduledRecord]) -> None:
        """Note that it was sent. What `send` or `move` put in its place meanwhile stands: it has not the claim."""
        sent, conflicts, found = (held.value.due, held.value.claimed_until), 0, held
        while (found.value.due, found.value.claimed_until) == sent:
            record = found.value
            upcoming = record.timetable.next(max(clock.now(), record.due)) if record.timetable.repeats else None
            if upcoming is None:
                if await self._records.remove(key, found):
                    return
            else:
                record.due, record.claimed_until, record.retry_at, record.failures = upcoming, 0.0, 0.0, 0
                if await self._records.save(key, found):
                    return
            conflicts = await after_conflict(conflicts, f"scheduled message {key!r}")
            again = await self._records.read(key)
            if again is None:
                return
            found = again

    async def _put_off(self, key: str, held: Versioned[ScheduledRecord], error: Exception) -> None:
        record = held.value
        record.failures += 1
        wait = retry_delay(error, record.failures)
        record.claimed_until, record.retry_at = 0.0, clock.now() + wait
        _log.warning(
            "scheduled_send_failed",
            key=key,
            to=record.to,
            error=error_text(error),
            failures=record.failures,
            retry_in=wait,
        )
        await self._records.save(key, held)

    async def _refuse(
        self, key: str, held: Versioned[ScheduledRecord], message: Message[Any], error: InvalidMessage
    ) -> None:
        """Set aside what no attempt will carry; a repeated one goes on with its next time."""
        self.refused += 1
        record, reason = held.value, error_text(error)
        _log.error("scheduled_message_refused", key=key, to=record.to, error=reason)
        if self._dead_letters is not None:
            try:
                async with asyncio.timeout(_SEND_S):
                    await self._dead_letters.send(occurrence(key, record, message))
            except Exception as failure:  # noqa: BLE001 - the message stays
                await self._put_off(key, held, failure)
                return
            await self._go_on(key, held)
        elif record.timetable.repeats:
            await self._go_on(key, held)
        else:
            record.refused, record.claimed_until = reason, 0.0
            await self._records.save(key, held)
