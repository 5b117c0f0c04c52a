"""The identity of a dead letter: its queue, why it failed, and which others failed alike."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Any, Final

from eip.console.subject import DeadLetterQueue
from eip.message import Message

__all__ = ["cut", "group_of", "key_of", "kind_of", "reason_of", "size_of", "source_of"]

_MAX_TEXT: Final = 300
"""Characters of an id, a type or a reason in a list."""
_UNKNOWN_REASON: Final = "received too often"
"""Of a message that the service itself moved: it gives no reason."""
_MAX_KIND: Final = 160
"""Characters of a reason that tell one kind from another."""
_VARYING: Final = re.compile(
    r"""
    '[^'\n]{1,80}' | "[^"\n]{1,80}"                                             # what is quoted
    | \b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F-]{22}\b                        # UUIDs
    | \b(?=[0-9a-fA-F]*[0-9])[0-9a-fA-F]{8,}\b                                  # digests and ids
    | \d[\d.,:_-]*\d | \d                                                       # numbers, times, amounts
    """,
    re.VERBOSE,
)


def kind_of(reason: str) -> str:
    """The reason without what differs from message to message: ``ValueError: order … costs …``."""
    return _VARYING.sub("…", " ".join(reason[: 4 * _MAX_KIND].split()))[:_MAX_KIND]


def reason_of(message: Message[Any]) -> str:
    """Why it failed, as its headers tell."""
    return message.headers.get("dead-letter-reason") or _UNKNOWN_REASON


def source_of(message: Message[Any], info: DeadLetterQueue) -> str:
    """The queue that a dead letter failed on; empty where that is not known."""
    named = message.headers.get("dead-letter-source")
    if named is not None:
        return named
    return info.sources[0] if len(info.sources) == 1 else ""


def key_of(message: Message[Any]) -> str:
    """Names a message, the same at each look: a digest of its id, its group and its body."""
    digest = blake2b("\0".join((message.id, message.group_id or "")).encode(), digest_size=12)
    digest.update(message.raw or b"")
    return digest.hexdigest()


def group_of(message: Message[Any], info: DeadLetterQueue) -> str:
    """Names the group of a dead letter, the same at each look; a digest, as reasons may hold what is redacted."""
    parts = (source_of(message, info), message.type or "", kind_of(reason_of(message)))
    return blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def size_of(message: Message[Any]) -> int:
    return len(message.raw or b"")


def cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 1]}…"
