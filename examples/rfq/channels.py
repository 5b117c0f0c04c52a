"""The channels of the application, whatever transport they are on."""

from __future__ import annotations

from typing import Protocol

from eip import Queue, ReturnAddresses, Source, Topic, Transport
from eip.transports.memory import MemoryTransport

__all__ = ["Channels", "MemoryChannels"]

PREFIX = "rfq-"


class Channels(Protocol):
    """What booking and unicorns talk through."""

    replies: Queue
    """Where unicorns answer."""
    presence: Queue
    """Where unicorns say where they are."""
    return_addresses: ReturnAddresses
    """Which addresses unicorns may answer to."""

    def zone(self, zone: str) -> Topic:
        """The topic of a zone: who is there is asked for quotes."""
        ...

    async def enter(self, zone: str, unicorn: str) -> Source:
        """Subscribe a unicorn to a zone."""
        ...

    async def leave(self, zone: str, unicorn: str) -> None:
        """End that subscription."""
        ...


class MemoryChannels:
    """Everything in this process."""

    def __init__(self, transport: MemoryTransport) -> None:
        self._transport = transport
        self.replies: Queue = transport.queue(f"{PREFIX}replies")
        self.presence: Queue = transport.queue(f"{PREFIX}presence")
        self.return_addresses = ReturnAddresses(transport, prefix=PREFIX)

    @property
    def transport(self) -> Transport:
        """The transport they are of."""
        return self._transport

    def zone(self, zone: str) -> Topic:
        """See `Channels.zone`."""
        return self._transport.topic(f"{PREFIX}{zone}")

    async def enter(self, zone: str, unicorn: str) -> Source:
        """See `Channels.enter`."""
        return self._transport.topic(f"{PREFIX}{zone}").subscription(unicorn)

    async def leave(self, zone: str, unicorn: str) -> None:
        """See `Channels.leave`."""
        self._transport.topic(f"{PREFIX}{zone}").unsubscribe(unicorn)
