"""Limits and abilities of a channel, as data that its driver declares; sizes are checked before anything is sent.

Sizes are bytes of UTF-8, attributes (names, types and values) included.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["KIB", "MIB", "UNLIMITED", "Capabilities", "Limits"]

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Limits and abilities of one channel; None means no limit."""

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
    """Bytes that the service counts for a message on top of its body, attributes and envelope."""
    max_delay: float | None = None
    """Longest delay of one message, in seconds."""
    max_lease: float | None = None
    """Longest time from receive to settlement, in seconds, however often the lease is extended."""
    object_bodies: bool = False
    """Whether a body has to be a JSON object, as an event's detail."""
    long_poll: float | None = None
    """Longest wait of one receive call, in seconds."""


Limits = Capabilities
"""The earlier name of `Capabilities`."""

UNLIMITED = Capabilities()
