"""Dead letters: the headers that tell why a message failed, and the way to the dead-letter channel."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

from eip._logging import get_logger
from eip.channels._sending import Sender
from eip.errors import InvalidMessage, SendError
from eip.message import Message

__all__ = ["send_dead_letter", "with_dead_letter_headers", "without_dead_letter_headers"]

_log = get_logger("eip.channels")
_MAX_REASON: Final = 1000
"""Characters of a reason."""
_SHORT_REASON: Final = 60
"""Characters of a reason that is shortened."""
_FAILURE_HEADERS: Final = frozenset(
    ("dead-letter-reason", "dead-letter-source", "dead-letter-count", "dead-letter-stack", "attempts")
)


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
    return _with_headers(message, kept)


async def send_dead_letter(
    sender: Sender, message: Message[Any], reason: str, *, source: str, count: int, stack: str | None = None
) -> None:
    """Send a message to a dead-letter channel, with as much of the reason as fits.

    A message may arrive with so many attributes, or so large, that nothing can be added to it. Then the stack is left
    out, the reason is shortened, and at last only logged: a message must never be stuck for its reason.

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
    shorter = ((reason, None), (reason[:_SHORT_REASON], None))
    for text, where in ((reason, stack), *shorter) if stack else shorter:
        try:
            await sender.send(with_dead_letter_headers(message, text, source=source, count=count, stack=where))
        except (InvalidMessage, SendError) as error:
            if isinstance(error, SendError) and error.transient:
                raise
        else:
            return
    await sender.send(_with_headers(message, message.headers, expires_at=None))
    _log.warning(
        "dead_letter_without_reason",
        channel=source,
        dead_letters=sender.name,
        message_id=message.id,
        count=count,
        reason=reason[:_MAX_REASON],
    )


def _with_headers(message: Message[Any], headers: Mapping[str, str], **envelope: Any) -> Message[Any]:
    """The message with other headers, for a channel that may have seen it within its deduplication window.

    Under its own deduplication id a FIFO queue would take it for a duplicate and drop it. The new one follows from the
    old one, so that the same step done twice, after a crash in its middle, is known as such.
    """
    if message.group_id is not None:
        known = (message.deduplication_id or message.id).encode()
        envelope["deduplication_id"] = blake2b(known, digest_size=16).hexdigest()
    return message.replace(headers=headers, **envelope)
