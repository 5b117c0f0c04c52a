"""An application as a whole: it waits for what it needs, greets once it is ready, and ends within its grace."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager, suppress
from itertools import count
from types import TracebackType
from typing import Final, Protocol, TypeVar, runtime_checkable

import anyio

from eip import Backoff
from eip._logging import get_logger
from eip.errors import EipError, StoreError
from eip.runtime.service import Runnable

__all__ = ["GRACE", "Application", "Waiting", "connected_to", "print_line", "report"]

_log = get_logger("examples.lifecycle")
_T = TypeVar("_T")

GRACE: Final = 8.0
"""Default of the seconds that the parts have to drain; then they are cancelled."""
_CONNECT: Final = 60.0
"""Seconds of one attempt to connect, and to make what is missing there."""
_DISCONNECT: Final = 4.0
"""Seconds to leave one connection."""
_DISCONNECTS: Final = 2
"""Connections of an application that are left one after the other: its channels and its state."""
_AGAIN: Final = Backoff(base=0.5, cap=10.0)
_FIRST_LINE, _NEXT_LINE = 3.0, 10.0
"""Seconds after which a line tells what is waited for, and tells it again."""


@runtime_checkable
class Waiting(Protocol):
    """A part that tells what it waits for; others are ready as soon as they run."""

    async def missing(self) -> Sequence[str]:
        """What it is not ready without; empty: ready."""
        ...


class Application:
    """A service (see `eip.runtime.service.Runnable`) of several parts, from connecting to disconnecting.

    Args:
        connect: makes the parts; connects by `connected_to`, with the stack that it is given.
        greet: called once no part waits for anything.
        grace: seconds that the parts have to drain.
    """

    def __init__(
        self,
        connect: Callable[[AsyncExitStack], Awaitable[Sequence[Runnable]]],
        greet: Callable[[], object],
        *,
        grace: float = GRACE,
    ) -> None:
        self._connect, self._greeting, self._drain = connect, greet, grace
        self.grace = grace + _DISCONNECTS * _DISCONNECT
        """Seconds until it has ended, for `eip.run`: draining, then disconnecting."""
        self.ready = asyncio.Event()
        """Set once no part waits for anything."""
        self._starting = anyio.CancelScope()
        self._stopping = asyncio.Event()
        self.failure: EipError | None = None
        """Why it could not start, where waiting would not help."""

    async def run(self) -> None:
        """Connect, work until `stop` or until all parts have ended, disconnect."""
        async with AsyncExitStack() as stack:
            parts: Sequence[Runnable] = ()
            with self._starting:
                try:
                    parts = await self._connect(stack)
                except EipError as error:
                    self.failure = error
            if parts and not self._stopping.is_set():
                await self._work(parts)

    async def stop(self) -> None:
        """Let `run` drain and return; what is being connected to is given up."""
        self._stopping.set()
        self._starting.cancel()

    async def _work(self, parts: Sequence[Runnable]) -> None:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(part.run(), name=type(part).__name__) for part in parts]
            greeting = tasks.create_task(self._greet(parts))
            ended = tasks.create_task(_wait_for(running))
            stop = tasks.create_task(self._stopping.wait())
            await asyncio.wait([ended, stop], return_when=asyncio.FIRST_COMPLETED)
            for task in (ended, stop, greeting):
                task.cancel()
            stopping = [tasks.create_task(part.stop()) for part in parts]
            _, late = await asyncio.wait(running, timeout=self._drain)
            for task in late:
                _log.warning("part_cancelled", part=task.get_name(), grace=self._drain)
            for task in (*late, *stopping):
                task.cancel()

    async def _greet(self, parts: Sequence[Runnable]) -> None:
        waits: list[str] = []
        with _telling(lambda: f"Waiting for {'; '.join(waits)}"):
            while True:
                waits[:] = [each for part in parts if isinstance(part, Waiting) for each in await part.missing()]
                if not waits:
                    break
                await asyncio.sleep(0.1)
        self.ready.set()
        self._greeting()


async def _wait_for(tasks: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)


async def connected_to(what: str, make: Callable[[], AbstractAsyncContextManager[_T]], stack: AsyncExitStack) -> _T:
    """Enter a connection into the stack, as soon as the other side is there; it is left within seconds.

    Args:
        what: the service and its address, for the line that tells that it is waited for.
        make: the connection, a new one for each attempt.
        stack: where it is entered into.

    Raises:
        EipError: what another attempt would not change.
    """
    for attempt in count(1):
        connection, reason = make(), "no answer yet"
        try:
            with _telling(lambda: f"Waiting for {what}: {reason}"), anyio.fail_after(_CONNECT):  # noqa: B023 - used in the loop
                found = await connection.__aenter__()
        except (EipError, OSError) as error:
            if not _passes(error):
                raise
            wait = _AGAIN.delay(attempt)
            report(f"Waiting for {what}: {str(error) or repr(error)}; next attempt in {wait:.1f} s")
            await asyncio.sleep(wait)
        else:
            stack.push_async_exit(_leaving(what, connection))
            return found
    raise AssertionError("unreachable")


def _passes(error: EipError | OSError) -> bool:
    """Whether another attempt may succeed."""
    return isinstance(error, OSError | StoreError) or bool(getattr(error, "transient", False))


def _leaving(
    what: str, connection: AbstractAsyncContextManager[object]
) -> Callable[[type[BaseException] | None, BaseException | None, TracebackType | None], Awaitable[bool | None]]:
    async def leave(
        kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        with anyio.move_on_after(_DISCONNECT) as scope:
            try:
                return await connection.__aexit__(kind, error, trace)
            except (EipError, OSError) as failure:
                _log.warning("not_disconnected", what=what, error=repr(failure))
        if scope.cancelled_caught:
            _log.warning("not_disconnected", what=what, error=f"no answer within {_DISCONNECT:g} s")
        return None

    return leave


@contextmanager
def _telling(text: Callable[[], str]) -> Iterator[None]:
    """Print the text to stderr where the block takes long, and again now and then."""
    loop = asyncio.get_running_loop()
    lines: list[asyncio.TimerHandle] = []

    def tell() -> None:
        report(text())
        lines[:] = [loop.call_later(_NEXT_LINE, tell)]

    lines.append(loop.call_later(_FIRST_LINE, tell))
    try:
        yield
    finally:
        lines[0].cancel()


def report(line: str) -> None:
    """Print a line to stderr, if that can be written."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def print_line(line: str) -> None:
    """Print a line; a service goes on where nobody reads it, or the disk is full."""
    try:
        print(line, flush=True)
    except OSError:  # what is left of it would be printed at the end, once more in vain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
