"""The kinds of channel: queues, topics, buses and streams, and what their messages are read from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

from typing_extensions import override

from eip.channels._receiving import Delivery, Receiver
from eip.channels._sending import Sender
from eip.limits import UNLIMITED, Capabilities
from eip.message import Message

if TYPE_CHECKING:
    from eip.matching import EventPattern, FilterPolicy

__all__ = ["Bus", "Filter", "Queue", "Source", "Stream", "Topic"]

Filter: TypeAlias = "FilterPolicy | EventPattern | Callable[[Message[Any]], bool]"
"""Narrows a subscription; drivers push down what their service can evaluate exactly."""


_PURGE_BATCH: Final = 100
_LAST_WAIT_S: Final = 1.0
"""How long a queue may take to hand out a message that is there."""


class Source(ABC):
    """The source of a `Consumer`: opens receivers."""

    name: str
    limits: Capabilities = UNLIMITED
    """Limits of the channel: its longest lease and delay, among others."""
    retry_queue: Queue | None = None
    """Queue for re-sending a single failed message of a pack; None if the source is a queue itself, or has none."""

    @abstractmethod
    def receiver(self, *, capacity: int = 10) -> Receiver:
        """A receiver for one consumer that holds at most ``capacity`` deliveries; use it with ``async with``."""


class Queue(Sender, Source):
    """Point-to-point: each message goes to one consumer (pattern "Point-to-Point Channel")."""

    @abstractmethod
    @override
    async def send(self, *messages: Message[Any], delay: float = 0.0) -> None:
        """Send the messages, to be received no earlier than ``delay`` seconds from now; see `Sender.send`."""

    async def depth(self) -> Mapping[str, int] | None:
        """About how many messages are ``ready``, ``delayed`` and ``leased``; None: the service does not tell.

        Asks the service each time, which may be billed.
        """
        return None

    peek_is_receive: ClassVar[bool] = True
    """Whether `peek` counts as a receive of each message, so that it may bring one nearer to the dead letters."""

    async def peek(self, limit: int = 10, *, max_bytes: int | None = None) -> Sequence[Message[Any]]:
        """Up to ``limit`` of its first messages, which stay in it.

        Where `peek_is_receive`, they are received and given back at once: their receive counts are raised.

        Args:
            limit: messages at most.
            max_bytes: bytes of bodies after which no more are read; the one that exceeds them is the last. None: any.
        """
        taken: list[Delivery] = []
        async with self.receiver(capacity=limit) as receiver:
            try:
                await _take(receiver, limit, taken, max_bytes=max_bytes)
            finally:
                await receiver.nack(taken[::-1])
        return [each.message for each in taken]

    async def purge(self) -> int | None:
        """Remove all messages that can be received; returns how many, None where the service does not tell."""
        removed = 0
        async with self.receiver(capacity=_PURGE_BATCH) as receiver:
            while taken := await _take(receiver, _PURGE_BATCH, []):
                removed += len(taken) - len(await receiver.ack(taken))
        return removed


class Topic(Sender):
    """Publish-subscribe: each subscription gets every message that its filter lets through."""

    @abstractmethod
    def subscription(self, name: str, *, filter: Filter | None = None) -> Source:  # noqa: A002 - the field's term
        """The named subscription's messages; consumers of the same name share them."""


class Bus(Sender):
    """Event bus: rules with event patterns route each event to their targets."""

    @abstractmethod
    def subscription(self, name: str, *, pattern: Filter | None = None) -> Source:
        """The named rule's events; consumers of the same name share them."""


class Stream(Sender):
    """Partitioned log: messages with one key keep their order and can be read again."""

    @abstractmethod
    def group(self, name: str) -> Source:
        """The stream as read by the named group of consumers, who share its shards and its checkpoints."""


async def _take(
    receiver: Receiver, limit: int, taken: list[Delivery], *, max_bytes: int | None = None
) -> list[Delivery]:
    """Add what the receiver hands out at once to ``taken``, up to ``limit`` and ``max_bytes``; return it."""
    size = 0
    while len(taken) < limit and (max_bytes is None or size < max_bytes):
        more = await receiver.receive(min(limit - len(taken), receiver.max_batch), wait=_LAST_WAIT_S)
        if not more:
            break
        taken += more
        size += sum(len(each.message.raw or b"") for each in more)
    return taken
