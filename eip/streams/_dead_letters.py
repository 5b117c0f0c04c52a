"""Dead letters of streams: none may keep a shard from going on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from eip._logging import get_logger
from eip.channels import Sender
from eip.errors import InvalidMessage
from eip.message import Message

__all__ = ["send_dead_letters"]

_log = get_logger("eip.streams")
_PLACE: Final = ("shard", "sequence-number", "sub-sequence-number")


async def send_dead_letters(destination: Sender, messages: Sequence[Message[Any]], *, source: str) -> None:
    """Send the messages; one that the destination can never carry is replaced by a reference to its record.

    A record of a stream may be larger than any message of a queue. The record itself stays in the stream for its
    retention, so the reference says where it is, as Lambda's on-failure destinations do.
    """
    try:
        await destination.send(*messages)
    except InvalidMessage as error:
        if len(messages) > 1:  # nothing of them was sent
            for each in messages:
                await send_dead_letters(destination, [each], source=source)
            return
        (message,) = messages
        place = _place(message.headers)
        _log.error("dead_letter_by_reference", source=source, destination=destination.name, error=str(error), **place)
        await destination.send(_reference(message, source, place))


def _reference(message: Message[Any], source: str, place: Mapping[str, str]) -> Message[Any]:
    """A message that names the record instead of holding it; of its envelope only what any channel carries."""
    body = {"stream": source.rpartition("/")[0], **place, "size": len(message.raw or b"")}
    headers = {name: text for name, text in message.headers.items() if name.startswith("dead-letter-") or name in place}
    return Message({"dead-letter-reference": body}, group_id=message.group_id, headers=headers)


def _place(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in _PLACE if name in headers}
