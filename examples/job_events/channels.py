"""The channels: one FIFO topic, a queue for each service, and where what went wrong is kept; declared once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from eip import Queue, Source, Topic
from eip.matching import FilterPolicy
from eip.topology import QueueSpec, SubscriptionSpec, TopicSpec, Topology

__all__ = ["ANALYTICS", "DEAD_LETTERS", "INVALID", "INVENTORY", "TOPIC", "WANTED_BY_INVENTORY", "Channels", "topology"]

TOPIC: Final = "JobEvents.fifo"
ANALYTICS: Final = "AnalyticsJobEvents.fifo"
INVENTORY: Final = "InventoryJobEvents.fifo"
INVALID: Final = "JobChanges-invalid"
"""Changes that are no event: the Invalid Message Channel (Hohpe & Woolf, chapter 4)."""
DEAD_LETTERS: Final = {
    "analytics": "AnalyticsJobEvents-dead.fifo",
    "inventory": "InventoryJobEvents-dead.fifo",
    "analytics, undelivered": "JobEvents-analytics-undelivered.fifo",
    "inventory, undelivered": "JobEvents-inventory-undelivered.fifo",
}
"""By what they are of: what a service could not handle, and what the topic could not deliver to its queue."""
WANTED_BY_INVENTORY: Final = FilterPolicy({"eventType": ["JobCreated", "JobDeleted"]})


def topology(*, visibility: float = 30.0) -> Topology:
    """Everything, as the reference system has it: three receives, then the dead-letter queue.

    ``visibility``: seconds of a lease, which is how long the messages of a killed service wait for the next.
    """
    analytics = QueueSpec(ANALYTICS, visibility=visibility, max_receive_count=3)
    inventory = QueueSpec(INVENTORY, visibility=visibility, max_receive_count=3)
    return Topology(
        TopicSpec(TOPIC),
        SubscriptionSpec(TOPIC, "analytics", queue=analytics),
        SubscriptionSpec(TOPIC, "inventory", queue=inventory, filter=WANTED_BY_INVENTORY),
        QueueSpec(INVALID, dead_letters=False),
    )


class Channels(Protocol):
    """The channels on one transport."""

    topic: Topic
    invalid: Queue
    analytics: Source
    inventory: Source
    dead_letters: Mapping[str, Queue]
    """Those of `DEAD_LETTERS`, as far as the transport has them."""

    async def settled(self) -> None:
        """Return once what the topic accepted cannot be lost."""
        ...

    async def depth(self, name: str) -> int | None:
        """How many messages a queue holds; None where the transport does not tell."""
        ...

    async def redrive(self, label: str) -> int:
        """Send the dead letters of one kind to the queue they failed on, or for; how many."""
        ...
