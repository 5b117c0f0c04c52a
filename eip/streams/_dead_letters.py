"""Dead letters of streams: none may keep a shard from going on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from eip._logging import get_logger
from eip.channels import Sender, send_dead_letter, with_dead_letter_headers
from eip.errors import InvalidMessage
from eip.message import Message

__all__ = ["place_of", "send_dead_letters"]

_log = get_logger("eip.streams")
_PLACE: Final = ("shard", "sequence-number", "sub-sequence-number")


def place_of(message: Message[Any]) -> dict[str, str]:
    """The headers that name the record of a message."""
    headers = message.headers
    return {name: headers[name] for name in _PLACE if name in headers}


async def send_dead_letters(
    destination: Sender,
    messages: Sequence[Message[Any]],
    reason: str,
    *,
    source: str,
    count: int,
    stack: str | None = None,
) -> None:
    """Send the messages; one that the destination can never carry is replaced by a reference to its record.

    A record of a stream may be larger than any message of a queue. The record itself stays in the stream for its
    retention, so the reference names its place, as Lambda's on-failure destinations do.
    """
    if len(messages) > 1:
        try:
            dead = (
                with_dead_letter_headers(each, reason, source=source, count=count, stack=stack) for each in messages
            )
            await destination.send(*dead)
        except InvalidMessage:  # nothing of them was sent: find the one
            for each in messages:
                await send_dead_letters(destination, [each], reason, source=source, count=count, stack=stack)
        return
    (message,) = messages
    try:
        await send_dead_letter(destination, message, reason, source=source, count=count, stack=stack)
    except InvalidMessage as error:
        place = place_of(message)
        _log.error("dead_letter_by_reference", source=source, destination=destination.name, error=str(error), **place)
        reference = with_dead_letter_headers(_reference(message, source, place), reason, source=source, count=count)
        await destination.send(reference)


def _reference(message: Message[Any], source: str, place: Mapping[str, str]) -> Message[Any]:
    """A message that names the record instead of holding it; of its envelope only what any channel carries."""
    body = {"stream": source.rpartition("/")[0], **place, "size": len(message.raw or b"")}
    return Message({"dead-letter-reference": body}, group_id=message.group_id, headers=place)
