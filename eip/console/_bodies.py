"""Bodies as they are shown: bounded, redacted, and whatever they are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from eip.codec import dump_json, load_json
from eip.console.redaction import Redaction
from eip.errors import DecodeError, EipError
from eip.message import Message

__all__ = ["MAX_EDITED_BYTES", "ShownBody", "attributes_of", "body_value", "shown_body"]

MAX_EDITED_BYTES: Final = 256 * 1024
"""Of a body that can be edited: a browser shows it whole."""
_MAX_SHOWN: Final = 64 * 1024
"""Characters of a body that cannot be edited, shown."""
_MAX_PARSED_BYTES: Final = 16 * 1024 * 1024
"""Of JSON that is read for its fields; the text of a larger one is redacted as far as it is shown."""
_IN_THREAD_BYTES: Final = 128 * 1024
_MAX_HEX_BYTES: Final = 512
_MAX_EXACT: Final = 2**53
"""Integers beyond it lose digits in a browser, so they are shown as text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownBody:
    """A body for people to read."""

    kind: Literal["json", "text", "binary"]
    text: str
    """Redacted, and perhaps cut."""
    size: int
    """Bytes of the whole."""
    is_cut: bool
    is_editable: bool


async def shown_body(message: Message[Any], redaction: Redaction) -> ShownBody:
    """The body of a message; one that cannot be read as JSON is shown as text or as bytes."""
    raw = _raw(message)
    if len(raw) < _IN_THREAD_BYTES:
        return _shown(raw, redaction)
    return await asyncio.to_thread(_shown, raw, redaction)


def _raw(message: Message[Any]) -> bytes:
    """Its bytes; those that it came with, where reading it fails."""
    try:
        return message.encode()
    except EipError:
        return message.raw or b""


def _shown(raw: bytes, redaction: Redaction) -> ShownBody:
    kind, text = _text_of(raw, redaction)
    is_editable = kind != "binary" and len(raw) <= MAX_EDITED_BYTES
    is_cut = not is_editable and (len(text) > _MAX_SHOWN or (kind == "binary" and len(raw) > _MAX_HEX_BYTES))
    shown = text[:_MAX_SHOWN] if is_cut else text
    return ShownBody(kind=kind, text=shown, size=len(raw), is_cut=is_cut, is_editable=is_editable)


def _text_of(raw: bytes, redaction: Redaction) -> tuple[Literal["json", "text", "binary"], str]:
    if len(raw) <= _MAX_PARSED_BYTES:
        try:
            return "json", _pretty(redaction.value(load_json(raw)))
        except (DecodeError, EipError, TypeError, RecursionError):
            pass
    try:
        return "text", redaction.text(raw[: 4 * _MAX_SHOWN].decode() if len(raw) > MAX_EDITED_BYTES else raw.decode())
    except UnicodeDecodeError as error:
        if error.start >= _MAX_SHOWN:  # a character that the cut goes through
            return "text", redaction.text(raw[: error.start].decode())
        return "binary", raw[:_MAX_HEX_BYTES].hex(" ")


def _pretty(value: Any) -> str:
    try:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    except TypeError:  # what only our own writer takes, such as large integers
        return dump_json(value).decode()


def body_value(message: Message[Any]) -> Any:
    """The body as JSON values of its own, which nobody shares; raises `DecodeError` where it is no JSON."""
    return load_json(_raw(message))


def attributes_of(message: Message[Any], redaction: Redaction) -> dict[str, Any]:
    """The attributes as they are shown; a binary one as hexadecimal text."""
    return {name: redaction.value({name: _plain(value)})[name] for name, value in message.attributes.items()}


def _plain(value: object) -> Any:
    match value:
        case int() if abs(value) > _MAX_EXACT:
            return str(value)
        case bytes():
            return value[:_MAX_HEX_BYTES].hex(" ")
        case bool() | int() | float() | str():
            return value if len(str(value)) <= _MAX_HEX_BYTES * 8 else f"{str(value)[: _MAX_HEX_BYTES * 8]}…"
        case Mapping():
            return {str(name): _plain(each) for name, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
    return str(value)
