"""Calls of a database that come together are made together: those that come while one is under way share the next."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

__all__ = ["Gatherers", "Job"]


@dataclass(slots=True, eq=False)
class Job:
    """One of the calls; who works it off sets its result or its error, and may `settle` it before the batch ends."""

    answer: asyncio.Future[Any] = field(init=False)
    result: Any = field(init=False, default=None)
    error: Exception | None = field(init=False, default=None)

    def settle(self, failed: BaseException | None = None) -> None:
        """Answer the call, unless it was answered before or its caller was cancelled.

        Args:
            failed: the error of the whole batch; default: the job's own result or error.
        """
        if self.answer.done():
            return
        error = failed or self.error
        if error is None:
            self.answer.set_result(self.result)
        else:
            self.answer.set_exception(error)


J = TypeVar("J", bound=Job)


class Gatherers(Generic[J]):
    """Gathers jobs, for each event loop on its own.

    Args:
        start: Begins to work a batch off; its future raises what failed for the whole of it.
        max_jobs: Jobs of a batch at most, so that no job waits for long.
        max_batches: Batches under way at once.
    """

    def __init__(
        self, start: Callable[[Sequence[J]], asyncio.Future[None]], *, max_jobs: int, max_batches: int = 1
    ) -> None:
        self._start, self._max_jobs, self._max_batches = start, max_jobs, max_batches
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Gatherer[J]] = WeakKeyDictionary()

    async def run(self, job: J) -> Any:
        """Work the job off with others; returns its result, and raises its error or that of its batch.

        Cancelled, it may be done or not; it is not begun where it was not yet.
        """
        loop = asyncio.get_running_loop()
        gatherer = self._loops.get(loop)
        if gatherer is None:
            gatherer = self._loops[loop] = _Gatherer(self._start, self._max_jobs, self._max_batches)
        job.answer = loop.create_future()
        gatherer.add(job)
        return await job.answer

    async def idle(self) -> None:
        """Wait until all that this loop's callers asked for is answered."""
        gatherer = self._loops.get(asyncio.get_running_loop())
        while gatherer is not None and gatherer.busy:
            await (asyncio.wait(gatherer.running) if gatherer.running else asyncio.sleep(0))


class _Gatherer(Generic[J]):
    def __init__(self, start: Callable[[Sequence[J]], asyncio.Future[None]], max_jobs: int, max_batches: int) -> None:
        self._start, self._max_jobs, self._max_batches = start, max_jobs, max_batches
        self._jobs: deque[J] = deque()
        self._scheduled = False
        self.running: set[asyncio.Future[None]] = set()

    @property
    def busy(self) -> bool:
        return bool(self._jobs or self.running)

    def add(self, job: J) -> None:
        self._jobs.append(job)
        self._schedule()

    def _schedule(self) -> None:
        """Begin a batch once those that are about to run have added theirs."""
        if self._jobs and not self._scheduled and len(self.running) < self._max_batches:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._scheduled = False
        taken = [self._jobs.popleft() for _ in range(min(len(self._jobs), self._max_jobs))]
        jobs = [each for each in taken if not each.answer.done()]
        if jobs:
            self._start_batch(jobs)
        self._schedule()

    def _start_batch(self, jobs: Sequence[J]) -> None:
        try:
            running = self._start(jobs)
        except Exception as error:  # noqa: BLE001 - no thread could be started: whoever waits must learn of it
            for job in jobs:
                job.settle(error)
            return
        self.running.add(running)
        running.add_done_callback(lambda done: self._end(jobs, done))

    def _end(self, jobs: Sequence[J], done: asyncio.Future[None]) -> None:
        self.running.discard(done)
        failed = RuntimeError("the call was cancelled") if done.cancelled() else done.exception()
        for job in jobs:
            job.settle(failed)
        self._schedule()
