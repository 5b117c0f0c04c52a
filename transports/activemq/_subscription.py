"""What a receiver subscribes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

__all__ = ["SUBSCRIPTION_ID", "OnEmpty", "Subscription"]

SUBSCRIPTION_ID: Final = "s"
"""Of a connection's only subscription."""

OnEmpty: TypeAlias = Literal["dead_letter", "handle"]
"""What becomes of another program's message without a body; see `eip.transports.activemq.ActiveMQTransport.queue`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A destination, and how much of it the broker hands out ahead."""

    destination: str
    name: str
    """The channel's, for logs and errors."""
    capacity: int
    """How many deliveries its consumer holds at most."""
    extra_prefetch: int = 0
    """How many more messages the broker may hand out: those that wait behind a failed head of their group."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """More headers of SUBSCRIBE: a selector, the name of a durable subscription."""
    on_empty: OnEmpty = "dead_letter"
    client_id: str | None = None
    """Whom a durable subscription belongs to."""

    @property
    def max_held(self) -> int:
        """How many deliveries its consumer holds at most, at least one."""
        return max(1, self.capacity)

    @property
    def prefetch(self) -> int:
        """How many messages the broker may hand out before the first is settled."""
        return self.max_held + self.extra_prefetch

    @property
    def connect_headers(self) -> dict[str, str]:
        """More headers of CONNECT."""
        return {} if self.client_id is None else {"client-id": self.client_id}

    @property
    def subscribe_headers(self) -> dict[str, str]:
        """The headers of SUBSCRIBE."""
        return {
            "id": SUBSCRIPTION_ID,
            "destination": self.destination,
            "ack": "client-individual",
            "activemq.prefetchSize": str(self.prefetch),
            **self.headers,
        }
