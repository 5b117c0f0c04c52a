"""A message that was received over one connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from eip.channels import Delivery, Receiver
from eip.envelope import ENVELOPE_KEY
from eip.errors import DecodeError
from eip.message import Message
from eip.transports.activemq._stomp.connection import Connection

__all__ = ["ActiveMQDelivery", "NoContents", "may_hold_more"]


_TELLS_THE_KIND: Final = frozenset(("amq-msg-type", "content-length", ENVELOPE_KEY))
"""Headers of which one is there if it is a BytesMessage, or of a program that speaks STOMP."""


class NoContents(DecodeError):
    """STOMP carries texts and bytes only: a map, a stream or an object of JMS comes without its contents."""

    def __init__(self) -> None:
        super().__init__("it may be a map, a stream or an object of JMS, whose contents STOMP does not carry")


def may_hold_more(headers: Mapping[str, str], body: bytes) -> bool:
    """Return whether a message may have contents that STOMP does not carry. An empty TextMessage looks the same."""
    return not body and _TELLS_THE_KIND.isdisjoint(headers)


class ActiveMQDelivery(Delivery):
    """A message held over one connection, with its headers as the broker sent them."""

    __slots__ = ("ack_ids", "connection", "headers")

    def __init__(
        self,
        receiver: Receiver,
        message: Message[Any],
        *,
        connection: Connection,
        headers: Mapping[str, str],
        ack_ids: Sequence[str],
        receive_count: int,
        error: Exception | None,
    ) -> None:
        super().__init__(receiver, message, receive_count=receive_count, error=error)
        self.connection, self.headers = connection, headers
        self.ack_ids = ack_ids
        """The broker's ids of it on this connection: one, or several candidates where the head is malformed."""

    @property
    def may_hold_more(self) -> bool:
        """Whether a copy may lack its contents; see `may_hold_more`."""
        return may_hold_more(self.headers, self.message.raw or b"")

    def next_attempt(self) -> ActiveMQDelivery:
        """Return the delivery that follows when this one is given back: the message as it came, not as it was left."""
        return ActiveMQDelivery(
            self.receiver,
            self.message.with_encoded(self.message.raw or b""),
            connection=self.connection,
            headers=self.headers,
            ack_ids=self.ack_ids,
            receive_count=self.receive_count + 1,
            error=self.error,
        )
