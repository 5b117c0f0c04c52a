"""Edits of a dead letter: what an operator wrote, put in the place of what was there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from eip.codec import load_json
from eip.console._bodies import MAX_EDITED_BYTES, ShownBody, attributes_of, body_value
from eip.console.redaction import MASK, Redaction
from eip.errors import ConfigurationError, DecodeError, InvalidMessage
from eip.message import Message

__all__ = ["edit_of"]


def edit_of(
    message: Message[Any],
    shown: ShownBody,
    redaction: Redaction,
    *,
    body: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Callable[[Message[Any]], Message[Any]]:
    """What makes of the message the edited one; values that were masked stay as they are.

    Args:
        message: as it is in the queue.
        shown: its body as the operator saw it.
        redaction: what masked it.
        body: the text of the new body; None, or as it was shown: the body stays, byte for byte.
        attributes: all of them; None: they stay. One that is as it was shown keeps its type.

    Raises:
        ConfigurationError: a body that cannot be edited, is no JSON where it was, or a mask where nothing was.
    """
    changes: list[Callable[[Message[Any]], Message[Any]]] = []
    if body is not None and body != shown.text:
        changes.append(_body_change(message, shown, redaction, body))
    if attributes is not None:
        kept = _attributes(message, redaction, attributes)
        changes.append(lambda each: each.replace(attributes=kept))

    def edited(each: Message[Any]) -> Message[Any]:
        for change in changes:
            each = change(each)
        return each

    try:
        edited(message)  # what the message itself refuses is reported now
    except (TypeError, InvalidMessage) as error:
        raise ConfigurationError(f"the message cannot be so: {error}") from error
    return edited


def _body_change(
    message: Message[Any], shown: ShownBody, redaction: Redaction, text: str
) -> Callable[[Message[Any]], Message[Any]]:
    if not shown.is_editable:
        raise ConfigurationError(f"body cannot be edited: it is {shown.kind} of {shown.size:,} bytes")
    if len(text) > 4 * MAX_EDITED_BYTES:
        raise ConfigurationError(f"body must be at most {4 * MAX_EDITED_BYTES:,} characters")
    if shown.kind == "text":
        if MASK in text:
            raise ConfigurationError(f"body is text with {MASK} in it: write what it stands for")
        return lambda each: each.with_encoded(text.encode())
    try:
        value = redaction.restored(load_json(text), body_value(message))
    except DecodeError as error:
        raise ConfigurationError(f"body is no JSON: {error}") from error
    except ValueError as error:
        raise ConfigurationError(f"body: {error}") from error
    return lambda each: each.with_body(value)


def _attributes(message: Message[Any], redaction: Redaction, edited: Mapping[str, Any]) -> dict[str, Any]:
    shown, kept = attributes_of(message, redaction), {}
    for name, value in edited.items():
        if name in shown and _is_same(value, shown[name]):
            kept[name] = message.attributes[name]
        elif value == MASK:
            raise ConfigurationError(f"attribute {name} is {MASK}: write its value, or leave it out")
        else:
            kept[name] = value
    return kept


def _is_same(value: Any, shown: Any) -> bool:
    """Whether it is what was shown; a browser makes of 1.0 the number 1."""
    numbers = not isinstance(value, bool) and isinstance(value, (int, float)) and isinstance(shown, (int, float))
    return bool(value == shown) and (type(value) is type(shown) or (numbers and not isinstance(shown, bool)))
