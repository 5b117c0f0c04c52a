"""Splitter (Hohpe & Woolf, chapter 7): one message becomes several, each with its place among them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from eip.message import Message, SequenceInfo
from eip.patterns._functions import function_of
from eip.patterns.diagram import condition_text, with_diagram
from eip.runtime.handlers import Handler

__all__ = ["part_id", "splitter"]


def splitter(
    split: Callable[[Any], Any],
    *,
    name: str = "",
    type: str | None = None,  # noqa: A002 - the envelope's own term
) -> Handler:
    """A handler that returns the parts of a message, with sequence id, position and size (pattern "Message Sequence").

        Consumer(orders, splitter(lambda order: order.body["lines"], type="OrderLine"), output=lines)

    The parts' ids follow from the message's id and their positions, so a redelivered message, or one whose parts were
    sent in part when the process died, makes the same ids again, and an idempotent receiver knows them. That holds as
    long as ``split`` gives the same parts in the same order.

    A part carries the correlation, trace, group, expiry, attributes and headers of the message, unless it is a
    `Message` that sets its own. A message without parts is acknowledged; nothing is sent.

    Args:
        split: the parts of a message, as bodies or messages; plain or async, of a message or of a validated body.
        name: goes into the ids, so that the parts differ from those of another splitter of the same message.
        type: the parts' type.

    Raises:
        TypeError: from the handler, where ``split`` returns no iterable, or text, bytes or a mapping.
    """
    parts_of = function_of(split)

    async def split_message(message: Message[Any]) -> list[Message[Any]]:
        parts = _listed(await parts_of(message))
        whole = f"{message.id}/{name}" if name else message.id
        return [
            _part(message, part, type, SequenceInfo(whole, position, len(parts))) for position, part in enumerate(parts)
        ]

    return with_diagram(split_message, f"splitter {name or condition_text(split)}")


def part_id(whole: str, position: int) -> str:
    """The id of a part: 32 hexadecimal digits that follow from its sequence's id and its position."""
    return hashlib.blake2b(f"{whole}/{position}".encode(), digest_size=16).hexdigest()


def _part(message: Message[Any], part: Any, kind: str | None, sequence: SequenceInfo) -> Message[Any]:
    own = part if isinstance(part, Message) else Message(part, created_at=message.created_at)
    return own.replace(
        id=part_id(sequence.id, sequence.position),
        sequence=sequence,
        type=own.type or kind,
        correlation_id=own.correlation_id or message.correlation_id or message.id,
        traceparent=own.traceparent or message.traceparent,
        group_id=message.group_id if own.group_id is None else own.group_id,
        expires_at=message.expires_at if own.expires_at is None else own.expires_at,
        attributes={**message.attributes, **own.attributes},
        headers={**message.headers, **own.headers},
    )


def _listed(parts: Any) -> list[Any]:
    if not isinstance(parts, Iterable) or isinstance(parts, (str, bytes, dict, Message)):
        raise TypeError(f"a splitter's function returns the parts, not {type(parts).__name__}")
    return list(parts)
