"""What queues and topics share: messages become frames of one destination."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from eip.channels import Sender
from eip.codec import JSON, Codec
from eip.envelope import encoded_for
from eip.errors import ConfigurationError, InvalidMessage, MessageTooLarge
from eip.limits import Capabilities
from eip.message import Message
from eip.transports.activemq._batching import Entry
from eip.transports.activemq._client import Client
from eip.transports.activemq._encoding import encoded

__all__ = ["Publisher"]


class Publisher(Sender):
    """Sends to one destination of the broker.

    Args:
        client: the transport's.
        name: the channel's.
        destination: the broker's own name of it.
        address: the same as a return address.
    """

    system = "activemq"

    def __init__(self, client: Client, *, name: str, destination: str, address: str) -> None:
        self._client = client
        self.name, self.destination, self.address = name, destination, address
        self.limits: Capabilities = client.limits
        self.codec: Codec = JSON
        """Decodes the messages of other programs, and encodes bodies that have no codec of their own."""
        self._asked_for: Codec | None = None

    def use_codec(self, codec: Codec | None) -> None:
        """Let this codec read and write from now on; None: whatever it is.

        Raises:
            ConfigurationError: another one was asked for before: one of the two callers would read wrongly.
        """
        if codec is None:
            return
        had = self._asked_for
        if had is not None and (type(codec), codec.content_type) != (type(had), had.content_type):
            raise ConfigurationError(
                f"{self.name} has the codec of {had.content_type} already, got codec={codec.content_type}"
            )
        self.codec = self._asked_for = codec

    @override
    async def send(self, *messages: Message[Any], priority: int | None = None, persistent: bool = True) -> None:
        """Send the messages, confirmed; see `Sender.send`.

        Args:
            messages: in the order of sending.
            priority: 0 to 9; None: the broker's default, 4. A queue uses it only if its policy at the broker says so.
            persistent: whether the broker keeps it on disk; otherwise it is gone with the broker.
        """
        await self._send(messages, priority=priority, persistent=persistent)

    async def _send(
        self,
        messages: tuple[Message[Any], ...],
        *,
        priority: int | None,
        persistent: bool,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        if priority is not None and not 0 <= priority <= 9:
            raise InvalidMessage(f"priority must be 0 to 9, got {priority}")
        entries = [self._entry(each, priority=priority, persistent=persistent, extra=extra) for each in messages]
        if entries:
            await self._client.send(entries)

    def _entry(self, message: Message[Any], **options: Any) -> Entry:
        if not isinstance(message, Message):
            raise TypeError(f"messages must be Message, got {type(message).__name__}; wrap it: Message(...)")
        head, body = encoded(encoded_for(message, self.codec), destination=self.destination, **options)
        entry = Entry(message, self.name, head, body)
        limit = self.limits.message_bytes or 0
        if entry.size > limit:
            raise MessageTooLarge(entry.size, limit, channel=self.name)
        return entry

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"
