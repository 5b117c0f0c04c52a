"""Bounds on how long something takes, which hold on a machine that is busy with other work, too, or stands still."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

__all__ = ["undisturbed", "waited_s", "within"]

_T = TypeVar("_T")


def waited_s(thread: str | int = "thread-self") -> float:
    """Seconds for which a thread was ready to run and had no core; 0 where the kernel does not count them.

    ``thread``: default: this one; the id of a process means its main thread.
    """
    try:
        return int(Path(f"/proc/{thread}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail if the block takes longer; time that this thread waited for a core does not count."""
    begun, waited = time.monotonic(), waited_s()
    yield
    took = time.monotonic() - begun - (waited_s() - waited)
    assert took < seconds, f"took {took:.2f} s, more than {seconds}"


async def undisturbed(attempt: Callable[[], Awaitable[_T]], *, reserve: float) -> _T:
    """The result of an attempt during which the process never stood still for ``reserve`` seconds: of five, the last.

    A short lease runs out where the machine stops the whole process for long; that a thread keeps it is tested all the
    same, as the loop alone, or one thread, may stand still.
    """
    for _ in range(4):
        with _longest_stop() as stops:
            result = await attempt()
        if max(stops) < reserve:
            return result
    return await attempt()


@contextmanager
def _longest_stop() -> Iterator[list[float]]:
    """How long a thread that has next to nothing to do did not run."""
    stops, ended = [0.0], threading.Event()

    def tick() -> None:
        last = time.monotonic()
        while not ended.wait(0.02):
            last, before = time.monotonic(), last
            stops.append(last - before)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        yield stops
    finally:
        ended.set()
        thread.join()
