"""Message scheduler: sends a message at its time, however far away, once or again and again.

    scheduler = MessageScheduler(store, {"invoices": aws.queue("invoices.fifo")})
    key = await scheduler.send(reminder, to="invoices", delay=timedelta(days=30))
    await scheduler.cancel(key)
    await scheduler.send(Message("close the books"), to="invoices", cron="0 3 1 * *", key="monthly")
    await run(scheduler)

What is scheduled is in a store: it outlives its process, and of all processes that run a scheduler on the store one
sends it. Delivery is at-least-once: a scheduler that dies between sending and noting so leaves the message to another,
which sends it with the same ids, so that FIFO channels and idempotent receivers know it.

A service can do it in place of a scheduler that runs: ``native=True``. With ``schedules`` (EventBridge Scheduler) at
any time, with a key; without, as the queue's own delay (SQS: 15 minutes; ActiveMQ: ten years), which nobody can cancel.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from eip import clock
from eip._checks import check_message, check_type
from eip._ids import new_id
from eip._tracing import with_current_trace
from eip.channels import Queue, Sender
from eip.channels.schedules import Schedules
from eip.clock import Duration
from eip.envelope import dump_message
from eip.errors import ConfigurationError, InvalidMessage
from eip.message import Message
from eip.patterns._records import after_conflict, unless_unreadable
from eip.patterns._scheduled_records import ScheduledMessage, ScheduledRecord, ScheduledRecords, load, merged, scheduled
from eip.patterns._scheduled_sending import ScheduledSending
from eip.patterns._scheduler import ScheduledService
from eip.patterns._timetable import Timetable, timetable_of
from eip.stores.base import LAST_TIME, Store

__all__ = ["MessageScheduler", "ScheduledMessage"]


class MessageScheduler(ScheduledService):
    """Sends messages at their time; a service (`run`, `stop`).

    Messages of one group that are due are sent in the order of their times, by each process; a failing one does not
    keep the others waiting. What was due while no scheduler ran is sent once as soon as one does, and a repeated
    message goes on with its next time. Without ``run`` nothing is sent until another process of the same store runs
    one. A clock that is set is followed within five seconds.

    Args:
        store: of this scheduler alone.
        channels: by the name that `send` is given, where messages go.
        dead_letters: takes messages that their channel can never carry; default: they are kept for 14 days
            (`ScheduledMessage.refused`), so that `move` can try them again.
        schedules: of a service, for messages that are sent with ``native=True``: `AwsTransport.schedules`.
        concurrency: messages sent at once.
        grace: seconds (or timedelta) for what is being sent when it is stopped; after that it is cancelled, and sent
            again later.

    Raises:
        ConfigurationError: no channels, or an invalid option.
    """

    def __init__(
        self,
        store: Store,
        channels: Mapping[str, Sender],
        *,
        dead_letters: Sender | None = None,
        schedules: Schedules | None = None,
        concurrency: int = 100,
        grace: Duration = 20.0,
    ) -> None:
        super().__init__(store, self._work, name="message_scheduler", concurrency=concurrency, grace=grace)
        if not channels:
            raise ConfigurationError("channels must not be empty")
        self._channels = {
            name: check_type(f"channels[{name!r}]", each, Sender, "a sender") for name, each in channels.items()
        }
        self._schedules = check_type("schedules", schedules, Schedules, "schedules of a service", optional=True)
        check_type("dead_letters", dead_letters, Sender, "a sender", optional=True)
        self._records = ScheduledRecords(store, self._scheduler.wake)
        self._sending = ScheduledSending(self._records, self._channel, dead_letters)

    async def _work(self, key: str) -> None:
        await self._sending.work(key)

    @property
    def sent(self) -> int:
        """Messages that this process sent."""
        return self._sending.sent

    @property
    def refused(self) -> int:
        """Messages that their channel can never carry, and which this process refused."""
        return self._sending.refused

    async def send(
        self,
        message: Message[Any],
        *,
        to: str,
        at: datetime | float | None = None,
        delay: Duration | None = None,
        interval: Duration | None = None,
        cron: str | None = None,
        timezone: str = "UTC",
        key: str | None = None,
        native: bool = False,
    ) -> str:
        """Schedule a message; exactly one of at, delay, interval and cron says when it is sent.

        Each sending of a repeated message has an id of its own, the same in every attempt.

        Args:
            message: as it is to be sent; one that expires is refused where it would be sent later than that.
            to: the name of a channel.
            at: a datetime with a time zone, or seconds since the epoch; a past one is due at once.
            delay: seconds (or timedelta) from now.
            interval: seconds (or timedelta) between sendings, at least 1; the first is one interval from now.
            cron: five fields (minute, hour, day, month, weekday), in that time zone. Where clocks change, a job of
                a fixed time runs once. Needs the extra ``cron``.
            timezone: of ``cron``, a name of the tz database.
            key: names the scheduled message: `send` with the same key replaces message and timetable, so that every
                process may declare its jobs at its start. A timetable that is the same keeps its next time. Default:
                a new one.
            native: have the service send it, which needs no scheduler that runs: with ``schedules`` under the key,
                and by them; otherwise by the queue's own delay, once and without a key. Its failures are the service's
                to handle, and `pending` does not list it.

        Returns:
            The key, for `cancel`, `move` and `get`.

        Raises:
            TypeError: a parameter of another type.
            ConfigurationError: no such channel, or invalid times.
            InvalidMessage: the message cannot be stored, or expires before it is due.
            StoreError: the store failed.
        """
        check_message(message)
        self._channel(to)
        timetable = timetable_of(at=at, delay=delay, interval=interval, cron=cron, zone=timezone)
        if not timetable.repeats and message.expires_at is not None and message.expires_at <= timetable.first:
            raise InvalidMessage(f"message must not expire before it is sent: expires_at={message.expires_at!r}")
        if check_type("native", native, bool, "a bool") and self._schedules is None:
            return await self._delay(message, to, timetable, key)
        key = new_id() if key is None else check_type("key", key, str, "a str")
        if not timetable.repeats:  # a message that is sent for ever belongs to no single trace
            message = with_current_trace(message)
        record = ScheduledRecord(
            to=to,
            message=dump_message(message).decode("latin-1"),
            timetable=timetable,
            due=timetable.first,
            native=native,
        )
        before = await self._records.read(key)
        await self._records.change(key, lambda found: merged(found, record))
        if native:
            await self._put(key)
        elif before is not None and before.value.native:
            await self._native(key).remove(key)
        return key

    async def _delay(self, message: Message[Any], to: str, timetable: Timetable, key: str | None) -> str:
        """Send the message with the queue's own delay."""
        queue, delay = self._channel(to), timetable.first - clock.now()
        if not isinstance(queue, Queue) or timetable.repeats or key is not None:
            raise ConfigurationError(
                f"native without schedules is a queue's delay, once and without a key, got to={to!r} and key={key!r}; "
                "give the scheduler schedules, or leave native out"
            )
        most = queue.limits.max_delay
        if most is not None and delay > most:
            raise ConfigurationError(f"{to} delays a message by {most:g} s at most, got {delay:g} s; leave native out")
        await queue.send(message, delay=max(delay, 0.0))
        return new_id()

    async def _put(self, key: str) -> None:
        """Hand the record to the service. Where that fails, the record is removed: nothing would send it."""
        held = await self._records.read(key)
        if held is None or not held.value.native:  # cancelled or replaced meanwhile
            return
        record, timetable = held.value, held.value.timetable
        try:
            await self._native(key).put(
                key,
                load(record),
                self._channel(record.to),
                first=timetable.first,
                interval=timetable.interval,
                cron=timetable.cron,
                timezone=timetable.zone,
            )
        except BaseException:
            await self._forget(key)
            raise

    async def _forget(self, key: str) -> None:
        held = await self._records.read(key)
        if held is not None and held.value.native:
            await self._records.remove(key, held)

    def _native(self, key: str) -> Schedules:
        if self._schedules is None:
            raise ConfigurationError(f"scheduled message {key!r} is a service's: give the scheduler its schedules")
        return self._schedules

    async def cancel(self, key: str) -> bool:
        """Cancel a scheduled message.

        Returns:
            False where it was sent or cancelled before, or is being sent at this moment.

        Raises:
            StoreError: the store failed.
        """
        conflicts = 0
        while (held := await self._records.read(key)) is not None:
            if held.value.is_leaving:
                return False
            if held.value.native:
                removed = await self._native(key).remove(key)
                await self._forget(key)
                return removed
            if await self._records.remove(key, held):
                return True
            conflicts = await after_conflict(conflicts, f"scheduled message {key!r}")
        return False

    async def move(
        self,
        key: str,
        *,
        at: datetime | float | None = None,
        delay: Duration | None = None,
        interval: Duration | None = None,
        cron: str | None = None,
        timezone: str = "UTC",
    ) -> bool:
        """Send it at another time instead; a refused message is tried again then.

        Args:
            key: of `send`.
            at: as in `send`; exactly one of at, delay, interval and cron is needed.
            delay: as in `send`.
            interval: as in `send`.
            cron: as in `send`.
            timezone: as in `send`.

        Returns:
            False where it was sent or cancelled before, or is being sent at this moment.

        Raises:
            TypeError: a parameter of another type.
            ConfigurationError: invalid times.
            StoreError: the store failed.
        """
        timetable = timetable_of(at=at, delay=delay, interval=interval, cron=cron, zone=timezone)

        def moved(found: ScheduledRecord | None) -> ScheduledRecord | None:
            if found is None or found.is_leaving:
                return None
            return ScheduledRecord(
                to=found.to, message=found.message, timetable=timetable, due=timetable.first, native=found.native
            )

        changed = await self._records.change(key, moved)
        if changed:
            await self._put(key)
        return changed

    async def get(self, key: str) -> ScheduledMessage | None:
        """The scheduled message of a key, or None; raises `StoreError` where the store fails."""
        held = await self._records.read(key)
        return None if held is None else scheduled(key, held.value)

    async def pending(self, *, limit: int = 100) -> list[ScheduledMessage]:
        """The scheduled messages, the next one first.

        Args:
            limit: how many at most.

        Raises:
            StoreError: the store failed.
        """
        found: list[ScheduledMessage] = []
        for key in await self._store.due(LAST_TIME, limit=limit):
            each = await unless_unreadable(self.get(key))
            if each is not None:
                found.append(each)
        return sorted(found, key=lambda each: each.due)

    def _channel(self, name: str) -> Sender:
        try:
            return self._channels[name]
        except (KeyError, TypeError):
            known = ", ".join(map(repr, self._channels))
            raise ConfigurationError(f"to must name one of the channels {known}, got {name!r}") from None
