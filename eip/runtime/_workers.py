"""The tasks that handle deliveries: made on demand, woken one by one, each waking the next while there is work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Final

from eip._logging import get_logger
from eip.channels import Delivery
from eip.runtime._backlog import Backlog

__all__ = ["CancelledWithin", "Draining", "Worker", "Workers", "absorbed", "has_changed"]

_log = get_logger("eip.consumer")

_TURN: Final = 64
"""Messages a worker handles before it lets others have the loop, where its handler never waits."""


class Draining(Exception):
    """The handler was cancelled because the consumer's grace is over."""


class CancelledWithin(RuntimeError):
    """The handler was cancelled by code of its own: nobody has stopped it.

    Its task is not used any more. A timeout that was entered and never left, as in an async generator that nobody
    closed, cancels it again and again.
    """

    def __init__(self) -> None:
        super().__init__("the handler was cancelled from within")


class Worker:
    """Handles one delivery after another, in a task that is used again until a handler spoils it."""

    __slots__ = ("handling", "interruptible", "rest", "spoilt", "stopped_for", "task")

    def __init__(self) -> None:
        self.task: asyncio.Task[None]
        self.handling: Delivery | None = None
        """What its handler is busy with, or was last."""
        self.interruptible = False
        """Whether its handler runs, so that it may be cancelled."""
        self.stopped_for: Exception | None = None
        """Why its handler was cancelled from outside."""
        self.spoilt = False
        """Whether the next delivery needs a new task."""
        self.rest: Callable[[], Awaitable[None]] | None = None
        """What a new task has to do first, as this one may not be able to."""

    def leave(self, rest: Callable[[], Awaitable[None]] | None = None) -> None:
        """Go on in a new task: a handler has left something behind in this one."""
        self.spoilt, self.rest = True, rest

    def interrupt(self, reason: Exception) -> None:
        """Cancel the handler, not the worker."""
        self.interruptible = False
        self.stopped_for = reason
        self.task.cancel()


class Workers:
    """The workers of one session, and the one owner of their tasks.

    They are not in a task group: a handler that ignores its cancellation must not hold up the end of the session. Such
    a worker is left by `drain`, and a line names it.

    Args:
        backlog: what they work off.
        concurrency: most workers.
        take: called where nothing is ready; the next delivery, started, if the receiver has one at hand.
        handle: handles and settles one; raises only cancellation.
        recover: called with a delivery that is unsettled as the worker's task was cancelled from within.
        on_idle: called when a worker has nothing to do.
        on_failed: called with what ended a worker: a fault of this library, or what ends the process.
        name: for tasks.
    """

    def __init__(
        self,
        backlog: Backlog,
        concurrency: int,
        *,
        take: Callable[[], Delivery | None],
        handle: Callable[[Worker, Delivery], Awaitable[None]],
        recover: Callable[[Delivery], Awaitable[None]],
        on_idle: Callable[[], None],
        on_failed: Callable[[BaseException], None],
        name: str,
    ) -> None:
        self._backlog, self._concurrency, self._name = backlog, concurrency, name
        self._take, self._handle, self._recover = take, handle, recover
        self._on_idle, self._on_failed = on_idle, on_failed
        self._workers: set[Worker] = set()
        self._idle: list[asyncio.Future[None]] = []
        self._waking = False
        self._stopping = False
        self._context = copy_context()
        self.closing = False
        """Whether what cancels a worker now is the session itself."""

    def open(self) -> None:
        """Let workers start in the context of the caller, whoever wakes them."""
        self._context = copy_context()

    def wake(self) -> None:
        """Let a worker look for work, where there is some."""
        if self._waking or not self._backlog.ready:
            return
        if self._idle:
            self._waking = True
            self._idle.pop().set_result(None)
        elif len(self._workers) < self._concurrency and not self._stopping:
            self._waking = True
            worker = Worker()
            self._workers.add(worker)
            self._begin(worker)

    def _begin(self, worker: Worker) -> None:
        """Start the worker's task: its first, or another in the place of one that a handler has spoilt."""
        worker.task = asyncio.create_task(self._work(worker), name=f"{self._name} worker", context=self._context.copy())
        worker.task.add_done_callback(self._ended_with)

    def interrupt(self, delivery: Delivery, reason: Exception) -> bool:
        """Cancel the handler of the delivery; whether it was running."""
        worker = self.of(delivery)
        if worker is None or not worker.interruptible:
            return False
        worker.interrupt(reason)
        return True

    def is_interrupted(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether the worker of that task was cancelled from outside its handler."""
        return self.closing or any(each.task is task and each.stopped_for is not None for each in self._workers)

    def of(self, delivery: Delivery) -> Worker | None:
        """The worker that has the delivery."""
        return next((each for each in self._workers if each.handling is delivery), None)

    def busy(self) -> list[Worker]:
        """Those in a handler, or in the settling that follows it; may be asked for from another thread."""
        return [each for each in self._workers.copy() if each.handling is not None]

    async def drain(self, grace: float, *, force: float) -> list[Worker]:
        """Let handlers finish for ``grace`` seconds, then cancel them, twice, and leave those that ignore even that.

        Args:
            grace: seconds.
            force: seconds that cancelled handlers have to end.

        Returns:
            The workers that the first cancellation did not end: their messages are not settled, and some still run.
        """
        self._stopping = True
        for idle in self._idle:
            if not idle.done():
                idle.set_result(None)
        self._idle.clear()
        await self._ended(grace)
        for worker in self._workers.copy():
            if worker.interruptible:
                worker.interrupt(Draining())
        await self._ended(force)
        left = list(self._workers)
        self.cancel()
        await self._ended(min(force, 1.0))
        return left

    def cancel(self) -> None:
        """Cancel what is left, handlers and idle workers alike."""
        self.closing = True
        for worker in self._workers:
            worker.task.cancel()

    def _ended_with(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failed(error)

    async def _ended(self, seconds: float) -> None:
        time = asyncio.get_running_loop().time
        until = time() + seconds
        while (left := until - time()) > 0 and (tasks := [worker.task for worker in self._workers]):
            await asyncio.wait(tasks, timeout=left)

    async def _work(self, worker: Worker) -> None:
        """The worker's task, until there is nothing more to do, or a handler has spoilt it."""
        try:
            self._waking = worker.spoilt = False
            if worker.rest is not None:
                rest, worker.rest = worker.rest, None
                await rest()
            await self._take_turns(worker)
        finally:
            if worker.spoilt and not self.closing:
                self._begin(worker)
            else:
                self._workers.discard(worker)

    async def _take_turns(self, worker: Worker) -> None:
        backlog, ready, turn = self._backlog, self._backlog.ready, 0
        while (delivery := backlog.start() if ready else self._take()) or not self._stopping:
            try:
                if delivery is None:
                    worker.handling = None
                    await self._idle_until_woken()
                    turn = 0
                    continue
                if ready and not self._waking:
                    self.wake()
                worker.handling = delivery
                await self._handle(worker, delivery)
                if worker.spoilt:
                    return
                turn += 1
                if turn == _TURN:
                    turn = 0
                    await asyncio.sleep(0)
            except asyncio.CancelledError:
                if self.closing:
                    raise
                # Code of a handler has kept this task and cancelled it: that must not cost its slot for good.
                if delivery is not None:
                    _log.warning("handler_cancelled_its_task", consumer=self._name, message_id=delivery.message.id)
                worker.leave(None if delivery is None else partial(self._recover, delivery))
                return

    async def _idle_until_woken(self) -> None:
        self._on_idle()
        woken = asyncio.get_running_loop().create_future()
        self._idle.append(woken)
        try:
            await woken
        except asyncio.CancelledError:
            if woken in self._idle:
                self._idle.remove(woken)
            else:
                self._waking = False
            raise
        self._waking = False


async def absorbed(task: asyncio.Task[Any]) -> None:
    """Take back the cancellations of the running task, one that is still to be delivered included."""
    while task.cancelling():
        task.uncancel()
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(0)  # before Python 3.13 `uncancel` leaves one that was not delivered yet
    while task.cancelling():
        task.uncancel()


def has_changed(context: Context) -> bool:
    """Whether code of a handler has set a context variable of this task since ``context`` was copied.

    The handler of another message must not see it: it may name a tenant. Free where nothing was set.
    """
    try:
        return copy_context() != context
    except Exception:  # noqa: BLE001 - values that cannot be compared
        return True
