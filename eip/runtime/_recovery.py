"""What becomes of a message whose handling failed: one pure function from the failure to an action."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final, NamedTuple, TypeAlias

from eip.channels import Delivery, Receiver
from eip.errors import (
    AddressRefused,
    ConfigurationError,
    DecodeError,
    InvalidMessage,
    Park,
    Reject,
    Retry,
    StateError,
    error_text,
)
from eip.message import Message
from eip.retry import Backoff
from eip.runtime._settings import GroupFailure

__all__ = [
    "ATTEMPTS_HEADER",
    "Attempt",
    "Attempts",
    "DeadLetter",
    "DelayedRetry",
    "ImmediateRetry",
    "ParkGroup",
    "RecoveryAction",
    "decide",
    "earlier_attempts",
    "is_counted",
    "is_permanent",
    "max_attempts",
]

_PERMANENT: Final = (Reject, DecodeError, InvalidMessage, AddressRefused, ConfigurationError)
"""Failures that another attempt would only repeat: of the message, or of the program.

Not `StateError`: what was closed while a handler was at work is open in the next process.
"""
_MAX_REMEMBERED: Final = 10_000
"""Messages whose attempts are remembered at once; the oldest is forgotten first."""


ATTEMPTS_HEADER: Final = "attempts"
"""Counts the attempts at a message that failed in a pack and was sent again on its own."""


def earlier_attempts(message: Message[Any]) -> int:
    """The attempts made before the message was sent again on its own; 0 if malformed (headers are untrusted)."""
    count = message.headers.get(ATTEMPTS_HEADER, "")
    return int(count) if count.isascii() and count.isdecimal() and len(count) < 9 else 0


class DeadLetter(NamedTuple):
    """To the dead-letter channel; the group goes on."""

    reason: str


class ParkGroup(NamedTuple):
    """To the dead-letter channel, with every later message of the group."""

    reason: str


class DelayedRetry(NamedTuple):
    """Back to the channel, with the waiting messages of its group, to come again after ``delay`` seconds."""

    delay: float


class ImmediateRetry(NamedTuple):
    """Once more in this process after ``delay`` seconds, the leases of its group kept."""

    delay: float


RecoveryAction: TypeAlias = DeadLetter | ParkGroup | DelayedRetry | ImmediateRetry


def is_permanent(error: BaseException) -> bool:
    """Whether another attempt would only repeat it, or the handler asked for none."""
    return isinstance(error, (*_PERMANENT, Park)) and not isinstance(error, StateError)


def is_counted(error: BaseException) -> bool:
    """Whether the failure counts as an attempt: not where the handler only asked to wait."""
    return not isinstance(error, Retry) or error.counted


def max_attempts(receiver: Receiver, retry: Backoff) -> int | None:
    """After how many attempts a message is dead-lettered; None: never, as without a channel for dead letters."""
    if receiver.dead_letters is None:
        return None
    limits = [each for each in (retry.max_attempts, receiver.max_receive_count) if each is not None]
    return min(limits, default=None)


def decide(
    delivery: Delivery,
    error: Exception,
    *,
    retry: Backoff,
    on_group_failure: GroupFailure = "block",
    grouped: bool = False,
    local_retries: int = 0,
    attempt: int = 1,
    seen: int = 0,
) -> RecoveryAction:
    """The action for a delivery whose handling raised ``error``.

    Args:
        delivery: what failed.
        error: what was raised.
        retry: how long to wait, and after how many attempts to give up.
        on_group_failure: what becomes of a message group whose head keeps failing.
        grouped: whether later messages of a group wait for this one.
        local_retries: how many retries in this process are left for it at this receive.
        attempt: which attempt at the message this was, from 1, earlier receives included.
        seen: attempts that this process saw fail, which the wait follows; 0: it follows ``attempt``. A receive whose
            answer was lost counts as attempts, but has failed at nothing.
    """
    wait = error.delay if isinstance(error, Retry) and error.delay is not None else retry.delay(seen or attempt)
    if not is_counted(error):
        return ImmediateRetry(wait)
    receiver, transient = delivery.receiver, not is_permanent(error)
    limit = max_attempts(receiver, retry)
    exhausted = limit is not None and attempt >= limit
    if transient and grouped and local_retries > 0 and not exhausted:
        return ImmediateRetry(wait)
    if receiver.dead_letters is None:
        return DelayedRetry(wait)
    # At the channel's last receive the consumer dead-letters in its place: the channel knows no reason, and giving a
    # group back once more would cost its tail a receive.
    last = receiver.max_receive_count is not None and delivery.receive_count >= receiver.max_receive_count
    if isinstance(error, Park) or (transient and grouped and on_group_failure == "park_group"):
        return ParkGroup(error_text(error))
    if not transient or exhausted or last or (grouped and on_group_failure == "dead_letter_and_continue"):
        return DeadLetter(error_text(error))
    return DelayedRetry(wait)


class Attempt(NamedTuple):
    """Which attempt at a message one was, from 1."""

    number: int
    """Of all."""
    here: int
    """Of those since its last receive."""
    seen: int = 0
    """Of those that this process saw fail; 0: it is not known."""


_Key: TypeAlias = tuple[str, str | None, float]


def _key(message: Message[Any]) -> _Key:
    """What tells a message from others: programs that do not know this library may give two messages one id."""
    return message.id, message.group_id, message.created_at


class Attempts:
    """How often the heads of message groups were tried: a receive may take several attempts.

    What other processes did with a message is not known, but for its receive count. Two facts bound it. A head is tried
    at most ``per_receive`` times at a receive, so each receive elsewhere counts as that many: the handler never runs
    more often than allowed. A message that comes behind another of its group was never tried, whatever its count.

    Args:
        per_receive: most attempts at a receive, by any process.
    """

    def __init__(self, per_receive: int) -> None:
        self._per_receive = per_receive
        self.made: OrderedDict[_Key, tuple[Attempt, int]] = OrderedDict()
        """By message: the last attempt, and the receive count it was made at."""

    def count(self, delivery: Delivery) -> Attempt:
        """Count an attempt that failed."""
        number, here, seen = self._last(delivery)
        attempt = Attempt(number + 1, here + 1, seen + 1)
        self._note(delivery, attempt)
        return attempt

    def unhandled(self, delivery: Delivery) -> None:
        """Note a receive that ends without a further attempt: behind a failed head, or at the end of the process."""
        self._note(delivery, self._last(delivery))

    def behind(self, delivery: Delivery) -> None:
        """Note a message that came behind another of its group: only the attempts made here have been made."""
        made = self.made.get(_key(delivery.message))
        self._note(delivery, Attempt(0, 0) if made is None else made[0]._replace(here=0))

    def forget(self, message: Message[Any]) -> None:
        """The message is done."""
        self.made.pop(_key(message), None)

    def _last(self, delivery: Delivery) -> Attempt:
        """The attempts so far, and those at this receive."""
        (number, here, seen), seen_at = self.made.get(_key(delivery.message), (Attempt(0, 0), 0))
        elsewhere = max(delivery.receive_count - seen_at - 1, 0)
        return Attempt(number + elsewhere * self._per_receive, here if delivery.receive_count == seen_at else 0, seen)

    def _note(self, delivery: Delivery, attempt: Attempt) -> None:
        made, key = self.made, _key(delivery.message)
        made[key] = attempt, delivery.receive_count
        made.move_to_end(key)
        if len(made) > _MAX_REMEMBERED:
            made.popitem(last=False)
