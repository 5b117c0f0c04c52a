"""Checks of parameters: each names the argument, the rule and the value given."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, Final, TypeVar

from eip.clock import LAST_TIME, Duration, Instant, seconds
from eip.errors import ConfigurationError, InvalidMessage
from eip.message import Message

__all__ = [
    "check_delay",
    "check_duration",
    "check_instant",
    "check_integer",
    "check_message",
    "check_name",
    "check_one_of",
    "check_time",
    "check_type",
]

_T = TypeVar("_T")
_Choice = TypeVar("_Choice")


def check_type(
    name: str, value: _T, kind: type[Any] | tuple[type[Any], ...], what: str, *, optional: bool = False
) -> _T:
    """The value, where it is of that kind.

    Args:
        name: of the argument.
        value: as given.
        kind: the class.
        what: it in words: "a sender".
        optional: whether None will do.

    Raises:
        TypeError: it is of another kind.
    """
    if isinstance(value, kind) or (optional and value is None):
        return value
    raise TypeError(f"{name} must be {what}{' or None' if optional else ''}, got {value!r}")


def check_message(message: Message[Any]) -> None:
    """Raise `TypeError` for an argument of ``send`` that is not a message."""
    if not isinstance(message, Message):
        raise TypeError(f"messages must be Message, got {type(message).__name__}; wrap it: Message(...)")


_MAX_NAME: Final = 512
"""Characters of a name; the services allow fewer."""
_MAX_SHOWN: Final = 80
"""Characters of a refused name in an error: it may be a stranger's."""


def check_name(value: str, name: str = "name") -> str:
    """The name of something, where it is a text that can be a name: not empty, and printable.

    Args:
        value: as given.
        name: of the argument.

    Raises:
        TypeError: not a string.
        ConfigurationError: empty, longer than 512 characters, or with control characters or lone surrogates.
    """
    check_type(name, value, str, "a string")
    if not 0 < len(value) <= _MAX_NAME or not value.isprintable() or value.isspace():
        raise ConfigurationError(
            f"{name} must be 1 to {_MAX_NAME} printable characters, got {value[:_MAX_SHOWN]!r}"
            + (f" and {len(value) - _MAX_SHOWN:,} more" if len(value) > _MAX_SHOWN else "")
        )
    return value


def check_integer(name: str, value: int, *, least: int) -> int:
    """The number, where it is an integer of at least ``least``; raises `TypeError` or `ConfigurationError`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < least:
        raise ConfigurationError(f"{name} must be >= {least}, got {value}")
    return value


def check_duration(name: str, value: Duration, *, positive: bool = False, most: float | None = None) -> float:
    """The duration in seconds, where it is in range.

    Args:
        name: of the argument.
        value: as given.
        positive: whether 0 is refused.
        most: seconds.

    Raises:
        TypeError: neither a number nor a timedelta.
        ConfigurationError: out of range, or no number at all (NaN).
    """
    try:
        length = seconds(value)
    except TypeError:
        raise TypeError(f"{name} must be seconds or a timedelta, got {value!r}") from None
    if not length >= 0 or (positive and length == 0):
        raise ConfigurationError(f"{name} must be {'> 0' if positive else '>= 0'}, got {value!r}")
    if most is not None and length > most:
        raise ConfigurationError(f"{name} must be at most {most:g} seconds, got {value!r}")
    return length


def check_instant(name: str, value: Instant) -> float:
    """The instant in seconds since the epoch.

    Args:
        name: of the argument.
        value: as given.

    Raises:
        TypeError: neither a number nor a datetime.
        ConfigurationError: a datetime without a time zone, or a time before 1970 or after the year 9999.
    """
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ConfigurationError(
                f"{name} must have a time zone, got {value!r}; write {name}.astimezone() for local time"
            )
        return check_time(name, value.timestamp())
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a datetime or seconds since the epoch, got {value!r}")
    return check_time(name, value)


def check_time(name: str, value: float) -> float:
    """The time in seconds since the epoch, where stores and services can hold it; raises `ConfigurationError`."""
    if not 0 <= value <= LAST_TIME:
        raise ConfigurationError(
            f"{name} must be between 1970 and the year 9999, got {value!r} seconds since the epoch"
        )
    return float(value)


def check_delay(channel: str, value: Duration, *, most: float | None = None) -> float:
    """The ``delay`` of a send in seconds, where the channel takes it.

    Args:
        channel: for people.
        value: as given.
        most: seconds; None: any finite delay.

    Raises:
        TypeError: neither a number nor a timedelta.
        InvalidMessage: out of range: delays are computed, like what is sent.
    """
    if value.__class__ is float and value == 0.0:
        return 0.0  # nearly every send
    try:
        delay = check_duration("delay", value, most=most)
    except ConfigurationError as error:
        raise InvalidMessage(f"{channel}: {error}") from None
    if delay == math.inf:
        raise InvalidMessage(f"{channel}: delay must be finite, got {value!r}")
    return delay


def check_one_of(name: str, value: _Choice, choices: tuple[_Choice, ...]) -> _Choice:
    """The value, where it is one of the choices; raises `ConfigurationError`."""
    if value not in choices:
        raise ConfigurationError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value
