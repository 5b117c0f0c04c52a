"""What the services can carry and do, for their drivers and the embedded channels that imitate them.

Sources: the quota pages of each service's developer guide, as of November 2026.
"""

from __future__ import annotations

from typing import Final

from eip.limits import KIB, MIB, Capabilities

__all__ = ["ACTIVEMQ", "EVENTBRIDGE", "KINESIS", "SNS", "SQS"]

KINESIS: Final = Capabilities(message_bytes=MIB, batch_entries=500, batch_bytes=5 * MIB, unit_bytes=25 * KIB)
"""What every stream takes; since 2025 a stream can be configured for records, and calls, of up to 10 MiB."""

SQS: Final = Capabilities(
    message_bytes=MIB,
    batch_entries=10,
    batch_bytes=MIB,
    attributes=10,
    unit_bytes=64 * KIB,
    max_delay=900.0,
    max_lease=12 * 3600.0,
    long_poll=20.0,
)

SNS: Final = Capabilities(
    message_bytes=256 * KIB, batch_entries=10, batch_bytes=256 * KIB, attributes=10, unit_bytes=64 * KIB
)

EVENTBRIDGE: Final = Capabilities(
    message_bytes=MIB - KIB, batch_entries=10, batch_bytes=MIB, unit_bytes=64 * KIB, beside_bytes=14, object_bodies=True
)
"""An entry may have 1 MiB since January 2026; a KiB is left for the event around it, or no queue could take that."""

ACTIVEMQ: Final = Capabilities(message_bytes=100 * MIB, batch_entries=100, batch_bytes=4 * MIB)
"""The broker's own limit of a STOMP frame, and what we put into one transaction."""
