"""Timetables as EventBridge Scheduler writes them."""

from __future__ import annotations

import re
from typing import Final

from eip.errors import ConfigurationError

__all__ = ["cron_expression", "rate_expression"]

_UNITS: Final = ((86_400, "day"), (3_600, "hour"), (60, "minute"))
_DAYS: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_FIELD: Final = re.compile(r"[0-9A-Za-z*,/-]+")


def rate_expression(interval: float) -> str:
    """The rate of an interval in seconds; raises `ConfigurationError` for one that is not whole minutes."""
    for length, unit in _UNITS:
        count, rest = divmod(interval, length)
        if count and not rest:
            return f"rate({count:.0f} {unit}{'s' if count > 1 else ''})"
    raise ConfigurationError(f"interval must be whole minutes for EventBridge Scheduler, got {interval:g} s")


def cron_expression(cron: str) -> str:
    """The expression of six fields for one of five.

    Its weekdays begin with Sunday as 1 and not as 0, and one of the two kinds of days must be ``?``.

    Raises:
        ConfigurationError: days of the month and of the week in one expression, or a sign that only cron knows.
    """
    fields = cron.split()
    if len(fields) != 5 or not all(map(_FIELD.fullmatch, fields)):
        raise ConfigurationError(f"cron must be five plain fields for EventBridge Scheduler, got {cron!r}")
    minute, hour, day, month, weekday = fields
    if weekday == "*":
        return f"cron({minute} {hour} {day} {month} ? *)"
    if day != "*":
        raise ConfigurationError(
            f"cron must not have days of the month and of the week for EventBridge Scheduler, got {cron!r}"
        )
    return f"cron({minute} {hour} ? {month} {_weekdays(weekday)} *)"


def _weekdays(field: str) -> str:
    """By their names, which count from the same day for both; the step of a range stays a number."""
    head, slash, step = field.partition("/")
    return re.sub(r"\d", lambda found: _DAYS[int(found[0]) % 7], head) + slash + step
