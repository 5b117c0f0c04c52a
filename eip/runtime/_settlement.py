"""How deliveries end: acknowledged, tried again, dead-lettered, given back, or lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from eip._logging import get_logger
from eip.channels import Delivery, Receiver, Unsettled
from eip.errors import LeaseLost, error_text, stack_text
from eip.health import HealthTracker
from eip.runtime._acks import Acks
from eip.runtime._backlog import Backlog
from eip.runtime._failing_groups import FailingGroups
from eip.runtime._failure_log import FailureLog
from eip.runtime._leases import Leases
from eip.runtime._packs import Packs
from eip.runtime._recovery import (
    Attempt,
    Attempts,
    DeadLetter,
    DelayedRetry,
    ImmediateRetry,
    ParkGroup,
    decide,
    earlier_attempts,
    is_counted,
)
from eip.runtime._settings import Settings, Stats
from eip.runtime._workers import Draining

__all__ = ["Settlement"]

_log = get_logger("eip.consumer")
_MAX_PARKED: Final = 100_000


class Settlement:
    """Settles what was handled, or could not be; every way ends with the delivery's slot free.

    The synchronous steps change the state; awaits come after them.
    """

    def __init__(
        self,
        settings: Settings,
        receiver: Receiver,
        stats: Stats,
        *,
        backlog: Backlog,
        leases: Leases,
        acks: Acks,
        packs: Packs,
        health: HealthTracker,
        failures: FailureLog,
        attempts: Attempts,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._settings, self._receiver, self._stats = settings, receiver, stats
        self._backlog, self._leases, self._acks, self._packs = backlog, leases, acks, packs
        self._health, self._failures, self._tasks = health, failures, tasks
        self._attempts = attempts
        self.stopping = False
        """Whether further attempts are for whoever gets the message next."""
        self.parked: set[str] = set()
        """Message groups whose messages go to the dead-letter channel."""
        self.failing = FailingGroups(self.parked)

    def succeeded_nowait(self, delivery: Delivery) -> bool:
        """It was handled, and its results are sent: acknowledge it where that needs no waiting, or return False."""
        self._stats.handled += 1
        if self._attempts.made:
            self._attempts.forget(delivery.message)
        if self.failing:
            self.failing.passed(delivery.message.group_id)
        acked = self._acks.ack_nowait(delivery)
        if acked:
            self._backlog.finish(delivery)
        return acked

    async def succeeded(self, delivery: Delivery) -> None:
        """Acknowledge it by a call, or once there is room for its ack."""
        await self._acks.ack(delivery)
        self._backlog.finish(delivery)

    async def expired(self, delivery: Delivery) -> None:
        """It is past its expiry, unhandled."""
        self._stats.expired += 1
        if self._settings.on_expired == "dead_letter" and self._receiver.dead_letters is not None:
            await self.dead_letter_unhandled(delivery, "expired before it was handled")
            return
        await self._acks.ack(delivery)
        self._backlog.finish(delivery)

    # Failures.

    async def failed(self, delivery: Delivery, error: Exception) -> None:
        """Its handling failed: try it again, or not."""
        if isinstance(error, LeaseLost) and delivery not in self._leases.held:
            self.abandon(delivery)
            return
        if isinstance(error, Draining):
            await self.give_back([*self._backlog.leave(delivery), delivery])
            return
        attempt = self._attempt(delivery, error)
        settings = self._settings
        action = decide(
            delivery,
            error,
            retry=settings.retry,
            on_group_failure=settings.on_group_failure,
            grouped=self._grouped(delivery),
            local_retries=settings.local_retries - (attempt.here - 1),
            attempt=attempt.number,
            seen=attempt.seen,
        )
        if isinstance(action, ImmediateRetry) and self.stopping:
            action = DelayedRetry(action.delay)  # its other attempts are for whoever gets it next
        if isinstance(action, (DeadLetter, ParkGroup)):
            if isinstance(action, ParkGroup):
                self._park(delivery, action.reason)
            if await self._dead_letter(delivery, action.reason, stack_text(error)):
                self._failures.dead_lettered(delivery, error, attempt.number)
            return
        self._stats.retried += 1
        if delivery.message.group_id is not None and self._grouped(delivery) and is_counted(error):
            self.failing.failed(delivery.message.group_id, error, action.delay)
        self._failures.retry_scheduled(delivery, error, attempt.number, action.delay)
        if isinstance(action, ImmediateRetry):
            self._backlog.sleep(delivery, action.delay)
        else:
            await self._retry_later(delivery, action.delay)

    def _attempt(self, delivery: Delivery, error: Exception) -> Attempt:
        if (in_pack := self._packs.attempt(delivery)) is not None:
            return in_pack
        if self._grouped(delivery) and is_counted(error):
            return self._attempts.count(delivery)
        return Attempt(delivery.receive_count + earlier_attempts(delivery.message), 1)

    def _grouped(self, delivery: Delivery) -> bool:
        return delivery.message.group_id is not None and self._receiver.ordered

    async def _retry_later(self, delivery: Delivery, delay: float) -> None:
        """Back to the channel: what waits behind it first, the newest first, so that the group stays in order."""
        tail = self._leave(delivery)
        await self.give_back(tail)
        await self._nack([delivery], delay)

    async def dead_letter_unhandled(self, delivery: Delivery, reason: str) -> None:
        """To the dead-letter channel without an attempt."""
        if await self._dead_letter(delivery, reason):
            self._failures.dead_lettered_unhandled(delivery, reason)

    async def _dead_letter(self, delivery: Delivery, reason: str, stack: str | None = None) -> bool:
        """To the dead-letter channel; where that fails it is given back, to be tried again later."""
        until = self._leases.take(delivery)
        if until is None:
            self.abandon(delivery)
            return False
        try:
            await self._receiver.dead_letter(delivery, reason, stack=stack)
        except LeaseLost as error:
            self._count_lost(delivery, error)
            self.abandon(delivery)
        except Exception as error:  # noqa: BLE001 - a failed send keeps the message where it is
            self._failures.dead_letter_failed(delivery, reason, error)
            self._leases.put_back(delivery, until)
            self._stats.retried += 1
            await self._retry_later(delivery, self._settings.retry.delay(delivery.receive_count))
        else:
            self._stats.count_dead_letter(reason)
            self.failing.passed(delivery.message.group_id)
            self._packs.forget(delivery)
            self._attempts.forget(delivery.message)
            self._backlog.finish(delivery)
            return True
        return False

    def _park(self, delivery: Delivery, reason: str) -> None:
        """From now on what comes of its group goes to the dead-letter channel too."""
        group = delivery.message.group_id
        if group is not None and group not in self.parked and self._receiver.ordered and len(self.parked) < _MAX_PARKED:
            self.parked.add(group)
            self._failures.group_parked(delivery, reason)

    # Giving back, and leases that were lost.

    def _leave(self, delivery: Delivery) -> list[Delivery]:
        self._packs.forget(delivery)
        return self._backlog.leave(delivery)

    def abandon(self, delivery: Delivery) -> None:
        """The lease is gone: another consumer may have the message, so what waits behind it must not overtake."""
        tail = self._leave(delivery)
        if tail:
            self._tasks.create_task(self.give_back(tail))

    async def recover(self, delivery: Delivery) -> None:
        """Its settling was cut off by a stray cancellation: free its slot, and give it back where it is still held."""
        if self._backlog.is_started(delivery):
            await self.give_back([*self._leave(delivery), delivery])

    async def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Release what was not handled, in the order given."""
        if deliveries:
            self._stats.released += len(deliveries)
            for each in deliveries:
                if self._grouped(each):
                    self._attempts.unhandled(each)
            await self._nack(deliveries, 0.0)

    async def give_back_overdue(self, delivery: Delivery) -> None:
        """Release what no handler has, and was held for too long: asleep, or its ack could not be sent."""
        tail = self._leave(delivery) if self._backlog.wake(delivery) else []
        await self.give_back([*tail, delivery])

    async def aclose(self, *, limit: float) -> None:
        """Flush acks, in at most ``limit`` seconds."""
        await self._acks.aclose(limit=limit)

    async def _nack(self, deliveries: Iterable[Delivery], delay: float) -> None:
        """Give back what is still held; what cannot be given back comes again when its lease ends."""
        held = list(self._leases.take_held(deliveries))
        if not held:
            return
        try:
            failed = await self._receiver.nack(held, delay=delay)
        except Exception as error:  # noqa: BLE001 - the lease ends by itself
            failed = [Unsettled(each, error) for each in held]
        if not failed:
            self._health.settled()
        for delivery, why in failed:
            self._count_lost(delivery, why)

    def lost(self, delivery: Delivery) -> LeaseLost:
        """Count it; returns what its handler is interrupted for."""
        error = LeaseLost(f"the lease of {delivery.message.id} has ended")
        self._count_lost(delivery, error)
        if self._backlog.wake(delivery):
            self.abandon(delivery)
        return error

    def _count_lost(self, delivery: Delivery, error: Exception) -> None:
        self._stats.lost += 1
        _log.warning("lease_lost", channel=self._receiver.name, message_id=delivery.message.id, error=error_text(error))
