"""Checks of attributes: numbers are finite, text can be encoded, lists hold those."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from eip.errors import InvalidMessage

__all__ = ["MAX_DIGITS", "check_attributes", "is_unicode", "why_wrong", "why_wrong_element"]

MAX_DIGITS: Final = 4_000
"""Digits of a number, or a few less: Python converts up to 4,300 to text and back, and the parser reads as many."""
_MIN_FAST, _MAX_FAST = -(2**63), 2**63


def check_attributes(attributes: Mapping[str, Any]) -> None:
    """Validate names and values.

    Raises:
        TypeError: ``attributes`` is not a mapping, or one of its names is not a string.
        InvalidMessage: a value that no channel can carry; the text names the attribute.
    """
    if attributes.__class__ is not dict and not isinstance(attributes, Mapping):
        raise TypeError(f"attributes must be a mapping, not {type(attributes).__name__}")
    for name, value in attributes.items():
        if name.__class__ is str and name.isascii():  # the common cases first: each message pays for them
            kind = value.__class__
            if kind is str:
                if value.isascii():
                    continue
            elif kind is bool or (kind is int and _MIN_FAST < value < _MAX_FAST):
                continue
        if not isinstance(name, str):
            raise TypeError(f"attributes must have names of type str, not {type(name).__name__}")
        if reason := why_wrong(name) or why_wrong(value):
            raise InvalidMessage(f"attribute {name!r} {reason}")


def why_wrong(value: Any) -> str:
    """Why no attribute can have the value; "" where one can."""
    match value:
        case str():
            return "" if value.isascii() or is_unicode(value) else "has a lone surrogate, which is not Unicode text"
        case bool() | bytes():
            digits = 0
        case int():
            digits = value.bit_length() // 3
        case float():
            if not math.isfinite(value):
                return f"must be a finite number, not {value}"
            digits = 0
        case Decimal():
            if not value.is_finite():
                return f"must be a finite number, not {value}"
            digits = len(value.as_tuple().digits)
        case list() | tuple():
            return next((f"has an element that {reason}" for each in value if (reason := why_wrong_element(each))), "")
        case _:
            return f"must be str, int, float, Decimal, bool, bytes or a list of those, not {type(value).__name__}"
    return "" if digits <= MAX_DIGITS else f"has more than {MAX_DIGITS:,} digits"


def why_wrong_element(value: Any) -> str:
    if value is None:
        return ""
    return "must be a string or a number" if isinstance(value, (bytes, list, tuple)) else why_wrong(value)


def is_unicode(text: str) -> bool:
    """Whether the text can be encoded: JSON's escapes can make lone surrogates, which cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
