"""Bounds on how long something takes, which hold on a machine that is busy with other work, too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["within"]

_SCHEDULED = Path("/proc/thread-self/schedstat")


def _waited_s() -> float:
    """Seconds for which this thread was ready to run and had no core; 0 where the kernel does not count them."""
    try:
        return int(_SCHEDULED.read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail if the block takes longer; time that this thread waited for a core does not count."""
    begun, waited = time.monotonic(), _waited_s()
    yield
    took = time.monotonic() - begun - (_waited_s() - waited)
    assert took < seconds, f"took {took:.2f} s, more than {seconds}"
