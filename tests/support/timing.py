"""Bounds on how long something takes, which hold on a machine that is busy with other work, too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["waited_s", "within"]


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
