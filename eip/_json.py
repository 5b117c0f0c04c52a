"""JSON as this library reads and writes it: numbers exact at any size, NaN refused, errors that name the place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

import orjson

from eip.errors import DecodeError, InvalidMessage

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

__all__ = [
    "dump_json",
    "is_embeddable",
    "json_elements",
    "json_members",
    "load_json",
    "validate_json",
    "validate_value",
]

_SMALL: Final = 16 * 1024


def dump_json(value: Any) -> bytes:
    """Compact JSON of plain values, pydantic models, dataclasses, dates, UUIDs, enums, sets and decimals.

    Numbers keep their digits, of whatever size.

    Raises:
        InvalidMessage: anything else, or a number that JSON has no form for (NaN, Infinity); the text names its place.
    """
    try:
        raw = orjson.dumps(value, default=_to_jsonable)
    except TypeError as error:
        try:  # once more for integers beyond 64 bits, which orjson refuses
            raw = orjson.dumps(_with_big_integers(value), default=_to_jsonable)
        except (TypeError, ValueError, RecursionError):
            raise InvalidMessage(f"body cannot be written as JSON: {error}") from error
    # What orjson makes of NaN. CPython finds four bytes backwards two to thirty times as fast as forwards (measured,
    # 3.11 to 3.13), and every body pays: 28 us of 64 KB forwards, 7 us backwards.
    if raw.rfind(b"null") >= 0:
        _check_finite(value, "body")
    # orjson 3.13 leaves 4 KB of unused room behind what it wrote (measured), and a queue would keep it: copy.
    return b"%b" % raw if len(raw) < _SMALL else raw


def _to_jsonable(value: object) -> object:
    if (serializer := getattr(value, "__pydantic_serializer__", None)) is not None:
        return orjson.Fragment(serializer.to_json(value))
    if isinstance(value, Decimal) and value.is_finite():
        return orjson.Fragment(str(value))
    if isinstance(value, float):
        return float(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    raise TypeError(f"{value} is not JSON" if isinstance(value, Decimal) else f"{type(value).__name__} is not JSON")


def _check_finite(value: Any, place: str) -> None:
    """Raise `InvalidMessage` for a float that JSON has no form for."""
    if isinstance(value, float):
        if not isfinite(value):
            raise InvalidMessage(f"{place} is {value}, which JSON has no form for")
    elif (serializer := getattr(value, "__pydantic_serializer__", None)) is not None:
        _check_finite(serializer.to_python(value), place)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            _check_finite(each, f"{place}.{key}")
    elif isinstance(value, (list, tuple, set, frozenset)):
        for index, each in enumerate(value):
            _check_finite(each, f"{place}[{index}]")
    elif is_dataclass(value):
        for name, each in vars(value).items():
            _check_finite(each, f"{place}.{name}")


def _with_big_integers(value: Any) -> Any:
    match value:
        case int() if not -(2**63) <= value < 2**64:
            return orjson.Fragment(int.__repr__(value))
        case dict():
            return {key: _with_big_integers(each) for key, each in value.items()}
        case list() | tuple():
            return [_with_big_integers(each) for each in value]
    return value


def _load_parser(raw: bytes | str, *, allow_inf_nan: bool) -> Any:
    """Import the parser when the first text is read: pydantic takes a third of the time to import this library."""
    global _from_json  # noqa: PLW0603 - itself, from now on
    from pydantic_core import from_json  # noqa: PLC0415

    _from_json = from_json
    return from_json(raw, allow_inf_nan=allow_inf_nan)


_from_json: Callable[..., Any] = _load_parser


def load_json(raw: bytes | str) -> Any:
    """The value of JSON text, integers exact at any size.

    Raises:
        DecodeError: not JSON, NaN or Infinity, or nested deeper than about 200 levels, the parser's limit.
    """
    try:
        return _from_json(raw, allow_inf_nan=False)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"body is not JSON: {error}") from error


def is_embeddable(raw: bytes) -> bool:
    """Whether the bytes are JSON that is still read a few levels inside of other JSON."""
    try:
        load_json(raw)  # by itself, since "1,2" and nothing at all are right between brackets
        load_json(b"[[[[[%b]]]]]" % raw)
    except DecodeError:
        return False
    return True


_piece_at: Final = json.JSONDecoder().raw_decode


def json_members(raw: bytes) -> dict[str, bytes]:
    """The members of an object's text, each value as the text that it is; the last of those with one name.

    Raises `DecodeError` if the text is not an object.
    """
    return {load_json(name): value for name, value in _pieces(raw, "{", "}")}


def json_elements(raw: bytes) -> list[bytes]:
    """The elements of an array's text, each as the text that it is; raises `DecodeError` if it is not an array."""
    return [element for _, element in _pieces(raw, "[", "]")]


def _pieces(raw: bytes, opening: str, closing: str) -> Iterator[tuple[bytes, bytes]]:
    """The members between the brackets: the name (b"" in an array), and the value's text."""
    try:
        text = raw.decode().strip(_BLANK)
        if text[:1] != opening or text[-1:] != closing:
            raise DecodeError("not a JSON object" if opening == "{" else "not a JSON array")
        at, end = _skip(text, 1), len(text) - 1
        while at < end:
            name = ""
            if opening == "{":
                start, at = at, _piece_at(text, at)[1]
                name = text[start:at]
                at = _expect(text, at, ":")
            start, at = at, _piece_at(text, at)[1]
            yield name.encode(), text[start:at].encode()
            at = _skip(text, at)
            if at < end:
                at = _expect(text, at, ",")
    except (ValueError, IndexError, RecursionError) as error:
        raise error if isinstance(error, DecodeError) else DecodeError(f"body is not JSON: {error}") from error


_BLANK: Final = " \t\r\n"


def _skip(text: str, at: int) -> int:
    while text[at] in _BLANK:
        at += 1
    return at


def _expect(text: str, at: int, mark: str) -> int:
    at = _skip(text, at)
    if text[at] != mark:
        raise DecodeError(f"body is not JSON: no {mark!r} at {at}")
    return _skip(text, at + 1)


def validate_json(adapter: TypeAdapter[Any], raw: bytes) -> Any:
    """The value of JSON text as the adapter's type, in one pass; raises `DecodeError` naming each wrong field."""
    try:
        return adapter.validate_json(raw)
    except _validation_error() as error:
        raise DecodeError(_explain(error)) from None  # its text holds the input


def validate_value(adapter: TypeAdapter[Any], value: Any) -> Any:
    """A decoded body as the adapter's type; raises `DecodeError` naming each wrong field."""
    try:
        return adapter.validate_python(value)
    except _validation_error() as error:
        raise DecodeError(_explain(error)) from None  # its text holds the input


def _validation_error() -> type[ValidationError]:
    """Imported when an error is raised, for the reason of `_load_parser`."""
    from pydantic import ValidationError  # noqa: PLC0415

    return ValidationError


def _explain(error: ValidationError) -> str:
    """The places and kinds of the errors, without the input's values: bodies never reach logs."""
    wrong = error.errors(include_url=False, include_input=False, include_context=False)
    places = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in wrong[:5])
    return f"body is not valid: {places}" + (f" (+{len(wrong) - 5} more)" if len(wrong) > 5 else "")
