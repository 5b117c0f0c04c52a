"""The channels of the application, whatever transport they are on."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from typing_extensions import override

from eip import Message, Queue, ReturnAddresses, Sender, Source, Topic, Transport
from eip import topology as declared
from eip.transports.memory import MemoryTransport
from examples.rfq.vicinity import all_zones

__all__ = ["PREFIX", "REPLIES", "UNREADABLE", "Channels", "MemoryChannels"]

PREFIX: Final = "rfq-"
"""What the names of all channels begin with."""
REPLIES: Final = f"{PREFIX}replies"
"""The shared reply queue, and what the names of all reply queues begin with: unicorns answer to those only."""
UNREADABLE: Final = declared.QueueSpec(f"{PREFIX}questions-dead", dead_letters=False, retention=timedelta(days=14))
"""Of all unicorns: the questions that they can make nothing of."""
LEASE: Final = 10.0
"""Seconds after which another process takes over what a killed one was busy with; living ones extend it."""
OWN_REPLIES: Final = declared.QueueSpec(REPLIES, visibility=LEASE)
"""The shared reply queue, and what each of a customer's own is like."""
CALLBACKS: Final = declared.QueueSpec(f"{PREFIX}callbacks", visibility=2 * LEASE, max_receive_count=10)
"""As many receives as there are attempts to call a URL."""


class Channels(ABC):
    """What booking and unicorns talk through.

    Args:
        transport: what the channels are on.
    """

    durable: bool
    """Whether what was sent outlives the process."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.return_addresses = ReturnAddresses(transport, prefix=REPLIES)
        """Which addresses unicorns may answer to."""

    @property
    def replies(self) -> Queue:
        """Where unicorns answer, unless the customer has a queue of their own."""
        return self.transport.queue(REPLIES)

    @property
    def presence(self) -> Queue:
        """Where unicorns announce their places."""
        return self.transport.queue(f"{PREFIX}presence")

    @property
    def unreadable(self) -> Queue:
        """Where unicorns put questions that they can make nothing of, or may not answer."""
        return self.transport.queue(UNREADABLE.name)

    @property
    def callbacks(self) -> Queue:
        """Of RFQs that are complete, and whose customers want to be called."""
        return self.transport.queue(CALLBACKS.name)

    def zone(self, zone: str) -> Topic:
        """The topic of a zone: who is there is asked for quotes."""
        return self.transport.topic(f"{PREFIX}zone-{zone}")

    def zones(self, zones: Sequence[str]) -> Sender:
        """The topics of several zones as one."""
        topics = [self.zone(zone) for zone in zones]
        return topics[0] if len(topics) == 1 else _Several(topics)

    def queues(self) -> declared.Topology:
        """The queues of the application, with those of their dead letters."""
        presence = declared.QueueSpec(self.presence.name, visibility=LEASE)
        return declared.Topology(OWN_REPLIES, presence, CALLBACKS, UNREADABLE)

    async def prepare(self) -> None:
        """Make what is missing of queues and topics."""
        zones = [declared.TopicSpec(self.zone(zone).name) for zone in all_zones()]
        await declared.Topology(*self.queues().resources, *zones).apply(self.transport)

    @abstractmethod
    async def enter(self, zone: str, unicorn: str) -> Source:
        """Subscribe a unicorn to a zone; where its questions come from. The same object: nothing changed about that."""

    @abstractmethod
    async def leave(self, zone: str, unicorn: str) -> None:
        """End that subscription."""

    async def forget(self, unicorn: str) -> None:
        """Remove what is left of a unicorn that is gone for good; nothing, where another process may use that."""
        del unicorn


class _Several(Sender):
    """Sends each message to several channels: returns once all of them have accepted it."""

    def __init__(self, senders: Sequence[Sender]) -> None:
        self._senders = senders
        self.name, self.address, self.limits = senders[0].name, senders[0].address, senders[0].limits

    @override
    async def send(self, *messages: Message[Any]) -> None:
        """Send the messages to each; the first failure of a channel is raised once all have been tried."""
        outcomes = await asyncio.gather(*(each.send(*messages) for each in self._senders), return_exceptions=True)
        for failure in outcomes:
            if failure is not None:
                raise failure


class MemoryChannels(Channels):
    """Everything in this process."""

    durable = False

    def __init__(self, transport: MemoryTransport) -> None:
        super().__init__(transport)
        self._memory = transport

    async def enter(self, zone: str, unicorn: str) -> Source:
        """See `Channels.enter`."""
        return self._memory.topic(self.zone(zone).name).subscription(unicorn)

    async def leave(self, zone: str, unicorn: str) -> None:
        """See `Channels.leave`."""
        self._memory.topic(self.zone(zone).name).unsubscribe(unicorn)

    async def forget(self, unicorn: str) -> None:
        """See `Channels.forget`: its queues in all zones, whose messages have expired."""
        for zone in all_zones():
            topic = self._memory.topic(self.zone(zone).name)
            queue = topic.subscription(unicorn)
            topic.unsubscribe(unicorn)
            await self._memory.remove_queue(queue.name)
