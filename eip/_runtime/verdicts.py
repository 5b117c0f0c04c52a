"""What becomes of a message whose handling failed: one pure function from the failure to a verdict."""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from eip.channels import Delivery
from eip.errors import AddressRefused, DecodeError, InvalidMessage, Park, Reject, Retry
from eip.retry import Backoff

from .settings import GroupFailure

__all__ = ["DeadLetter", "Later", "Local", "ParkGroup", "Verdict", "is_permanent", "judge"]

_PERMANENT: Final = (Reject, DecodeError, InvalidMessage, AddressRefused)
"""Failures that another attempt would only repeat."""


class DeadLetter(NamedTuple):
    """To the dead-letter channel; the group goes on."""

    reason: str


class ParkGroup(NamedTuple):
    """To the dead-letter channel, with every later message of the group."""

    reason: str


class Later(NamedTuple):
    """Back to the channel, with the waiting messages of its group, to come again after ``delay`` seconds."""

    delay: float


class Local(NamedTuple):
    """Once more in this process after ``delay`` seconds, the leases of its group kept."""

    delay: float


Verdict: TypeAlias = DeadLetter | ParkGroup | Later | Local


def is_permanent(error: Exception) -> bool:
    """Whether another attempt would only repeat it, or the handler asked for none."""
    return isinstance(error, (*_PERMANENT, Park))


def judge(
    delivery: Delivery,
    error: Exception,
    *,
    retry: Backoff,
    on_group_failure: GroupFailure = "block",
    grouped: bool = False,
    retries_left: int = 0,
    attempt: int = 1,
) -> Verdict:
    """The verdict on a delivery whose handling raised ``error``.

    Args:
        delivery: what failed.
        error: what was raised.
        retry: how long to wait, and after how many receives to give up.
        on_group_failure: what becomes of a message group whose head keeps failing.
        grouped: whether later messages of a group wait for this one.
        retries_left: how many retries in this process it has left.
        attempt: how many attempts were made at this message, earlier receives included.
    """
    wait = error.delay if isinstance(error, Retry) and error.delay is not None else retry.delay(attempt)
    transient = not is_permanent(error)
    if transient and grouped and retries_left > 0:
        return Local(wait)
    if delivery.receiver.dead_letters is None:
        return Later(wait)
    # Blocking until the channel gives up would burn the receive counts of the whole tail, so do it in its place.
    limits = (retry.max_attempts, delivery.receiver.max_receive_count if grouped else None)
    last = any(limit is not None and delivery.receive_count >= limit for limit in limits)
    if isinstance(error, Park) or (transient and grouped and on_group_failure == "park_group"):
        return ParkGroup(_reason(error))
    if not transient or last or (grouped and on_group_failure == "dead_letter_and_continue"):
        return DeadLetter(_reason(error))
    return Later(wait)


def _reason(error: Exception) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
