"""Services: what runs until it is stopped, alone in a process, or for the length of a block.

    await run(consumer, relay)                  # a process: until SIGTERM or SIGINT, then drained

    async with running(consumer, relay):        # a block: started when it begins, drained when it ends
        ...

    async with consumer:                        # one service is a block itself
        ...

The first signal drains. If that takes longer than the grace, the log names what does not end, and the process ends
with exit code `EXIT_STUCK`. A second signal ends the process at once, with 128 plus the signal's number.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Final, Protocol, Self, cast, runtime_checkable

import anyio

from eip._checks import check_duration, check_type
from eip._logging import get_logger
from eip.clock import Duration
from eip.errors import ConfigurationError
from eip.health import Health
from eip.runtime._shutdown import EXIT_STUCK, Shutdown
from eip.runtime.garbage import GarbageCollection

__all__ = ["EXIT_STUCK", "Runnable", "Service", "run", "running"]

_log = get_logger("eip.service")
_DEFAULT_GRACE_S: Final = 20.0
_MARGIN_S: Final = 8.0
"""After the grace: to cancel what is left, flush and close."""


@runtime_checkable
class Runnable(Protocol):
    """The least that `run` needs: something that runs, and can be stopped."""

    async def run(self) -> None:
        """Work until stopped."""
        ...

    async def stop(self) -> None:
        """Let `run` drain and return."""
        ...


class Service(ABC):
    """What runs until it is stopped; also as a block: ``async with service:``.

    A subclass sets ``ready`` while it works, and clears it at the end.
    """

    name: str
    """For logs and errors."""
    ready: asyncio.Event
    """Set while it runs: connected, and at work."""

    @abstractmethod
    async def run(self) -> None:
        """Work until `stop`; raises what it cannot recover from."""

    @abstractmethod
    async def stop(self, *, grace: Duration | None = None) -> None:
        """Let `run` finish what is in hand and return; wait for that. Idempotent.

        Args:
            grace: seconds for what is in hand; default: the service's own.
        """

    def health(self) -> Health:
        """Whether it works, and if not, since when and why."""
        ready = self.ready.is_set()
        return Health(ok=ready, reason=None if ready else "not running")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {'running' if self.ready.is_set() else 'stopped'}>"

    async def __aenter__(self) -> Self:
        self.__block = running(self)
        await self.__block.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self.__block.__aexit__(kind, error, trace)


async def run(*services: Runnable, grace: Duration | None = None, garbage: GarbageCollection | None = None) -> None:
    """Run the services until SIGTERM or SIGINT, or until all have ended; then drain and return.

    Where one service fails, the others are drained and its error is raised as it is. Signals are handled only in the
    main thread. A service that is given twice is a `ConfigurationError`.

    Args:
        services: what to run.
        grace: seconds from the first signal until the process ends, whatever is still running; default: the longest
            grace of the services, and 8 seconds to cancel, flush and close.
        garbage: how Python collects garbage meanwhile; default: as it is.
    """
    _check(services)
    check_type("garbage", garbage, GarbageCollection, "a GarbageCollection", optional=True)
    tasks: dict[asyncio.Task[None], Runnable] = {}
    stopping: set[asyncio.Task[None]] = set()

    def drain() -> None:
        for service in services:
            stopping.add(asyncio.create_task(_stop(service)))

    shutdown = Shutdown(drain, _limit(services, grace), describe=lambda: [repr(each) for each in tasks.values()])
    errors: list[Exception] = []
    with shutdown, garbage.applied(services) if garbage is not None else contextlib.nullcontext():
        for service in services:
            tasks[asyncio.create_task(service.run(), name=repr(service))] = service
        try:
            while tasks:
                ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                failed = [error for error in (_failure(each, tasks.pop(each)) for each in ended) if error]
                if failed and not errors:
                    drain()
                errors += failed
        finally:
            await _cancel([*tasks, *stopping])
    if errors:
        raise errors[0]


@asynccontextmanager
async def running(*services: Runnable) -> AsyncIterator[None]:
    """Run the services while the block runs: it begins when all are ready, and they are drained when it ends.

    Where a service fails meanwhile, the block is cancelled and the service's error raised as it is. What the block
    raises is raised as it is.
    """
    _check(services)
    async with AsyncExitStack() as stack:
        for service in services:
            await stack.enter_async_context(_running_one(service))
        yield


@asynccontextmanager
async def _running_one(service: Runnable) -> AsyncIterator[None]:
    task = asyncio.create_task(service.run(), name=repr(service))
    block = _Block(cast("asyncio.Task[None]", asyncio.current_task()))
    try:
        await _until_ready(service, task)
        task.add_done_callback(block.cancel_if_failed)
        yield
    except asyncio.CancelledError:
        if not block.took_over():
            raise
    finally:
        task.remove_done_callback(block.cancel_if_failed)
        with anyio.CancelScope(shield=True):
            if not task.done():
                await _stop(service)
                await asyncio.wait((task,))
    if not task.cancelled():
        task.result()


class _Block:
    """Cancels the block's task where its service fails, and knows that it did."""

    def __init__(self, host: asyncio.Task[None]) -> None:
        self._host = host
        self._cancelled = False

    def cancel_if_failed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._cancelled = True
            self._host.cancel()

    def took_over(self) -> bool:
        """Whether a cancellation was ours, and nobody else asked for one."""
        return self._cancelled and self._host.uncancel() == 0


def _check(services: tuple[Runnable, ...]) -> None:
    """Raise if one is not a service, or is given twice, before any is started."""
    for each in services:
        if isinstance(each, type) or not isinstance(each, Runnable):
            raise TypeError(f"services must have run() and stop(), got {each!r}")
    for place, each in enumerate(services):
        if any(each is other for other in services[:place]):
            raise ConfigurationError(f"services must be different ones, got {each!r} twice")


async def _until_ready(service: Runnable, task: asyncio.Task[None]) -> None:
    ready = getattr(service, "ready", None) or getattr(service, "started", None)
    if not isinstance(ready, asyncio.Event):
        return
    waiting = asyncio.ensure_future(ready.wait())
    try:
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    if task.done():
        await task


async def _stop(service: Runnable) -> None:
    """Stop it; an error of `stop` must not keep the others from stopping."""
    try:
        await service.stop()
    except Exception as error:  # noqa: BLE001 - what matters is raised by `run`
        _log.error("stop_failed", service=repr(service), exc_info=error)


def _failure(task: asyncio.Task[None], service: Runnable) -> Exception | None:
    if task.cancelled():
        return None
    error = task.exception()
    if isinstance(error, Exception):
        _log.error("service_failed", service=repr(service), exc_info=error)
        return error
    if error is not None:
        raise error
    return None


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel what is left; bounded, as a service may ignore it."""
    for task in tasks:
        task.cancel()
    if tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait(tasks, timeout=_MARGIN_S)


def _limit(services: tuple[Runnable, ...], grace: Duration | None) -> float:
    if grace is not None:
        return check_duration("grace", grace)
    return max((float(getattr(each, "grace", _DEFAULT_GRACE_S)) for each in services), default=0.0) + _MARGIN_S
