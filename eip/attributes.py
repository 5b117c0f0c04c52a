"""Values of message attributes: plain Python values, which keep a foreign producer's type, label and digits.

SQS and SNS carry an attribute as a data type and a text or bytes. `from_native` reads that as a plain value, and
`to_native` writes it. Where the plain value alone would be written in another way (``Number.int`` 007, ``1.10``,
``String.UUID``, ``Binary.gif``), `from_native` returns a subclass of the plain type that holds the type and the text as
they came: handlers and filters see 7, and whoever passes the value on writes 007.

`to_wire` and `from_wire` do the same for places that hold JSON: envelopes, stores, packs, records. A form that a later
version of this library adds is read as text, and passed on as it came (docs/wire-format.md).
"""

from __future__ import annotations

import binascii
import contextlib
import math
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple, TypeAlias

from eip._attribute_checks import MAX_DIGITS, check_attributes, is_unicode, why_wrong, why_wrong_element
from eip.codec import dump_json, is_embeddable, load_json
from eip.errors import DecodeError, InvalidMessage

__all__ = [
    "AttributeValue",
    "Foreign",
    "Native",
    "check_attributes",
    "dump_attributes",
    "from_native",
    "from_wire",
    "is_native",
    "is_unicode",
    "load_attributes",
    "plain_of",
    "to_native",
    "to_wire",
]

AttributeValue: TypeAlias = str | int | float | Decimal | bool | bytes | Sequence[str | int | float | Decimal | None]
"""The values of an attribute. Numbers are finite; text is Unicode without lone surrogates."""

_MAX_NUMBER: Final = MAX_DIGITS + 1
"""Characters of a foreign number; services take 38 digits. A longer one is read as the text that it is."""
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?")
_MAX_NATIVE_DIGITS: Final = 38
_MIN_NATIVE_EXPONENT, _MAX_NATIVE_EXPONENT = -128, 126
"""Numbers that SQS and SNS accept: 38 digits without leading and trailing zeros, 10**-128 to 10**126 (SQS Developer
Guide, "Message metadata")."""
_MIN_SAFE, _MAX_SAFE = 1e-100, 1e38
_DATA_TYPE: Final = re.compile(r"(?:String|Number|Binary)(?:\.[A-Za-z0-9_.-]+)?")
_MAX_DATA_TYPE: Final = 256
_WIRE_TYPE: Final = "String.eip"
"""Data type of a value that SQS and SNS have no type for: its text is the JSON of `to_wire`."""
_NOTES: Final = frozenset(("", "bool", "float", "decimal"))


class Native(NamedTuple):
    """A value as SQS and SNS carry it."""

    data_type: str
    """E.g. ``"String"``, ``"Number"``, ``"Binary"``, ``"String.Array"``, ``"Number.int"``."""
    value: str | bytes
    """StringValue, or BinaryValue where the type is one of Binary."""
    note: str = ""
    """Detail that the data type leaves open: ``"bool"``, ``"float"``, ``"decimal"``; travels in the envelope."""


class Foreign:
    """Mixed into a plain type: a value that is written as it came. Made by `from_native` only."""

    native: Native


class _Text(Foreign, str):  # noqa: SLOT000 - the others cannot have slots, and are few
    pass


class _Unknown(_Text):
    """The JSON of a form that this version does not know."""


class _Integer(Foreign, int):
    pass


class _Float(Foreign, float):
    pass


class _Decimal(Foreign, Decimal):
    pass


class _Bytes(Foreign, bytes):
    pass


class _List(Foreign, list[Any]):
    pass


_FOREIGN: Final[Mapping[type, type[Any]]] = {
    str: _Text,
    int: _Integer,
    float: _Float,
    Decimal: _Decimal,
    bytes: _Bytes,
    list: _List,
}
_PLAIN: Final[Mapping[type, type[Any]]] = {_Unknown: str, **{kept: plain for plain, kept in _FOREIGN.items()}}


def plain_of(value: Any) -> Any:
    """The value as an instance of its plain type."""
    return _PLAIN[type(value)](value) if isinstance(value, Foreign) else value


def to_native(value: Any) -> Native:  # noqa: PLR0911 - one return for each type
    """The value as SQS and SNS carry it; a value of a foreign producer as it came."""
    match value:
        case Foreign() if _still_holds(value):
            return value.native
        case str():
            return Native("String", str.__str__(value))
        case bool():
            return Native("String", "true" if value else "false", "bool")
        case bytes():
            return Native("Binary", bytes(value))
        case int() | float() | Decimal() if not _is_native_number(value):
            return Native(_WIRE_TYPE, dump_json(to_wire(plain_of(value))).decode())
        case int():
            return Native("Number", int.__repr__(value))
        case float():
            return Native("Number", float.__repr__(value), "float" if value.is_integer() else "")
        case Decimal():
            return Native("Number", format(value, "f"), "decimal")
    return Native("String.Array", dump_json(list(value)).decode())


def _is_native_number(value: float | Decimal) -> bool:
    """Whether SQS and SNS take the value as a Number, and keep all of its digits."""
    if not isinstance(value, Decimal) and (value == 0 or _MIN_SAFE < abs(value) < _MAX_SAFE):
        return True  # the common case: at most 38 digits, or the 17 of a float
    exact = value if isinstance(value, Decimal) else Decimal(repr(plain_of(value)))
    digits = "".join(map(str, exact.as_tuple().digits)).strip("0")
    return len(digits) <= _MAX_NATIVE_DIGITS and _MIN_NATIVE_EXPONENT <= exact.adjusted() <= _MAX_NATIVE_EXPONENT


def is_native(native: Native) -> bool:
    """Whether SQS and SNS take the data type, and the text as a value of it: a stranger's envelope holds any."""
    data_type, value, _ = native
    if len(data_type) > _MAX_DATA_TYPE or not _DATA_TYPE.fullmatch(data_type):
        return False
    if data_type.startswith("Binary") or isinstance(value, bytes):
        return data_type.startswith("Binary") and isinstance(value, bytes)
    if not data_type.startswith("Number"):
        return True
    return len(value) <= _MAX_NUMBER and _NUMBER.fullmatch(value) is not None and _is_native_number(Decimal(value))


def _still_holds(value: Foreign) -> bool:
    """A list may have been changed since it came."""
    return not isinstance(value, _List) or _plain(value.native.data_type, value.native.value, "") == value


def from_native(data_type: str, value: str | bytes, note: str = "") -> AttributeValue:
    """The plain value of a data type and a text or bytes, written by `to_native` or by a foreign producer.

    Never fails: a text that is not what its data type promises is a string that keeps its data type, and so does one
    whose note only a later version knows.
    """
    if data_type == "String" and not note and isinstance(value, str):
        return value
    if data_type == _WIRE_TYPE and isinstance(value, str):
        with contextlib.suppress(DecodeError):
            found: AttributeValue = from_wire(load_json(value))
            if to_native(found)[:2] == (data_type, value):
                return found
    plain = _plain(data_type, value, note)
    if note in _NOTES:
        if to_native(plain)[:2] == (data_type, value):
            return plain
        note = ""
    kind: Any = _FOREIGN[type(plain)]
    kept: AttributeValue = kind(plain)
    kept.native = Native(data_type, value, note)  # type: ignore[union-attr]  # one of the classes above
    return kept


def _plain(data_type: str, value: str | bytes, note: str) -> AttributeValue:
    if isinstance(value, bytes):
        return value
    if data_type.startswith("Number"):
        return _number(value, note)
    if data_type.startswith("String.Array"):
        return _array(value)
    return value == "true" if note == "bool" and data_type == "String" and value in ("true", "false") else value


def _number(text: str, note: str) -> int | float | Decimal | str:
    """An int where the text is one, a float where that is exact, a Decimal otherwise."""
    if len(text) > _MAX_NUMBER or not _NUMBER.fullmatch(text):
        return text
    if not note and _INTEGER.fullmatch(text):
        return int(text)
    exact, near = Decimal(text), float(text)
    return near if note != "decimal" and math.isfinite(near) and Decimal(repr(near)) == exact else exact


def _array(text: str) -> str | list[Any]:
    try:
        found = load_json(text)
    except DecodeError:
        return text
    return found if isinstance(found, list) and not any(map(why_wrong_element, found)) else text


# JSON.


def dump_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes as JSON holds them, types, labels and digits kept."""
    return {name: to_wire(value) for name, value in attributes.items()}


def load_attributes(found: Any) -> dict[str, Any]:
    """The attributes of `dump_attributes`; raises `DecodeError` for anything else."""
    if found.__class__ is not dict and not isinstance(found, Mapping):
        raise DecodeError(f"envelope field 'attrs' has the wrong type {type(found).__name__}")
    return {name: from_wire(value) for name, value in found.items()}


def to_wire(value: Any) -> Any:  # noqa: PLR0911 - one return for each type
    """A value as plain JSON where that keeps the type, otherwise as an object that names it."""
    match value:
        case _Unknown():
            return load_json(value.native.value)
        case Foreign() if _still_holds(value):
            data_type, content, note = value.native
            return {"type": data_type, **_wire_text(content), **({"note": note} if note else {})}
        case bytes():
            return _wire_text(value)
        case Decimal():
            return {"decimal": str(value)}
        case float():
            return float(value)
        case list() | tuple():
            return [to_wire(each) for each in value]
    return value


def _wire_text(value: str | bytes) -> dict[str, str]:
    return {"text": value} if isinstance(value, str) else {"bytes": b64encode(value).decode()}


def from_wire(value: Any) -> Any:
    """The value of `to_wire`; raises `DecodeError` for one that cannot be passed on."""
    if value.__class__ is str and value.isascii():
        return value
    if value is None or isinstance(value, dict):
        found = _from_object(value or {})
        return _unknown(value) if found is None else found
    if isinstance(value, list):
        elements = [each if each is None else from_wire(each) for each in value]
        if any(isinstance(each, (_Unknown, list)) for each in elements):
            return _unknown(value)
        value = elements
    if reason := why_wrong(value):
        raise DecodeError(f"attribute {reason}")
    return value


def _from_object(fields: Mapping[str, Any]) -> Any:
    """The value of an object that names its type; None for one of a form that this version does not know."""
    if not all(isinstance(each, str) for each in fields.values()):
        return None
    match sorted(fields):  # all of them: a key more is another form
        case ["text", "type"] | ["note", "text", "type"]:
            return from_native(fields["type"], fields["text"], fields.get("note", ""))
        case ["bytes", "type"] | ["bytes", "note", "type"]:
            return from_native(fields["type"], _unbased(fields["bytes"]), fields.get("note", ""))
        case ["bytes"]:
            return _unbased(fields["bytes"])
        case ["decimal"]:
            return _decimal(fields["decimal"])
    return None


def _unknown(value: Any) -> Any:
    """A form of a later version: a text to handlers, passed on as it came."""
    try:
        raw = dump_json(value)
    except InvalidMessage as error:
        raise DecodeError(f"attribute cannot be passed on: {error}") from error
    if not is_embeddable(raw):
        raise DecodeError("attribute is nested too deep to be passed on")
    kept = _Unknown(raw.decode())
    kept.native = Native(_WIRE_TYPE, raw.decode())
    return kept


def _unbased(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DecodeError(f"attribute is not base64: {error}") from error


def _decimal(text: str) -> Decimal:
    try:
        found = Decimal(text)
    except InvalidOperation as error:
        raise DecodeError("attribute is not a decimal number") from error
    if not found.is_finite():
        raise DecodeError("attribute is not a finite number")
    return found
