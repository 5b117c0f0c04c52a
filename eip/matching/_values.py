"""Leaves of events: which numbers can be compared, which strings are addresses, and how text becomes a tree."""

from __future__ import annotations

import ipaddress
import json
import math
import re
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final

from eip.errors import DecodeError

__all__ = ["Address", "MultiObject", "Number", "Opaque", "address", "leaf", "number", "parse_event"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_EXACT: Final = 2**53
_MAX_BITS: Final = 20_000
_V4: Final = re.compile(r"\d+\.\d+\.\d+\.\d+\Z", re.ASCII)
_V6: Final = re.compile(r"[0-9a-fA-F:]*:[0-9a-fA-F:]*\Z")
_LONGEST_ADDRESS: Final = 64


class Opaque(str):
    """The text of a number that no double stands for exactly; it equals only the same text."""

    __slots__ = ()


Number = float | Opaque


def number(text: str) -> Number:
    """The number of a JSON text: a double where that is exact, its text otherwise (event-ruler 1.8's rule)."""
    try:
        double = float(text)
        if math.isfinite(double) and Decimal(repr(double)) == Decimal(text):
            return double
    except (ValueError, OverflowError, InvalidOperation):
        pass
    return Opaque(text)


def leaf(value: Any) -> Any:
    """The value as it is compared: str, float, `Opaque`, True, False or None."""
    kind = value.__class__
    if kind is int:
        return float(value) if -_EXACT <= value <= _EXACT else _large(value)
    if kind is float:
        return value if math.isfinite(value) else Opaque(repr(value))
    if kind is Decimal:
        return number(str(value))
    return value


@lru_cache(maxsize=256)
def _large(value: int) -> Number:
    """Writing an integer takes time that grows with the square of its length; beyond some length none is equal."""
    return number(str(Decimal(value))) if value.bit_length() < _MAX_BITS else Opaque(hex(value))


def address(text: str) -> Address | None:
    """The IP address that the text is a literal of; octets are decimal, also with leading zeros."""
    if len(text) > _LONGEST_ADDRESS:
        return None
    try:
        if _V4.match(text):
            return ipaddress.IPv4Address(bytes(int(octet) for octet in text.split(".")))
        if _V6.match(text):
            return ipaddress.IPv6Address(text)
    except ValueError:
        pass
    return None


class MultiObject(dict[str, Any]):
    """An object with duplicate keys: the last values as a dict, all of them as ``pairs``."""

    __slots__ = ("pairs",)

    pairs: list[tuple[str, Any]]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    several = MultiObject(made)
    several.pairs = pairs
    return several


def _integer(text: str) -> Any:
    return int(text) if len(text) < 16 else number(text)


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


_decoder: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=number, parse_int=_integer, parse_constant=_constant
)


def parse_event(event: Any) -> Any:
    """The tree of an event given as text, or as the tree it is already; raises `DecodeError` if it is not JSON."""
    if isinstance(event, (bytes, bytearray, memoryview)):
        try:
            event = bytes(event).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DecodeError("event is not UTF-8") from error
    if not isinstance(event, str):
        return event
    try:
        return _decoder.decode(event)
    except (ValueError, RecursionError) as error:
        raise DecodeError("Parameter Event is not valid.") from error
