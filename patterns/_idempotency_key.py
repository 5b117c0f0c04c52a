"""What makes two messages the same to those that handle each message once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eip.errors import Reject
from eip.message import Message

__all__ = ["idempotency_key"]


def idempotency_key(message: Message[Any], key: Callable[[Message[Any]], str | None] | None, *, replays: bool) -> str:
    """The key under which a message is noted.

    Args:
        message: any message.
        key: the user's function; None: the message's id.
        replays: whether what a replay brings is a message of its own, once per replay.

    Raises:
        Reject: the user's function gives None.
    """
    found = message.id if key is None else key(message)
    if found is None:
        raise Reject("the message has no idempotency key")
    return f"{found}@{message.replay_name}" if replays and message.replay_name is not None else found
