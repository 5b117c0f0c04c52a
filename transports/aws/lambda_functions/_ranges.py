"""Checks of optional numbers and durations against a range."""

from __future__ import annotations

from datetime import timedelta

from eip._checks import check_integer, check_type
from eip.errors import ConfigurationError

__all__ = ["check_number", "check_span"]


def check_number(name: str, value: int | None, least: int, most: int) -> None:
    """Raise `ConfigurationError` for a number outside of its range; None is in it."""
    if value is not None and not least <= check_integer(name, value, least=0) <= most:
        raise ConfigurationError(f"{name} must be {least:,} to {most:,}, got {value:,}")


def check_span(name: str, value: timedelta | None, least: timedelta, most: timedelta) -> None:
    """Raise `ConfigurationError` for a duration outside of its range, or with parts of a second; None is in it."""
    check_type(name, value, timedelta, "a timedelta", optional=True)
    if value is not None and (not least <= value <= most or value % timedelta(seconds=1)):
        raise ConfigurationError(f"{name} must be {least} to {most}, in whole seconds, got {value}")
