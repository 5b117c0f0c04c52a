"""Transports: the drivers, each of which hands out the channels of one service or broker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, NoReturn

from eip.channels._kinds import Bus, Queue, Stream, Topic
from eip.channels._opening import Opening
from eip.channels._sending import Sender
from eip.channels._temporary import TemporaryQueue
from eip.errors import UnsupportedChannel
from eip.health import Health

__all__ = ["ServerInfo", "Transport"]


class ServerInfo(NamedTuple):
    """A server that channels are on, as documents name it; without credentials."""

    name: str
    protocol: str
    """Of AsyncAPI where that has a word for it: ``sqs``, ``sns``, ``kinesis``, ``stomp``, ..."""
    host: str
    """Name and port, as in a URL."""
    kinds: Sequence[str]
    """Of channels that it has."""


class Transport(Opening, ABC):
    """Hands out the channels of one service or broker; an async context manager.

    Channels are cheap, and asking twice for a name gives the same channel.
    """

    kinds: ClassVar[tuple[str, ...]]
    """Of ``"queue"``, ``"topic"``, ``"bus"``, ``"stream"``: the kinds of channel it has."""

    def queue(self, name: str) -> Queue:
        """The queue of that name."""
        del name
        self._unsupported("queue")

    def topic(self, name: str) -> Topic:
        """The topic of that name."""
        del name
        self._unsupported("topic")

    def bus(self, name: str = "default") -> Bus:
        """The event bus of that name."""
        del name
        self._unsupported("bus")

    def stream(self, name: str) -> Stream:
        """The stream of that name."""
        del name
        self._unsupported("stream")

    def temporary_queue(self, name: str = "replies") -> TemporaryQueue:
        """A new queue for replies to this process, which ends with its block, or else with the transport.

        Args:
            name: what its name begins with, where names can be chosen: what `eip.ReturnAddresses` has as ``prefix``.
        """
        del name
        self._unsupported("temporary queue")

    async def remove_queue(self, name: str) -> None:
        """Remove the queue of that name with what is in it, if there is one.

        ActiveMQ removes a queue that nobody uses by itself, where its policy says so: nothing is done there.
        """
        del name
        self._unsupported("queue")

    @abstractmethod
    def resolve(self, address: str) -> Sender:
        """The sender of an address; raises `AddressRefused` for one that is not of this transport.

        Addresses in messages come from strangers: go through `eip.addresses.ReturnAddresses` for those.
        """

    @abstractmethod
    def queue_addresses(self, prefix: str) -> str:
        """The addresses, as a pattern with ``*``, of this account's or broker's queues whose names begin so."""

    def servers(self) -> Sequence[ServerInfo]:
        """Where its channels are; may be called before it is open. The default knows of none."""
        return ()

    def health(self) -> Health:
        """Whether the service answered the last calls; the default knows of no failure."""
        return Health(ok=True)

    def _unsupported(self, kind: str) -> NoReturn:
        raise UnsupportedChannel(type(self).__name__, kind, self.kinds)
