"""How a message's body becomes bytes, and bytes become a body.

The body on the wire is the user's own JSON, so that a foreign consumer reads it without this library and a foreign
producer's plain message is consumed by it (DESIGN.md, section 5). The envelope travels beside it, see `eip.envelope`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final, Protocol

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import from_json

from eip.errors import DecodeError, InvalidMessage

__all__ = ["Codec", "JsonCodec", "TextCodec", "dump_json", "load_json", "validate_json"]

_SMALL: Final = 16 * 1024


class Codec(Protocol):
    """Turns bodies into bytes and back; both directions must be pure."""

    content_type: str

    def encode(self, body: Any, /) -> bytes:
        """The bytes of a body; raises `InvalidMessage` for one that cannot be encoded."""
        ...

    def decode(self, raw: bytes, /) -> Any:
        """The body of the bytes; raises `DecodeError`."""
        ...


def dump_json(value: Any) -> bytes:
    """Compact JSON of plain values, pydantic models, dataclasses, dates, UUIDs, enums, sets and decimals.

    Decimals become numbers with their digits kept; NaN and infinities become null, as in JavaScript. Raises
    `InvalidMessage` for anything else.
    """
    try:
        raw = orjson.dumps(value, default=_to_jsonable)
    except TypeError as error:
        try:  # once more for integers beyond 64 bits, which orjson refuses
            raw = orjson.dumps(_with_big_integers(value), default=_to_jsonable)
        except (TypeError, RecursionError):
            raise InvalidMessage(f"body cannot be written as JSON: {error}") from error
    # orjson 3.13 leaves 4 KB of unused room behind what it wrote (measured), and a queue would keep it: copy.
    return b"%b" % raw if len(raw) < _SMALL else raw


def _to_jsonable(value: object) -> object:
    if isinstance(value, BaseModel):
        return orjson.Fragment(value.__pydantic_serializer__.to_json(value))
    if isinstance(value, Decimal) and value.is_finite():
        return orjson.Fragment(str(value))
    if isinstance(value, (set, frozenset)):
        return list(value)
    raise TypeError(f"Type is not JSON serializable: {type(value).__name__}")


def _with_big_integers(value: Any) -> Any:
    match value:
        case int() if not -(2**63) <= value < 2**64:
            return orjson.Fragment(str(value))
        case dict():
            return {key: _with_big_integers(each) for key, each in value.items()}
        case list() | tuple():
            return [_with_big_integers(each) for each in value]
    return value


def load_json(raw: bytes | str) -> Any:
    """The value of JSON text, integers exact at any size; raises `DecodeError`.

    Nesting is limited to about 200 levels by the parser, and NaN and Infinity are refused.
    """
    try:
        return from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise DecodeError(f"body is not JSON: {error}") from error


def validate_json(adapter: TypeAdapter[Any], raw: bytes) -> Any:
    """The value of JSON text as the adapter's type, in one pass; raises `DecodeError` naming each wrong field."""
    try:
        return adapter.validate_json(raw)
    except ValidationError as error:
        raise DecodeError(_explain(error)) from None  # its text holds the input


def validate_value(adapter: TypeAdapter[Any], value: Any) -> Any:
    """A decoded body as the adapter's type; raises `DecodeError` naming each wrong field."""
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise DecodeError(_explain(error)) from None  # its text holds the input


def _explain(error: ValidationError) -> str:
    """The places and kinds of the errors, without the input's values: bodies never reach logs."""
    wrong = error.errors(include_url=False, include_input=False, include_context=False)
    places = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in wrong[:5])
    return f"body is not valid: {places}" + (f" (+{len(wrong) - 5} more)" if len(wrong) > 5 else "")


class JsonCodec:
    """The default: bodies are JSON in UTF-8."""

    content_type = "application/json"

    encode = staticmethod(dump_json)
    decode = staticmethod(load_json)


class TextCodec:
    """Bodies are plain text in UTF-8, for channels whose other side does not speak JSON."""

    content_type = "text/plain"

    @staticmethod
    def encode(body: Any) -> bytes:
        """The text's bytes; raises `InvalidMessage` for anything but a string."""
        if not isinstance(body, str):
            raise InvalidMessage(f"a text body must be a string, not {type(body).__name__}")
        return body.encode()

    @staticmethod
    def decode(raw: bytes) -> str:
        """The bytes' text; raises `DecodeError`."""
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise DecodeError(f"body is not UTF-8: {error.reason} at byte {error.start}") from error


JSON: Codec = JsonCodec()
