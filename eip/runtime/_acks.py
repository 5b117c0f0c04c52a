"""Gathers acknowledgements into calls: as many as one call takes, or what is there after 50 ms."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.channels import Delivery, Receiver, Unsettled
from eip.errors import LeaseLost, TransportError, error_text
from eip.health import HealthTracker
from eip.retry import Backoff
from eip.runtime._leases import Leases
from eip.runtime._settings import Stats

__all__ = ["Acks", "cancelled"]

_log = get_logger("eip.consumer")
_MAX_AGE_S: Final = 0.05
"""How long an ack may wait for company."""
_MAX_CALLS: Final = 10
"""How many calls' worth of acks may be pending before handlers have to wait."""
_RETRY_BACKOFF: Final = Backoff(base=0.1, cap=5.0)


class Acks:
    """Acknowledges deliveries; what fails for the moment is tried again for as long as the lease can be kept.

    A permanent error (access denied, lease lost) ends the attempts at once: the channel delivers the message again.
    """

    def __init__(
        self, receiver: Receiver, leases: Leases, stats: Stats, health: HealthTracker, tasks: asyncio.TaskGroup
    ) -> None:
        self._receiver, self._leases, self._stats, self._health = receiver, leases, stats, health
        self._tasks = tasks
        self._repeated = RepeatedLines(_log)
        self._single = receiver.settle_batch == 1
        self._pending: list[Delivery] = []
        self._timer: asyncio.TimerHandle | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._room = asyncio.Event()

    def ack_nowait(self, delivery: Delivery) -> bool:
        """Acknowledge the delivery where nothing has to be awaited for it; False where `ack` is to do it."""
        if not self._single:
            room = len(self._calls) < _MAX_CALLS
            if room:
                self._gather(delivery)
            return room
        if not (delivery in self._leases.held and self._receiver.ack_nowait(delivery)):
            return False
        self._leases.take(delivery)
        self._health.settled()
        return True

    async def ack(self, delivery: Delivery) -> None:
        """Acknowledge the delivery, now or with the next call; waits only where too many acks are pending."""
        if self._single:
            until = self._leases.take(delivery)
            if until is not None and (failed := await self._call((delivery,))):
                await self._retry(failed, {delivery: until})
            return
        self._gather(delivery)
        # Handlers wait here while the service does not take acks: otherwise they would pile up work whose leases end.
        while len(self._calls) >= _MAX_CALLS:
            self._room.clear()
            await self._room.wait()

    def _gather(self, delivery: Delivery) -> None:
        self._pending.append(delivery)
        if len(self._pending) >= self._receiver.settle_batch:
            self._flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_MAX_AGE_S, self._flush)

    async def aclose(self, *, limit: float) -> None:
        """Settle what is pending, in at most ``limit`` seconds."""
        self._flush()
        if self._calls:
            await asyncio.wait(self._calls, timeout=limit)
            await cancelled(self._calls)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending:
            batch, self._pending = self._pending, []
            call = self._tasks.create_task(self._settle(batch), name=f"{self._receiver.name} ack")
            self._calls.add(call)
            call.add_done_callback(self._ended)

    def _ended(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._room.set()

    async def _settle(self, batch: Sequence[Delivery]) -> None:
        # What is no longer held was lost meanwhile, and is counted already.
        until = self._leases.take_held(batch)
        if until and (failed := await self._call(list(until))):
            await self._retry(failed, until)

    async def _retry(self, failed: Sequence[Unsettled], until: dict[Delivery, float]) -> None:
        attempt = 0
        while failed:
            again: list[Delivery] = []
            for delivery, error in failed:
                if _may_succeed(error):
                    self._leases.put_back(delivery, until[delivery])  # the heartbeat keeps its lease meanwhile
                    again.append(delivery)
                else:
                    self._give_up(delivery, error)
            if again:
                self._warn(failed[0].error, len(again))
            # In a task of its own per batch: acks of other messages do not wait behind one that the service refuses.
            attempt += 1
            await asyncio.sleep(_RETRY_BACKOFF.delay(attempt))
            batch = list(self._leases.take_held(again))
            failed = await self._call(batch) if batch else ()

    async def _call(self, batch: Sequence[Delivery]) -> Sequence[Unsettled]:
        try:
            failed = await self._receiver.ack(batch)
        except Exception as error:  # noqa: BLE001 - a driver's error must not stop the consumer; it is each delivery's own
            return [Unsettled(each, error) for each in batch]
        if not failed:
            self._health.settled()
        return failed

    def _warn(self, error: Exception, count: int) -> None:
        self._repeated.warning(
            "ack_retried", channel=self._receiver.name, error=error_text(error), varying={"count": count}
        )

    def _give_up(self, delivery: Delivery, error: Exception) -> None:
        """The message stays with the channel, which delivers it again: handlers must cope with duplicates."""
        self._stats.lost += 1
        event = "lease_lost" if isinstance(error, LeaseLost) else "ack_failed"
        _log.warning(event, channel=self._receiver.name, message_id=delivery.message.id, error=error_text(error))


def _may_succeed(error: Exception) -> bool:
    """Whether to try again: yes, unless the service refused it for good; an unknown error may be a passing one."""
    return error.transient if isinstance(error, TransportError) else True


async def cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel the tasks and wait until they have ended."""
    running = list(tasks)
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)
