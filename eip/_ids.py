"""Identifiers: unguessable new ones, and how any text becomes an id that a service of a restricted alphabet takes."""

from __future__ import annotations

import os
import re
from hashlib import sha256
from typing import Final

__all__ = ["MAPPED_PREFIX", "from_native_id", "is_own_group", "new_id", "new_uuid", "own_group", "to_native_id"]

_LENGTH = 16  # bytes: 128 random bits, as in a UUID
_POOL = 256 * _LENGTH

_pool: list[str] = []


def new_id() -> str:
    """32 hexadecimal digits, 128 random bits; no two processes share a pool, not even after a fork.

    One read of the system's random source serves 256 identifiers: a third of the cost of ``uuid4``.
    """
    if not _pool:
        _pool.extend(os.urandom(_POOL).hex(" ", _LENGTH).split(" "))
    return _pool.pop()


def new_uuid() -> str:
    """A new id as the text of a UUID of version 4 (RFC 9562)."""
    digits = new_id()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.clear)


MAPPED_PREFIX: Final = "eip.sha256."
"""Prefix of every mapped id; a text that begins so by itself is mapped, too, so that no two texts meet."""

_NATIVE: Final = re.compile(r"(?!eip\.sha256\.)[!-~]{1,128}")
"""Texts that SQS and SNS accept as MessageGroupId and MessageDeduplicationId: 1 to 128 alphanumeric and punctuation
characters (SQS API reference, SendMessage)."""


def to_native_id(text: str) -> str:
    """The text as a message group id or deduplication id of SQS and SNS.

    A text that the services take passes unchanged. Any other (empty, too long, with spaces or letters beyond ASCII)
    becomes the prefix and its SHA-256: the same in every process and version, and no two texts become the same id.
    The text itself travels in the envelope, see `from_native_id`.
    """
    if _NATIVE.fullmatch(text):
        return text
    return MAPPED_PREFIX + sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def own_group(identity: str) -> str:
    """The group of a message without one, by its id, where a service wants a group; no text is mapped to it."""
    return MAPPED_PREFIX + sha256(b"\xff" + identity.encode("utf-8", "surrogatepass")).hexdigest()


def is_own_group(native: str | None, identity: str) -> bool:
    """Whether it is the `own_group` of the message of that id."""
    return native is not None and native.startswith(MAPPED_PREFIX) and native == own_group(identity)


def from_native_id(native: str | None, sent: str | None) -> str | None:
    """The id of a received message.

    Args:
        native: what the service holds; None where it holds none, e.g. on a standard queue without fair queues.
        sent: what the envelope holds. It wins where it maps to ``native``; otherwise the service's own id wins, since
            the service orders and deduplicates by that.
    """
    if native is None or (sent is not None and to_native_id(sent) == native):
        return sent
    return native
