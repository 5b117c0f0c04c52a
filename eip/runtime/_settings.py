"""Options and counts of a consumer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from eip._histogram import COUNTS, Histogram
from eip.channels import Sender
from eip.channels.addresses import ReturnAddresses
from eip.retry import Backoff
from eip.runtime.handlers import Handler

__all__ = ["GroupFailure", "OnExpired", "Settings", "Stats"]

GroupFailure: TypeAlias = Literal["block", "dead_letter_and_continue", "park_group"]
OnExpired: TypeAlias = Literal["drop", "dead_letter", "handle"]


_MAX_REASONS: Final = 100
"""Kinds of reasons that are counted on their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A consumer's options, checked; durations in seconds."""

    name: str
    handler: Handler
    handler_name: str
    concurrency: int
    polls: int
    output: Sender | None
    replies: ReturnAddresses | None
    retry: Backoff
    on_group_failure: GroupFailure
    local_retries: int
    on_expired: OnExpired
    max_processing: float
    grace: float


@dataclass(slots=True)
class Stats:
    """Counts since the consumer was made; each only grows, save `in_flight`."""

    received: int = 0
    """Deliveries taken from the channel."""
    handled: int = 0
    """Handled with success, their results sent; a pack is one."""
    packs: int = 0
    """Packs of which each message was handled, sent again or dead-lettered; they are in `handled`."""
    unpacked: int = 0
    """Messages that came in packs and were handled with success."""
    retried: int = 0
    """Failed, and tried again in this process or given back for later."""
    dead_lettered: int = 0
    """Moved to the dead-letter channel by this consumer."""
    expired: int = 0
    """Dropped or dead-lettered unhandled, as they were past their expiry."""
    released: int = 0
    """Given back unhandled, at shutdown or behind a failed message of their group."""
    lost: int = 0
    """Leases that ended before the message was settled: another consumer gets the message."""
    in_flight: int = 0
    """Being handled now, or next in line for it."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Of dead letters: how many for each kind of reason, the error's type where a handler failed."""
    pack_sizes: Histogram = field(default_factory=lambda: Histogram(COUNTS))
    """How many messages each pack held."""

    def count_dead_letter(self, reason: str) -> None:
        """Count a message that was moved to the dead-letter channel, by the kind of its reason."""
        self.dead_lettered += 1
        kind = reason.partition(":")[0]
        self.reasons[kind if kind in self.reasons or len(self.reasons) < _MAX_REASONS else "(others)"] += 1

    @property
    def messages(self) -> int:
        """Messages handled with success, those in packs one by one: what a bill is divided by."""
        return self.handled - self.packs + self.unpacked
