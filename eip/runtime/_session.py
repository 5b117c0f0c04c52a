"""One run of a consumer: its parts put together, one delivery from its handler to its settlement, and the way out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from dataclasses import replace
from functools import partial
from typing import Any, Final

import anyio

from eip import clock
from eip.channels import Delivery, Queue, Receiver
from eip.errors import DecodeError, LeaseLost, error_text
from eip.health import Health, HealthTracker
from eip.message import Message
from eip.packs import is_pack
from eip.runtime._acks import Acks
from eip.runtime._backlog import Backlog
from eip.runtime._failure_log import FailureLog
from eip.runtime._leases import Leases
from eip.runtime._packs import Packs
from eip.runtime._polls import Polls
from eip.runtime._processing import failure_of, process, send_results
from eip.runtime._recovery import Attempts, is_permanent
from eip.runtime._settings import Settings, Stats
from eip.runtime._settlement import Settlement
from eip.runtime._watchdog import HandlerCall, abandoned, log_stuck, watched
from eip.runtime._workers import CancelledWithin, Worker, Workers
from eip.runtime.handlers import threads

__all__ = ["FORCE_S", "Session", "current"]

current: ContextVar[Delivery] = ContextVar("eip_current_delivery")
"""The delivery that the running handler was called for."""

FORCE_S: Final = 5.0
"""Seconds at the end that cancelled handlers have to end, and settling where the grace is shorter."""


class Session:
    """Runs a consumer's handler over one receiver until `stop`."""

    def __init__(
        self,
        settings: Settings,
        receiver: Receiver,
        stats: Stats,
        health: HealthTracker,
        *,
        channel: Queue | None = None,
    ) -> None:
        self._settings, self._receiver, self._health = settings, receiver, health
        self._loop = asyncio.get_running_loop()
        self._tasks = asyncio.TaskGroup()
        self._stop = asyncio.Event()
        self._stopping = False
        self._grace = settings.grace
        self._failure: BaseException | None = None
        attempts = Attempts(1 + settings.local_retries)
        self._backlog = Backlog(
            receiver,
            settings.concurrency,
            stats,
            on_ready=self._wake,
            on_behind=attempts.behind,
            on_room=self._more_room,
        )
        self.leases = Leases(receiver, settings.max_processing, on_lost=self._lease_ended, on_overdue=self._overdue)
        self._held = self.leases.held
        self._polls = Polls(
            receiver,
            self._backlog,
            least=settings.polls,
            admit=self._arrived,
            health=health,
            tasks=self._tasks,
            name=settings.name,
        )
        self._workers = Workers(
            self._backlog,
            settings.concurrency,
            take=self._take,
            handle=self._handle,
            recover=self._recover,
            on_idle=self._more_room,
            on_failed=self._broken,
            name=settings.name,
        )
        self._handler = settings.handler
        self._expires = settings.on_expired != "handle"
        failures = FailureLog(settings)
        self._packs = Packs(
            settings,
            stats,
            partial(process, settings),
            channel,
            self._workers.is_interrupted,
            failures=failures,
            attempts=attempts,
        )
        self._settlement = Settlement(
            settings,
            receiver,
            stats,
            backlog=self._backlog,
            leases=self.leases,
            acks=Acks(receiver, self.leases, stats, health, self._tasks),
            packs=self._packs,
            health=health,
            failures=failures,
            attempts=attempts,
            tasks=self._tasks,
        )
        self.parked = self._settlement.parked
        receiver.on_lost = self._taken_away

    def stop(self, grace: float | None = None) -> None:
        """Ask `run` to drain and return.

        Args:
            grace: seconds that handlers have to finish; default: the consumer's.
        """
        if grace is not None:
            self._grace = min(grace, self._grace) if self._stop.is_set() else grace
        self._stop.set()

    async def run(self) -> None:
        """Consume until `stop`, then drain; cancelled, it drains with no grace."""
        pool = ThreadPoolExecutor(self._settings.concurrency, thread_name_prefix=self._settings.name)
        threads.set(pool)
        self._workers.open()
        try:
            with watched(self):
                async with self._tasks as tasks:
                    heart = tasks.create_task(self.leases.keep(), name=f"{self._settings.name} leases")
                    self._polls.add()
                    grace = 0.0
                    try:
                        await self._stop.wait()
                        grace = self._grace
                    finally:
                        # Shielded: a cancelled consumer gets no grace, but what it holds still goes back. Otherwise
                        # every message would be away until its lease ends, and count a receive.
                        try:
                            with anyio.CancelScope(shield=True):
                                await self._drain(grace)
                        finally:  # a second cancellation, as of a loop that ends, cuts the drain off
                            for worker in self._workers.busy():  # one may ignore this: the end of the process names it
                                abandoned[worker.task] = self._call_of(worker)
                            self._workers.cancel()
                            heart.cancel()
        finally:
            pool.shutdown(wait=False)
        if self._failure is not None:
            raise self._failure

    def health(self) -> Health:
        """Whether the channel answers and no message group is poisoned; may be called from another thread."""
        found = replace(self._health.health(), backlog_age=self._backlog_age())
        if not found.ok or (poisoned := self._settlement.failing.poisoned()) is None:
            return found
        since, reason = poisoned
        return replace(found, ok=False, failing_since=since, reason=reason)

    def _backlog_age(self) -> float | None:
        created = [each.message.created_at for each in list(self.leases.held)]
        return max(clock.now() - min(created), 0.0) if created else None

    def running(self) -> list[HandlerCall]:
        """The handlers that run now; may be called from another thread."""
        return [self._call_of(worker) for worker in self._workers.busy()]

    def _call_of(self, worker: Worker) -> HandlerCall:
        delivery, settings = worker.handling, self._settings
        if delivery is None:
            return HandlerCall(settings.name, settings.handler_name, "", 0.0, worker.task)
        seconds = self.leases.age(delivery, self._loop.time())
        return HandlerCall(settings.name, settings.handler_name, delivery.message.id, seconds, worker.task)

    @property
    def lease(self) -> float | None:
        """Seconds of the receiver's leases."""
        return self._receiver.lease

    # In.

    def _arrived(self, deliveries: Sequence[Delivery]) -> None:
        self.leases.add(deliveries)
        self._backlog.admit(deliveries)
        self._wake()

    def _wake(self) -> None:
        self._workers.wake()

    def _more_room(self) -> None:
        self._polls.more_room()

    def _take(self) -> Delivery | None:
        """The next delivery that the receiver has at hand, started; more may be ready with it."""
        backlog = self._backlog
        if not self._stopping and (free := backlog.free()) > 0:
            receiver = self._receiver
            if deliveries := receiver.receive_nowait(min(free, receiver.max_batch)):
                self.leases.add(deliveries)
                backlog.admit(deliveries)
                return backlog.start() if backlog.ready else None
        return None

    # One delivery.

    async def _handle(self, worker: Worker, delivery: Delivery) -> None:
        """One delivery from its handler to its settlement; raises only cancellation of the consumer itself."""
        # Each message pays for every coroutine here, so the usual way to an ack is one call of the handler.
        message, settlement = delivery.message, self._settlement
        unusual = delivery not in self._held or delivery.error is not None or settlement.parked
        expired = self._expires and message.expires_at is not None and message.expired()
        if (unusual or expired) and await self._turned_away(delivery):
            return
        failure: Exception | None = None
        current.set(delivery)
        context = copy_context()
        worker.interruptible = True
        try:
            if is_pack(message):
                await self._packs.handle(delivery)
            elif (result := await self._handler(message)) is not None:
                await send_results(self._settings, message, result)
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its message's failure
            failure = self._failure_of(worker, message, error)
        # From here on a lost lease does not cancel the worker: a settlement that is cut off half-way would leave the
        # group's next message waiting for ever. An interruption that came just before is looked at below instead.
        worker.interruptible = False
        if self._workers.closing:
            return  # the session has ended without it, and released its message
        if failure is not None or worker.stopped_for is not None or worker.task.cancelling():
            reason, worker.stopped_for = worker.stopped_for, None
            failure = reason if isinstance(reason, LeaseLost) else failure
            # Settled in a new task: what has cancelled this one may do so again, at each await.
            worker.leave(partial(self._settle, delivery, failure))
            return
        try:
            worker.spoilt = copy_context() != context  # `has_changed`, without its call
        except Exception:  # noqa: BLE001 - values that cannot be compared
            worker.spoilt = True
        if not settlement.succeeded_nowait(delivery):
            await settlement.succeeded(delivery)

    async def _settle(self, delivery: Delivery, failure: Exception | None) -> None:
        if failure is not None:
            delivery.message = delivery.message.undecoded()  # the handler may have changed the body before it failed
            await self._settlement.failed(delivery, failure)
        elif not self._settlement.succeeded_nowait(delivery):
            await self._settlement.succeeded(delivery)

    def _failure_of(self, worker: Worker, message: Message[Any], error: BaseException) -> Exception:
        """Why handling failed; raises what ends the worker or the process instead."""
        if isinstance(error, asyncio.CancelledError):
            if worker.stopped_for is None and self._workers.closing:
                raise error
            return worker.stopped_for or CancelledWithin().with_traceback(error.__traceback__)
        return error if isinstance(error, Exception) else failure_of(self._settings, message, error)

    async def _turned_away(self, delivery: Delivery) -> bool:
        """Whether the delivery ends without its handler: lost, undecodable, expired, or of a parked group."""
        message, settlement = delivery.message, self._settlement
        if delivery not in self._held:
            settlement.abandon(delivery)
        elif delivery.error is not None:
            await settlement.failed(delivery, _unreadable(delivery.error))
        elif self._expires and message.expired():
            await settlement.expired(delivery)
        elif message.group_id in settlement.parked:
            await settlement.dead_letter_unhandled(delivery, "its message group is parked")
        else:
            return False
        return True

    async def _recover(self, delivery: Delivery) -> None:
        await self._settlement.recover(delivery)

    # Leases that end.

    def _taken_away(self, deliveries: Sequence[Delivery]) -> None:
        """The driver took the deliveries away."""
        for delivery in deliveries:
            if self.leases.take(delivery) is not None:
                self._lease_ended(delivery)

    def _lease_ended(self, delivery: Delivery) -> None:
        self._workers.interrupt(delivery, self._settlement.lost(delivery))

    def _overdue(self, delivery: Delivery) -> None:
        """Held for longer than max_processing: its handler is cancelled, which counts as a failure."""
        # Its lease is not renewed any more, but it stays held until that ends: a handler that ignores its cancellation
        # may be at work, and giving the message back now would let another consumer run it at the same time.
        self.leases.let_go(delivery)
        error = TimeoutError(f"not handled within max_processing={self._settings.max_processing:g} s")
        if not self._workers.interrupt(delivery, error) and delivery in self.leases.held:
            self._tasks.create_task(self._settlement.give_back_overdue(delivery))

    def _broken(self, error: BaseException) -> None:
        """A worker ended by an error: a fault of this library's, or what ends the process."""
        self._failure = self._failure or error
        self._stop.set()

    # The way out.

    async def _drain(self, grace: float) -> None:
        """Stop polling, release what never started, let handlers finish, flush acks, release the rest."""
        self._stopping = self._settlement.stopping = True
        await self._polls.aclose()
        unstarted = self._backlog.unstarted(list(self.leases.held))
        # Held in the order received: the newest goes back first, so each group's head goes last.
        await self._settlement.give_back([each for each in reversed(list(self.leases.held)) if each in unstarted])
        for worker in await self._workers.drain(grace, force=FORCE_S):
            await self._abandon(worker)
        await self._settlement.aclose(limit=max(grace, FORCE_S))

    async def _abandon(self, worker: Worker) -> None:
        """Release the message of a worker; its handler is left behind where it ignores even its second cancellation."""
        if not worker.task.done():
            call = abandoned[worker.task] = self._call_of(worker)
            log_stuck(call)
        if worker.handling is not None:
            await self._settlement.recover(worker.handling)


def _unreadable(error: Exception) -> Exception:
    """A message that cannot be read is permanent, whatever reading it raised."""
    return error if is_permanent(error) else DecodeError(error_text(error))
