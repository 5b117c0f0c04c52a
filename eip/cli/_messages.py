"""Messages for people and programs: what ``peek``, ``tail`` and ``scatter`` print, and what ``send`` reads."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import typer

from eip.codec import dump_json, load_json
from eip.errors import DecodeError
from eip.message import Message

__all__ = ["COLUMNS", "attributes_from", "body_from", "plain"]

COLUMNS: Final = ("id", "type", "created", "group", "attributes", "reason", "body")
_MAX_BINARY_SHOWN: Final = 200
"""Bytes shown of a body that is not text."""


def plain(message: Message[Any]) -> dict[str, Any]:
    """The message as plain data; what it has not is left out."""
    found = {
        "id": message.id,
        "type": message.type,
        "created": datetime.fromtimestamp(message.created_at, UTC).isoformat(timespec="seconds"),
        "group": message.group_id,
        "correlation_id": message.correlation_id,
        "return_address": message.return_address,
        "attributes": dict(message.attributes) or None,
        "reason": message.headers.get("dead-letter-reason"),
        "body": _body_of(message),
    }
    return {name: value for name, value in found.items() if value is not None}


def _body_of(message: Message[Any]) -> Any:
    """The body as JSON can show it; a message that cannot be read must not stop the others."""
    try:
        body = message.body
        dump_json(body)
    except Exception:  # noqa: BLE001 - whatever reading one message raises belongs to that message
        raw = message.raw or b""
        return raw[:_MAX_BINARY_SHOWN].decode(errors="backslashreplace")
    return body


def body_from(text: str, *, as_text: bool) -> Any:
    """The body that was given: JSON, or with ``as_text`` the text as it is."""
    if as_text:
        return text
    try:
        return load_json(text)
    except DecodeError as error:
        raise typer.BadParameter(f"the body is no JSON ({error}); give --text to send it as it is") from None


def attributes_from(pairs: Iterable[str]) -> dict[str, Any]:
    """Attributes of ``name=value``: a value that is a JSON number, true or false is that, any other a text."""
    found = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"an attribute is name=value, got {pair!r}")
        found[name] = _value_of(text)
    return found


def _value_of(text: str) -> Any:
    try:
        value = load_json(text)
    except DecodeError:
        return text
    return value if isinstance(value, (int, float)) else text
