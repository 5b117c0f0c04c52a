"""One run of a consumer: polls, workers, message groups, and the way out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from traceback import format_exception
from typing import Any, Final, cast

import anyio

from eip._logging import get_logger
from eip.channels import Delivery, Queue, Receiver, Sender, Unsettled
from eip.errors import ConfigurationError, LeaseLost
from eip.handler import messages_of
from eip.message import Message
from eip.packing import is_pack
from eip.retry import Backoff

from .acks import Acks, cancelled
from .lanes import Lanes
from .leases import NO_MORE, Leases
from .packs import Packs, own_cancellation
from .settings import Settings, Stats
from .verdicts import DeadLetter, Later, Local, ParkGroup, judge

__all__ = ["Session", "current"]

_log = get_logger("eip.consumer")

current: ContextVar[Delivery] = ContextVar("eip_current_delivery")
"""The delivery that the running handler was called for."""

_WAIT: Final = 20.0
"""Seconds of a long poll, SQS's longest."""
_POLL_AGAIN: Final = Backoff(cap=30.0)
_MOST_POLLS: Final = 32
_MOST_PARKED: Final = 100_000
_FLUSH: Final = 5.0
"""Seconds that settling is given at the end, where the grace is shorter."""
_TURN: Final = 64
"""Messages a worker handles before it lets others have the loop, where its handler never waits."""


class _Worker:
    """A task that handles one delivery after another."""

    __slots__ = ("delivery", "stopped_for", "task")

    def __init__(self) -> None:
        self.task: asyncio.Task[None]
        self.delivery: Delivery | None = None
        """What its handler is busy with; None while the worker may not be interrupted."""
        self.stopped_for: Exception | None = None
        """Why its handler was cancelled from outside."""

    def interrupt(self, reason: Exception) -> None:
        """Cancel the handler, not the worker."""
        self.delivery = None
        self.stopped_for = reason
        self.task.cancel()


class _Draining(Exception):
    """The handler was cancelled because the consumer's grace is over."""


class Session:
    """Runs a consumer's handler over one receiver until `stop`.

    The synchronous methods change the state in one step; every await stands between two consistent states. A slot is
    taken by each delivery that is being handled or ready for it, and by each that a poll has asked for; deliveries
    behind the head of their group, and heads that wait for their next attempt, wait without one in bounded number.
    """

    def __init__(self, settings: Settings, receiver: Receiver, stats: Stats, *, channel: Queue | None = None) -> None:
        self._settings, self._receiver, self._stats = settings, receiver, stats
        self._ready: deque[Delivery] = deque()
        self._lanes = Lanes()
        self._most_waiting = max(settings.concurrency, receiver.max_batch)
        self._asked_for = 0
        self._attempts: dict[Delivery, int] = {}
        self._sleeping: dict[Delivery, asyncio.TimerHandle] = {}
        self.parked: set[str] = set()
        """Message groups whose messages go to the dead-letter channel."""
        self._workers: set[_Worker] = set()
        self._idle: list[asyncio.Future[None]] = []
        self._waking = False
        self._polls: set[asyncio.Task[None]] = set()
        self._slot_free = asyncio.Event()
        self._stop = asyncio.Event()
        self._stopping = False
        self._leases = Leases(receiver, settings.max_processing, on_lost=self._lost_one, on_overdue=self._overdue)
        self._held = self._leases.held
        self._tasks = asyncio.TaskGroup()
        self._packs = Packs(settings, stats, self._process, channel)
        self._acks = Acks(receiver, self._held, stats, self._tasks)
        receiver.on_lost = self._lost

    def stop(self) -> None:
        """Ask `run` to drain and return."""
        self._stop.set()

    async def run(self) -> None:
        """Consume until `stop`, then drain; cancelled, it drains with no grace."""
        async with self._tasks as tasks:
            heart = tasks.create_task(self._leases.keep(), name=f"{self._settings.name} leases")
            self._add_poll()
            grace = 0.0
            try:
                await self._stop.wait()
                grace = self._settings.grace
            finally:
                with anyio.CancelScope(shield=True):
                    await self._drain(grace)
                    heart.cancel()

    # Polling: as many polls as are answered in full, one when idle.

    def _free(self) -> int:
        startable = self._settings.concurrency - self._stats.in_flight - self._asked_for
        return min(startable, self._most_waiting - self._lanes.waiting - len(self._sleeping))

    def _add_poll(self) -> None:
        self._polls.add(self._tasks.create_task(self._poll(), name=f"{self._settings.name} poll"))

    async def _poll(self) -> None:
        receiver, failures = self._receiver, 0
        while not self._stopping:
            limit = min(self._free(), receiver.max_batch)
            if limit <= 0:
                self._slot_free.clear()
                await self._slot_free.wait()
                continue
            self._asked_for += limit
            try:
                deliveries = await receiver.receive(limit, wait=_WAIT)
                failures = 0
            except Exception as error:  # noqa: BLE001 - a service that fails must not end the consumer
                failures += 1
                delay = _POLL_AGAIN.delay(failures)
                _log.warning("receive_failed", channel=receiver.name, error=str(error), again_in=round(delay, 1))
                deliveries = ()
                await asyncio.sleep(delay)
            finally:
                self._asked_for -= limit
                self._slot_free.set()
            self._admit(deliveries)
            self._wake()
            if len(deliveries) < limit and len(self._polls) > 1:
                break
            if len(deliveries) == receiver.max_batch and self._free() > 0 and len(self._polls) < _MOST_POLLS:
                self._add_poll()
        self._polls.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    def _admit(self, deliveries: Sequence[Delivery]) -> None:
        """Take the deliveries in: heads of groups and ungrouped ones are ready, the others wait for their turn."""
        held, ready, ordered = self._held, self._ready, self._receiver.ordered
        until = asyncio.get_running_loop().time() + self._settings.max_processing
        before = len(ready)
        for delivery in deliveries:
            held[delivery] = until
            group = delivery.message.group_id if ordered else None
            if group is None or self._lanes.enter(group, delivery):
                ready.append(delivery)
        self._stats.received += len(deliveries)
        self._stats.in_flight += len(ready) - before

    # Workers: made on demand, woken one by one, each waking the next while there is work.

    def _wake(self) -> None:
        if self._waking or not self._ready:
            return
        if self._idle:
            self._waking = True
            self._idle.pop().set_result(None)
        elif len(self._workers) < self._settings.concurrency and not self._stopping:
            self._waking = True
            worker = _Worker()
            self._workers.add(worker)
            worker.task = self._tasks.create_task(self._work(worker), name=f"{self._settings.name} worker")

    async def _work(self, worker: _Worker) -> None:
        try:
            self._waking = False
            turn = 0
            while (delivery := self._take()) or not self._stopping:
                if delivery is None:
                    await self._idle_until_woken()
                    turn = 0
                    continue
                if self._ready and not self._waking:
                    self._wake()
                await self._handle(worker, delivery)
                turn += 1
                if turn == _TURN:
                    turn = 0
                    await asyncio.sleep(0)
        finally:
            self._workers.discard(worker)

    def _take(self) -> Delivery | None:
        """The next delivery to handle: a ready one, or one that the receiver has at hand."""
        ready = self._ready
        if not ready and not self._stopping and (free := self._free()) > 0:
            receiver = self._receiver
            if deliveries := receiver.receive_nowait(min(free, receiver.max_batch)):
                self._admit(deliveries)
        return ready.popleft() if ready else None

    async def _idle_until_woken(self) -> None:
        self._slot_free.set()
        woken = asyncio.get_running_loop().create_future()
        self._idle.append(woken)
        try:
            await woken
        finally:
            self._waking = False

    async def _handle(self, worker: _Worker, delivery: Delivery) -> None:
        """One delivery from its handler to its settlement; raises only cancellation of the consumer itself."""
        message = delivery.message
        if delivery not in self._held:
            self._abandon(delivery)
            return
        unusual = delivery.error is not None or message.expires_at is not None or self.parked
        if unusual and await self._turned_away(delivery):
            return
        worker.delivery = delivery
        failure: Exception | None = None
        try:
            current.set(delivery)
            if is_pack(message):
                await self._packs.handle(delivery)
            else:
                await self._process(message)
        except asyncio.CancelledError as error:
            if worker.stopped_for is None and worker.task.cancelling():
                raise
            failure = worker.stopped_for or own_cancellation(error)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is judged, never propagated
            failure = error
        worker.delivery = None
        if (interrupted := worker.stopped_for) is not None:
            worker.stopped_for = None
            worker.task.uncancel()
            if isinstance(interrupted, LeaseLost):  # even where the handler finished in spite of it
                failure = interrupted
        if failure is not None:
            await self._failed(delivery, failure)
        else:
            await self._succeeded(delivery)

    async def _succeeded(self, delivery: Delivery) -> None:
        self._stats.handled += 1
        if self._attempts:
            self._attempts.pop(delivery, None)
        await self._acks.ack(delivery)
        self._finish(delivery)

    async def _turned_away(self, delivery: Delivery) -> bool:
        """Whether the delivery was settled without its handler: undecodable, expired, or of a parked group."""
        message = delivery.message
        if delivery.error is not None:
            await self._failed(delivery, delivery.error)
        elif message.expired() and self._settings.on_expired != "handle":
            await self._expire(delivery)
        elif message.group_id in self.parked:
            await self._dead_letter(delivery, "its message group is parked")
        else:
            return False
        return True

    async def _process(self, message: Message[Any]) -> None:
        """The message's handler, and its results sent."""
        result = await self._settings.handler(message)
        if result is not None:
            await self._send(message, result)

    async def _send(self, message: Message[Any], result: object) -> None:
        """Send what the handler returned: to the return address where there is one, otherwise to the output."""
        results = messages_of(result)
        if not results:
            return
        sender = self._destination(message)
        if message.traceparent is not None:
            results = [
                each if each.traceparent is not None else each.replace(traceparent=message.traceparent)
                for each in results
            ]
        await sender.send(*results)

    def _destination(self, message: Message[Any]) -> Sender:
        settings = self._settings
        if settings.replies is not None and message.return_address is not None:
            return settings.replies.resolve(message.return_address)
        if settings.output is not None:
            return settings.output
        where = "output=... or replies=..."
        if settings.replies is not None:
            where = "output=..., as the request has no return address"
        raise ConfigurationError(f"{settings.name}: the handler returned messages with nowhere to go; give it {where}")

    def _finish(self, delivery: Delivery) -> None:
        """The slot is free; the next of the group takes it."""
        self._stats.in_flight -= 1
        group = delivery.message.group_id
        if group is None or not self._receiver.ordered:
            return
        following = self._lanes.leave(group)
        if following is not None:
            self._ready.append(following)
            self._stats.in_flight += 1

    # Failures.

    async def _failed(self, delivery: Delivery, error: Exception) -> None:
        if isinstance(error, LeaseLost) and delivery not in self._held:
            self._abandon(delivery)
            return
        if isinstance(error, _Draining):
            self._attempts.pop(delivery, None)
            await self._give_back([*self._leave_group(delivery), delivery])
            return
        message, settings = delivery.message, self._settings
        tries = self._packs.tries(delivery, self._attempts.pop(delivery, 0))
        attempt = delivery.receive_count + tries
        grouped = message.group_id is not None and self._receiver.ordered
        verdict = judge(
            delivery,
            error,
            retry=settings.retry,
            on_group_failure=settings.on_group_failure,
            grouped=grouped,
            retries_left=settings.local_retries - tries,
            attempt=attempt,
        )
        if isinstance(verdict, Local) and self._stopping:
            verdict = Later(verdict.delay)  # its other attempts are for whoever gets it next
        _log.warning(
            "handling_failed",
            channel=self._receiver.name,
            message_id=message.id,
            correlation_id=message.correlation_id,
            attempt=attempt,
            verdict=type(verdict).__name__,
            error="".join(format_exception(error)),  # not exc_info: some renderers add locals, and so bodies
        )
        match verdict:
            case DeadLetter(reason):
                await self._dead_letter(delivery, reason)
            case ParkGroup(reason):
                await self._park(delivery, reason)
            case Local(delay):
                self._attempts[delivery] = tries + 1
                self._sleep(delivery, delay)
            case Later(delay):
                await self._later(delivery, delay)

    def _sleep(self, delivery: Delivery, delay: float) -> None:
        """Try again in this process; the slot is free meanwhile."""
        self._stats.retried += 1
        self._stats.in_flight -= 1
        loop = asyncio.get_running_loop()
        self._sleeping[delivery] = loop.call_later(delay, self._awake, delivery)

    def _awake(self, delivery: Delivery) -> None:
        del self._sleeping[delivery]
        self._stats.in_flight += 1
        self._ready.append(delivery)
        self._wake()

    async def _later(self, delivery: Delivery, delay: float) -> None:
        """Back to the channel: what waits behind it first, the newest first, so that the group stays in order."""
        self._stats.retried += 1
        tail = self._leave_group(delivery)
        await self._give_back(tail)
        await self._nack([delivery], delay)

    async def _dead_letter(self, delivery: Delivery, reason: str) -> None:
        """To the dead-letter channel; where that fails it is given back, to be tried again later."""
        until = self._held.pop(delivery, None)
        if until is None:
            self._abandon(delivery)
            return
        try:
            await self._receiver.dead_letter(delivery, reason)
        except LeaseLost as error:
            self._count_lost(delivery, error)
            self._abandon(delivery)
        except Exception as error:  # noqa: BLE001 - a failed send keeps the message where it is
            _log.error(
                "dead_letter_failed", channel=self._receiver.name, message_id=delivery.message.id, error=str(error)
            )
            self._held[delivery] = until
            await self._later(delivery, self._settings.retry.delay(delivery.receive_count))
        else:
            self._stats.dead_lettered += 1
            self._packs.forget(delivery)
            self._finish(delivery)

    async def _park(self, delivery: Delivery, reason: str) -> None:
        """To the dead-letter channel, and with it what comes after it in its group."""
        group = delivery.message.group_id
        if (
            group is not None
            and group not in self.parked
            and self._receiver.ordered
            and len(self.parked) < _MOST_PARKED
        ):
            self.parked.add(group)
            _log.error("group_parked", channel=self._receiver.name, group_id=group, reason=reason)
        await self._dead_letter(delivery, reason)

    async def _expire(self, delivery: Delivery) -> None:
        self._stats.expired += 1
        if self._settings.on_expired == "dead_letter" and self._receiver.dead_letters is not None:
            await self._dead_letter(delivery, "expired before it was handled")
            return
        await self._acks.ack(delivery)
        self._finish(delivery)

    # Giving back, and leases that were lost.

    def _leave_group(self, delivery: Delivery) -> list[Delivery]:
        """Free the slot and the group of a delivery that goes back; returns what waited behind it, newest first."""
        self._stats.in_flight -= 1
        self._packs.forget(delivery)
        group = delivery.message.group_id
        if group is None or not self._receiver.ordered:
            return []
        return self._lanes.close(group)[::-1]

    def _abandon(self, delivery: Delivery) -> None:
        """The lease is gone: another consumer may have the message, so what waits behind it must not overtake."""
        self._attempts.pop(delivery, None)
        tail = self._leave_group(delivery)
        if tail:
            self._tasks.create_task(self._give_back(tail))

    async def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        if deliveries:
            self._stats.released += len(deliveries)
            await self._nack(deliveries, 0.0)

    async def _nack(self, deliveries: Iterable[Delivery], delay: float) -> None:
        """Give back what is still held; what cannot be given back comes again when its lease ends."""
        held = [each for each in deliveries if self._held.pop(each, None) is not None]
        if not held:
            return
        try:
            failed = await self._receiver.nack(held, delay=delay)
        except Exception as error:  # noqa: BLE001 - the lease ends by itself
            failed = [Unsettled(each, error) for each in held]
        for delivery, why in failed:
            self._count_lost(delivery, why)

    def _lost(self, deliveries: Sequence[Delivery]) -> None:
        """The driver took the deliveries away."""
        for delivery in deliveries:
            if self._held.pop(delivery, None) is not None:
                self._lost_one(delivery)

    def _lost_one(self, delivery: Delivery) -> None:
        error = LeaseLost(f"the lease of {delivery.message.id} has ended")
        self._count_lost(delivery, error)
        self._interrupt(delivery, error)

    def _overdue(self, delivery: Delivery) -> None:
        """Held for longer than max_processing: its handler is cancelled, which counts as a failure."""
        self._held[delivery] = NO_MORE
        error = TimeoutError(f"not handled within max_processing={self._settings.max_processing:g} s")
        if not self._interrupt(delivery, error) and delivery in self._held:
            self._tasks.create_task(self._give_back([delivery]))

    def _interrupt(self, delivery: Delivery, error: Exception) -> bool:
        for worker in self._workers:
            if worker.delivery is delivery:
                worker.interrupt(error)
                return True
        return False

    def _count_lost(self, delivery: Delivery, error: Exception) -> None:
        self._stats.lost += 1
        _log.warning("lease_lost", channel=self._receiver.name, message_id=delivery.message.id, error=str(error))

    # The way out.

    async def _drain(self, grace: float) -> None:
        """Stop polling, release what never started, let handlers finish, flush acks, release the rest."""
        self._stopping = True
        await cancelled(self._polls)
        await self._release_unstarted()
        for idle in self._idle:
            if not idle.done():
                idle.set_result(None)
        self._idle.clear()
        await self._finish_workers(grace)
        await self._acks.aclose(limit=max(grace, _FLUSH))

    async def _release_unstarted(self) -> None:
        for timer in self._sleeping.values():
            timer.cancel()
        self._stats.in_flight -= len(self._ready)
        unstarted = {*self._ready, *self._sleeping}
        for delivery in list(self._held):
            group = delivery.message.group_id
            if group is not None and self._receiver.ordered:
                unstarted.update(self._lanes.close(group))
        self._ready.clear()
        self._sleeping.clear()
        # Held in the order received: the newest goes back first, so each group's head goes last.
        await self._give_back([each for each in reversed(self._held) if each in unstarted])

    async def _finish_workers(self, grace: float) -> None:
        tasks = [worker.task for worker in self._workers]
        if tasks and grace > 0:
            await asyncio.wait(tasks, timeout=grace)
        for worker in list(self._workers):
            if worker.delivery is not None:
                worker.interrupt(_Draining())
        rest = [worker.task for worker in self._workers]
        if rest:
            await asyncio.wait(rest, timeout=_FLUSH)
            await cancelled(rest)
