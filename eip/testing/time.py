"""Virtual time: an event loop whose clock jumps to the next timer as soon as nothing else is left to do.

A test of a five-minute deadline takes a millisecond, and its outcome does not depend on the machine. Only for code that
waits for timers and for other tasks: with sockets the clock would run ahead of them.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar, cast

from typing_extensions import override

from eip.clock import use_clock

__all__ = ["EPOCH", "Deadlock", "VirtualTimeLoop", "run"]

T = TypeVar("T")

EPOCH: Final = 1_767_225_600.0
"""The time of `eip.clock.now` when a virtual loop starts: 2026-01-01T00:00:00Z."""


class Deadlock(RuntimeError):
    """Every task waits for something that no timer will bring."""


class _Selector(selectors.DefaultSelector):
    """Never sleeps: reports how long the loop wanted to."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    @override
    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise Deadlock("nothing is left to do and no timer is set: every task waits for ever")
            self._loop.advance(timeout)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time; `eip.clock.now` follows it while it runs."""

    def __init__(self) -> None:
        self._virtual = 0.0
        super().__init__(cast("selectors.BaseSelector", _Selector(self)))

    @override
    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual

    def advance(self, seconds: float) -> None:
        """Let virtual time pass; the loop does so by itself when idle."""
        self._virtual += seconds

    @override
    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Work for a thread is done at once and in this one: the clock would run ahead of a real thread."""
        del executor
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller awaits it
            done.set_exception(error)
        return done

    @override
    def run_forever(self) -> None:
        with use_clock(lambda: EPOCH + self._virtual):
            super().run_forever()


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
