"""What services can carry and do, as data in one place; sizes are checked before anything is sent.

Sizes are bytes of UTF-8, attributes (names, types and values) included. Sources: the quota pages of each service's
developer guide, as of November 2026.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ACTIVEMQ", "EVENTBRIDGE", "KIB", "KINESIS", "MIB", "SNS", "SQS", "UNLIMITED", "Capabilities", "Limits"]

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What one channel accepts and allows; None means no limit."""

    message_bytes: int | None = None
    """One message with its attributes."""
    batch_entries: int | None = None
    """Messages of one call."""
    batch_bytes: int | None = None
    """All messages of one call."""
    attributes: int | None = None
    """Message attributes, the one that carries the envelope included."""
    unit_bytes: int | None = None
    """The billed unit of payload: a larger message is billed as several."""
    beside_bytes: int = 0
    """What the service counts for a message besides its body, attributes and envelope."""
    max_delay: float | None = None
    """Longest delay of one message, in seconds."""
    max_lease: float | None = None
    """Longest time from receive to settlement, in seconds, however often the lease is extended."""
    long_poll: float | None = None
    """Longest wait of one receive call, in seconds."""


Limits = Capabilities
"""The earlier name of `Capabilities`."""

UNLIMITED = Capabilities()

KINESIS = Capabilities(message_bytes=MIB, batch_entries=500, batch_bytes=5 * MIB, unit_bytes=25 * KIB)
"""What every stream takes; since 2025 a stream can be told to take records, and calls, of up to 10 MiB."""

SQS = Capabilities(
    message_bytes=MIB,
    batch_entries=10,
    batch_bytes=MIB,
    attributes=10,
    unit_bytes=64 * KIB,
    max_delay=900.0,
    max_lease=12 * 3600.0,
    long_poll=20.0,
)
SNS = Capabilities(message_bytes=256 * KIB, batch_entries=10, batch_bytes=256 * KIB, attributes=10, unit_bytes=64 * KIB)
EVENTBRIDGE = Capabilities(
    message_bytes=MIB - KIB, batch_entries=10, batch_bytes=MIB, unit_bytes=64 * KIB, beside_bytes=14
)
"""An entry may have 1 MiB since January 2026; a KiB is left for the event around it, or no queue could take that."""

ACTIVEMQ = Capabilities(message_bytes=100 * MIB, batch_entries=100, batch_bytes=4 * MIB)
"""The broker's own limit of a STOMP frame, and what we put into one transaction."""
