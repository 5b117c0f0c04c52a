"""Senders: what puts messages on a channel, and what wraps one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from eip.limits import UNLIMITED, Capabilities
from eip.message import Message

__all__ = ["Sender"]


class Sender(ABC):
    """Puts messages on a channel."""

    name: str
    """The channel's name, unique within its kind on the transport."""
    address: str
    """The text that `Transport.resolve` turns back into this sender; travels in ``return_address``."""
    system: str = "eip"
    """The service's name in OpenTelemetry's conventions (``messaging.system``)."""
    limits: Capabilities = UNLIMITED
    """The channel's limits."""

    @abstractmethod
    async def send(self, *messages: Message[Any]) -> None:
        """Send the messages; return when the service has accepted each one.

        Messages are sent in the order given, in as few calls as the service's limits allow. Transient failures are
        retried inside; a message is never sent again once the service confirmed it, but an answer that was lost means
        a duplicate. Order within a message group is kept, also by the retries.

        Raises:
            InvalidMessage: a message that cannot be carried; nothing of this call was sent.
            PartialSendError: some were accepted, some not; it holds the failed entries.
            SendError: none was accepted.
        """
