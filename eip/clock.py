"""The one source of wall-clock time, so that a virtual clock can stand in for it.

Timers use the event loop's own clock; everything that is written down (``created_at``, deadlines, deduplication
windows) uses `now`. `eip.testing` replaces it together with the loop's clock.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final

__all__ = ["LAST_TIME", "Duration", "Instant", "now", "seconds", "use_clock"]

Duration = float | timedelta
"""Seconds, or a timedelta."""

Instant = float | datetime
"""Seconds since the epoch, or a datetime with a time zone."""

LAST_TIME: Final = 253_402_300_799.0
"""The last second that stores hold as a time, in the year 9999; what is due or expires later never is."""

_source: Callable[[], float] = time.time


def now() -> float:
    """Seconds since the epoch (UTC)."""
    return _source()


def seconds(duration: Duration) -> float:
    """The duration in seconds; raises `TypeError` for what is neither a number nor a timedelta."""
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    if isinstance(duration, bool) or not isinstance(duration, (int, float)):
        raise TypeError(f"a duration must be seconds or a timedelta, got {duration!r}")
    try:
        return float(duration)
    except OverflowError:
        return math.inf if duration > 0 else -math.inf


@contextmanager
def use_clock(source: Callable[[], float]) -> Iterator[None]:
    """Let ``source`` tell the time, process-wide, until the block ends."""
    global _source  # noqa: PLW0603 - the one switch of the process's clock
    previous, _source = _source, source
    try:
        yield
    finally:
        _source = previous
