"""The application's channels on ActiveMQ: a virtual topic for each zone, queues, and a queue for each subscription."""

from __future__ import annotations

from eip import Source
from examples.rfq.channels import Channels

__all__ = ["ActiveMQChannels"]


class ActiveMQChannels(Channels):
    """A unicorn has a queue in each zone that it was in, of which it reads the one of the zone that it is in."""

    durable = True

    async def enter(self, zone: str, unicorn: str) -> Source:
        """See `Channels.enter`; the broker makes the subscription when it is first read."""
        return self.zone(zone).subscription(unicorn)

    async def leave(self, zone: str, unicorn: str) -> None:
        """See `Channels.leave`: nobody reads that queue any more.

        A client cannot take it away. What comes to it expires with its RFQ, and the broker removes it where its policy
        says so (``gcInactiveDestinations``).
        """
