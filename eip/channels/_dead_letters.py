"""Dead letters: the headers that tell why a message failed, and the way to the dead-letter channel."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

from eip._logging import get_logger
from eip.attributes import AttributeValue, dump_attributes, load_attributes
from eip.channels._sending import Sender
from eip.codec import dump_json, load_json
from eip.errors import DecodeError, InvalidMessage, SendError
from eip.message import Message

__all__ = ["send_dead_letter", "with_dead_letter_headers", "without_dead_letter_headers"]

_log = get_logger("eip.channels")
_MAX_REASON: Final = 1000
"""Characters of a reason."""
_SHORT_REASON: Final = 60
"""Characters of a reason that is shortened."""
_FAILURE_HEADERS: Final = frozenset(
    (
        *("dead-letter-reason", "dead-letter-source", "dead-letter-count", "dead-letter-stack", "attempts"),
        "dead-letter-attributes",
    )
)
_ATTRIBUTES: Final = "dead-letter-attributes"
"""The header with attributes that the dead-letter channel has no place for."""


def with_dead_letter_headers(
    message: Message[Any], reason: str, *, source: str, count: int, stack: str | None = None
) -> Message[Any]:
    """The message as it goes to a dead-letter channel: same id, body and attributes; the reason in its headers.

    Args:
        message: what could not be handled.
        reason: why; its first 1,000 characters are kept.
        source: the name of the channel that it came from.
        count: how many times it was tried.
        stack: where the handler failed, see `eip.errors.stack_text`; None: it did not, or on purpose.
    """
    why = {
        "dead-letter-reason": reason[:_MAX_REASON],
        "dead-letter-source": source,
        "dead-letter-count": str(count),
    }
    if stack:
        why["dead-letter-stack"] = stack
    return _with_headers(message, {**message.headers, **why}, expires_at=None)


def without_dead_letter_headers(message: Message[Any]) -> Message[Any]:
    """The message without the traces of its failure, to be tried from the start."""
    kept = {name: text for name, text in message.headers.items() if name not in _FAILURE_HEADERS}
    return _with_headers(message, kept, attributes=_attributes_of(message))


async def send_dead_letter(
    sender: Sender, message: Message[Any], reason: str, *, source: str, count: int, stack: str | None = None
) -> None:
    """Send a message to a dead-letter channel, with as much of the reason as fits.

    A message may arrive with so many attributes, or so large, that nothing can be added to it. Then the stack is left
    out, the reason is shortened, and at last only logged: a message must never be stuck for its reason. Nor for its
    attributes: those that the channel cannot carry, by their names or their number, go into a header together, and come
    back by `without_dead_letter_headers`.

    Args:
        sender: the dead-letter channel.
        message: what could not be handled.
        reason: why.
        source: the name of the channel that it came from.
        count: how many times it was tried.
        stack: as of `with_dead_letter_headers`.

    Raises:
        InvalidMessage: the channel cannot carry the message, even without its reason.
        SendError: the channel did not accept it.
    """
    forms = [message, _attributes_as_header(message)] if message.attributes else [message]
    shorter = ((reason, None), (reason[:_SHORT_REASON], None))
    for each in forms:
        for text, where in ((reason, stack), *shorter) if stack else shorter:
            dead = with_dead_letter_headers(each, text, source=source, count=count, stack=where)
            if await _is_taken(sender, dead):
                return
    bare = [_with_headers(each, each.headers, expires_at=None) for each in forms]
    if len(bare) == 1 or not await _is_taken(sender, bare[0]):
        await sender.send(bare[-1])
    _log.warning(
        "dead_letter_without_reason",
        channel=source,
        dead_letters=sender.name,
        message_id=message.id,
        count=count,
        reason=reason[:_MAX_REASON],
    )


async def _is_taken(sender: Sender, message: Message[Any]) -> bool:
    """Send it; False where the channel cannot carry it. Raises what another attempt may help against."""
    try:
        await sender.send(message)
    except (InvalidMessage, SendError) as error:
        if isinstance(error, SendError) and error.transient:
            raise
        return False
    return True


def _attributes_as_header(message: Message[Any]) -> Message[Any]:
    """The message with its attributes in one header: other services know names and numbers that this one does not."""
    text = dump_json(dump_attributes(message.attributes)).decode()
    return message.replace(attributes={}, headers={**message.headers, _ATTRIBUTES: text})


def _attributes_of(message: Message[Any]) -> Mapping[str, AttributeValue]:
    """The attributes, those that a header holds included; headers may be a stranger's."""
    text = message.headers.get(_ATTRIBUTES)
    if text is None:
        return message.attributes
    try:
        return {**load_attributes(load_json(text)), **message.attributes}
    except (DecodeError, InvalidMessage, TypeError, AttributeError):
        return message.attributes


def _with_headers(message: Message[Any], headers: Mapping[str, str], **envelope: Any) -> Message[Any]:
    """The message with other headers, for a channel that may have seen it within its deduplication window.

    Under its own deduplication id a FIFO queue would take it for a duplicate and drop it. The new one follows from the
    old one, so that the same step done twice, after a crash in its middle, is known as such.
    """
    if message.group_id is not None:
        known = (message.deduplication_id or message.id).encode()
        envelope["deduplication_id"] = blake2b(known, digest_size=16).hexdigest()
    return message.replace(headers=headers, **envelope)
