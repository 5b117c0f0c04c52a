"""What becomes of messages that come too late: one set of words."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from eip.channels import Sender
from eip.errors import ConfigurationError, Reject
from eip.message import Message

__all__ = ["OnLate", "check_late", "turn_away"]

OnLate: TypeAlias = Literal["drop", "dead_letter"] | Sender
_WORDS: Final = ("drop", "dead_letter")


def check_late(name: str, policy: OnLate) -> None:
    """Raise `ConfigurationError`, with the argument's name, unless it is a policy."""
    if policy not in _WORDS and not isinstance(policy, Sender):
        raise ConfigurationError(f"{name} must be 'drop', 'dead_letter' or a channel, got {policy!r}")


async def turn_away(message: Message[Any], policy: OnLate, reason: str) -> None:
    """Do with a late message what the policy asks for; raises `Reject`, with the reason, to dead-letter it."""
    if policy == "dead_letter":
        raise Reject(reason)
    if isinstance(policy, Sender):
        await policy.send(message)
