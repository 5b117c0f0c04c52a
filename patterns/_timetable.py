"""When a scheduled message is due: once, at a fixed interval, or as a cron expression says."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from eip import clock
from eip._checks import check_duration, check_instant, check_time, check_type
from eip.clock import Duration, Instant
from eip.errors import ConfigurationError

__all__ = ["Timetable", "timetable_of"]

_MIN_INTERVAL_S: Final = 1.0


class Timetable(BaseModel):
    """What a store holds of it."""

    first: float
    """When it is due for the first time, seconds since the epoch."""
    interval: float | None = None
    cron: str | None = None
    zone: str = "UTC"

    @property
    def repeats(self) -> bool:
        """Whether it is due more than once."""
        return self.interval is not None or self.cron is not None

    def next(self, after: float) -> float | None:
        """The first time that is later; None: never again."""
        if after < self.first:
            return self.first
        if self.interval is not None:
            return self.first + (math.floor((after - self.first) / self.interval) + 1) * self.interval
        return None if self.cron is None else _next_of_cron(self.cron, self.zone, after)


def timetable_of(
    *, at: Instant | None, delay: Duration | None, interval: Duration | None, cron: str | None, zone: str
) -> Timetable:
    """The timetable that the parameters of `MessageScheduler.send` describe.

    Raises:
        TypeError: a parameter of another type.
        ConfigurationError: not exactly one of them is given, or it is invalid.
    """
    names = {"at": at, "delay": delay, "interval": interval, "cron": cron}
    given = [name for name, value in names.items() if value is not None]
    if len(given) != 1:
        raise ConfigurationError(f"give exactly one of at, delay, interval, cron, got {', '.join(given) or 'none'}")
    _zone_of(check_type("timezone", zone, str, "the name of a time zone"))
    now = clock.now()
    if at is not None:
        return Timetable(first=check_instant("at", at))
    if delay is not None:
        return Timetable(first=check_time("delay", now + check_duration("delay", delay)))
    if interval is not None:
        every = check_duration("interval", interval)
        if not _MIN_INTERVAL_S <= every < math.inf:
            raise ConfigurationError(f"interval must be at least {_MIN_INTERVAL_S:g} s and finite, got {interval!r}")
        return Timetable(first=now + every, interval=every)
    expression = check_type("cron", cron or "", str, "a cron expression")
    return Timetable(first=_next_of_cron(expression, zone, now), cron=expression, zone=zone)


@lru_cache(maxsize=64)
def _zone_of(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise ConfigurationError(
            f"timezone must be one of the tz database, e.g. 'Europe/Berlin', got {name!r}"
        ) from error


def _next_of_cron(expression: str, zone: str, after: float) -> float:
    """The next time, where clocks go forward or back too: as Debian's cron has it, nothing is left out or done twice.

    Raises:
        ConfigurationError: the expression is none, or never comes true.
    """
    try:
        from cronsim import CronSim, CronSimError  # noqa: PLC0415 - of the extra ``cron``
    except ImportError as error:
        raise ConfigurationError('cron needs the package cronsim: pip install "aioeip[cron]"') from error
    try:
        times = CronSim(expression, datetime.fromtimestamp(after, UTC).astimezone(_zone_of(zone)))
        return next(times).timestamp()
    except CronSimError as error:
        raise ConfigurationError(
            f"cron must be a cron expression, e.g. '0 9 * * mon-fri', got {expression!r}: {error}"
        ) from None
    except StopIteration:
        raise ConfigurationError(f"cron must come true some day, got {expression!r}") from None
