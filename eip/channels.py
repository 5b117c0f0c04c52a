"""Channels and what a driver implements: senders, receivers, deliveries, and the transport that hands them out.

The contracts in the docstrings are what `eip.testing.conformance` holds every transport to.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from asyncio import get_running_loop
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from hashlib import blake2b
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, NoReturn, Self, TypeAlias

from eip._logging import get_logger
from eip.errors import ConfigurationError, InvalidMessage, LeaseLost, SendError, TransportError, UnsupportedChannel
from eip.health import Health
from eip.limits import UNLIMITED, Limits
from eip.message import Message

if TYPE_CHECKING:
    from eip.matching import EventPattern, FilterPolicy

__all__ = [
    "Bus",
    "Delivery",
    "Filter",
    "Queue",
    "Receiver",
    "Sender",
    "Source",
    "Stream",
    "Topic",
    "Transport",
    "Unsettled",
    "dead_lettered",
    "put_aside",
    "revived",
    "send_dead_letter",
]

_log = get_logger("eip.channels")

Filter: TypeAlias = "FilterPolicy | EventPattern | Callable[[Message[Any]], bool]"
"""What a subscription can be narrowed by; drivers push down what their service can evaluate exactly."""


class Sender(ABC):
    """Puts messages on a channel."""

    name: str
    """The channel's name, unique within its kind on the transport."""
    address: str
    """What `Transport.resolve` turns back into this sender; travels in ``return_address``."""
    limits: Limits = UNLIMITED

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


class Delivery:
    """One message on lease to this process: `ack`, `nack` or `dead_letter` it before the lease ends.

    All verbs are idempotent: the first that succeeds settles, later ones do nothing. Drivers subclass it to hold their
    receipt.
    """

    __slots__ = ("error", "lease_until", "message", "on_acked", "receive_count", "receiver", "settled")

    def __init__(
        self,
        receiver: Receiver,
        message: Message[Any],
        *,
        receive_count: int = 1,
        lease_until: float | None = None,
        error: Exception | None = None,
    ) -> None:
        self.receiver = receiver
        self.message = message
        self.receive_count = receive_count
        """How many times the channel handed the message out, this time included."""
        self.lease_until = lease_until
        """When the lease ends by the event loop's clock; None: it lasts as long as the receiver's connection."""
        self.error = error
        """Why the driver could not read the envelope; such a message is dead-lettered with its raw body."""
        self.settled = False
        self.on_acked: list[Callable[[], None]] | None = None
        """Called once the channel has forgotten the message because it was handled, not because it was moved."""

    async def ack(self) -> None:
        """The message is done: the channel forgets it. Raises `LeaseLost` where the lease ended before."""
        await self._settle(self.receiver.ack)

    async def nack(self, *, delay: float = 0.0) -> None:
        """Give the message back; it is delivered again after ``delay`` seconds, with its receive count raised."""
        await self._settle(lambda deliveries: self.receiver.nack(deliveries, delay=delay))

    async def extend(self, seconds: float) -> None:
        """Let the lease end ``seconds`` from now. Raises `LeaseLost`."""
        if not self.settled:
            _raise_first(await self.receiver.extend((self,), seconds))

    async def dead_letter(self, reason: str) -> None:
        """Move the message to the dead-letter channel, with the reason in its headers.

        Raises `ConfigurationError` where the channel has none.
        """
        if not self.settled:
            await self.receiver.dead_letter(self, reason)
            self.settled = True

    async def _settle(self, verb: Callable[[Sequence[Delivery]], Any]) -> None:
        if not self.settled:
            _raise_first(await verb((self,)))
            self.settled = True

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.message.id} receive_count={self.receive_count} settled={self.settled}>"


class Unsettled(NamedTuple):
    """A delivery that the service did not settle, and why: `LeaseLost`, or a `TransportError` to try again."""

    delivery: Delivery
    error: Exception


def _raise_first(failed: Sequence[Unsettled]) -> None:
    if failed:
        raise failed[0].error


def _call_on_acked(deliveries: Sequence[Delivery], failed: Sequence[Unsettled]) -> None:
    refused = {each.delivery for each in failed}
    for delivery in deliveries:
        if delivery not in refused:
            callbacks, delivery.on_acked = delivery.on_acked or (), None
            for callback in callbacks:
                callback()


class Receiver(ABC):
    """Leases messages from one channel to one consumer; an async context manager and iterator of deliveries.

    The public batch verbs never call the service for a delivery whose lease is known to have ended: deleting with an
    old receipt succeeds without deleting on SQS, so such a delivery is reported as `LeaseLost` instead.
    """

    name: str
    """The channel's name."""
    lease: float | None = None
    """Seconds a delivery is leased for; None: as long as the connection, so that no heartbeat is needed."""
    max_batch: int = 10
    """Most deliveries of one `receive`."""
    settle_batch: int = 10
    """Most deliveries of one `ack` or `extend` call; 1: settling costs no call, so it is not worth gathering."""
    ordered: bool = True
    """Whether a message group orders its messages; False where the channel uses it for fairness only (SQS standard)."""
    max_receive_count: int | None = None
    """After so many receives the channel itself dead-letters a message; None: never."""
    dead_letters: Sender | None = None
    """Where `dead_letter` sends to: the channel's own dead-letter queue, or one given to the consumer."""
    on_lost: Callable[[Sequence[Delivery]], None] | None = None
    """Called by the driver with deliveries that were taken away (connection lost, shard handed over)."""

    @abstractmethod
    async def receive(self, limit: int, *, wait: float = 20.0) -> Sequence[Delivery]:
        """Lease up to ``limit`` messages; wait up to ``wait`` seconds for the first one.

        Returns an empty sequence when the time passes. Deliveries of one message group come in order, and none while an
        earlier message of the group is on lease elsewhere. A cancelled call loses nothing: what it got is released.
        """

    def receive_nowait(self, limit: int) -> Sequence[Delivery]:
        """Up to ``limit`` messages that are at hand in this process already; () where that is none. Never blocks."""
        del limit
        return ()

    async def ack(self, deliveries: Sequence[Delivery]) -> Sequence[Unsettled]:
        """Let the channel forget the messages; returns those that it did not."""
        live, lost = self._split(deliveries)
        failed = await self._ack(live) if live else ()
        for each in live:
            if each.on_acked:
                _call_on_acked(live, failed)
                break
        return [*lost, *failed] if lost else failed

    async def nack(self, deliveries: Sequence[Delivery], *, delay: float = 0.0) -> Sequence[Unsettled]:
        """Give the messages back, to be delivered again after ``delay`` seconds; returns those not given back.

        The order of ``deliveries`` is kept: give the tail of a message group back before its head.
        """
        live, lost = self._split(deliveries)
        return [*lost, *(await self._nack(live, delay) if live else ())]

    async def extend(self, deliveries: Sequence[Delivery], seconds: float) -> Sequence[Unsettled]:
        """Let the leases end ``seconds`` from now; returns those that could not be extended."""
        live, lost = self._split(deliveries)
        if not live:
            return lost
        until = get_running_loop().time() + seconds
        failed = await self._extend(live, seconds)
        refused = {each.delivery for each in failed}
        for delivery in live:
            if delivery.lease_until is not None and delivery not in refused:
                delivery.lease_until = until
        return [*lost, *failed]

    def extend_blocking(self, deliveries: Sequence[Delivery], seconds: float) -> Sequence[Unsettled]:
        """Let the leases end ``seconds`` from now, while a handler blocks the event loop; returns those not extended.

        Called from the watchdog's thread. An implementation must be thread-safe, must not touch the loop or wait for
        it, and must return within a few seconds. The caller sets ``lease_until`` of those that were extended. The
        default extends none.
        """
        del seconds
        error = TransportError(f"{self.name} cannot extend leases while the event loop is blocked")
        return [Unsettled(each, error) for each in deliveries]

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        """Send the message to `dead_letters` with the reason, then ack it; raises `ConfigurationError` without one."""
        if self.dead_letters is None:
            raise ConfigurationError(f"{self.name} has no dead-letter channel; declare one, or give the consumer one")
        await send_dead_letter(
            self.dead_letters, delivery.message, reason, source=self.name, count=delivery.receive_count
        )
        delivery.on_acked = None
        _raise_first(await self.ack((delivery,)))

    @abstractmethod
    async def _ack(self, deliveries: Sequence[Delivery]) -> Sequence[Unsettled]: ...

    @abstractmethod
    async def _nack(self, deliveries: Sequence[Delivery], delay: float) -> Sequence[Unsettled]: ...

    @abstractmethod
    async def _extend(self, deliveries: Sequence[Delivery], seconds: float) -> Sequence[Unsettled]: ...

    @staticmethod
    def _split(deliveries: Sequence[Delivery]) -> tuple[Sequence[Delivery], Sequence[Unsettled]]:
        """Those still on lease, and those whose lease is known to have ended."""
        now = get_running_loop().time()
        for each in deliveries:  # a plain loop: every message pays for it, and hardly ever has a lease ended
            if each.lease_until is not None and each.lease_until <= now:
                break
        else:
            return deliveries, ()
        live = [each for each in deliveries if each.lease_until is None or each.lease_until > now]
        ended = [each for each in deliveries if each.lease_until is not None and each.lease_until <= now]
        return live, [Unsettled(each, LeaseLost(f"the lease of {each.message.id} has ended")) for each in ended]

    async def open(self) -> None:
        """Connect; called once, before the first `receive`."""
        return

    async def aclose(self) -> None:
        """Release what is held and not settled, and disconnect. Idempotent."""
        return

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def __aiter__(self) -> AsyncIterator[Delivery]:
        """Deliveries, one lease at a time, for ever."""
        while True:
            for delivery in await self.receive(1):
                yield delivery


def dead_lettered(delivery: Delivery, reason: str, *, source: str) -> Message[Any]:
    """The message as it goes to a dead-letter channel: same id, body and attributes; the reason in its headers."""
    return put_aside(delivery.message, reason, source=source, count=delivery.receive_count)


def put_aside(message: Message[Any], reason: str, *, source: str, count: int) -> Message[Any]:
    """What `dead_lettered` makes of a message that was tried ``count`` times."""
    why = {
        "dead-letter-reason": reason[:1000],
        "dead-letter-source": source,
        "dead-letter-count": str(count),
    }
    return _anew(message, {**message.headers, **why}, expires_at=None)


async def send_dead_letter(sender: Sender, message: Message[Any], reason: str, *, source: str, count: int) -> None:
    """Send a message to a dead-letter channel, with as much of the reason as fits.

    A message may arrive with so many attributes, or so large, that nothing can be added to it. Then the reason is
    shortened, and at last only logged: a message must never be stuck for its reason.
    """
    full = put_aside(message, reason, source=source, count=count)
    short = put_aside(message, reason[:_SHORT_REASON], source=source, count=count)
    bare = _anew(message, message.headers, expires_at=None)
    for version in (full, short):
        try:
            await sender.send(version)
        except (InvalidMessage, SendError) as error:
            if isinstance(error, SendError) and error.transient:
                raise
        else:
            return
    await sender.send(bare)
    _log.warning(
        "dead_letter_without_reason",
        channel=source,
        dead_letters=sender.name,
        message_id=message.id,
        count=count,
        reason=reason[:1000],
    )


_SHORT_REASON = 60
"""Characters of a reason that is shortened."""
_FAILURE_HEADERS = frozenset(("dead-letter-reason", "dead-letter-source", "dead-letter-count", "attempts"))


def revived(message: Message[Any]) -> Message[Any]:
    """The message without the traces of its failure, to start anew: the inverse of `dead_lettered`."""
    kept = {name: text for name, text in message.headers.items() if name not in _FAILURE_HEADERS}
    return _anew(message, kept)


def _anew(message: Message[Any], headers: Mapping[str, str], **envelope: Any) -> Message[Any]:
    """The message with other headers, for a channel that may have seen it within its deduplication window.

    Under its own deduplication id a FIFO queue would take it for a duplicate and drop it. The new one follows from the
    old one, so that the same step done twice, after a crash in its middle, is known as such.
    """
    if message.group_id is not None:
        known = (message.deduplication_id or message.id).encode()
        envelope["deduplication_id"] = blake2b(known, digest_size=16).hexdigest()
    return message.replace(headers=headers, **envelope)


class Source(ABC):
    """What a `Consumer` can be given: something that opens receivers."""

    name: str
    retry_queue: Queue | None = None
    """Where a message can be sent again for this source's consumers alone; None: nowhere, or to the queue it is."""

    @abstractmethod
    def receiver(self, *, capacity: int = 10) -> Receiver:
        """A receiver for one consumer that holds at most ``capacity`` deliveries; use it with ``async with``."""


class Queue(Sender, Source):
    """Point-to-point: each message goes to one consumer (pattern "Point-to-Point Channel")."""

    @abstractmethod
    async def send(self, *messages: Message[Any], delay: float = 0.0) -> None:
        """Send the messages, to be received no earlier than ``delay`` seconds from now; see `Sender.send`."""


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


class Transport(ABC):
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

    @abstractmethod
    def resolve(self, address: str) -> Sender:
        """The sender of an address; raises `AddressRefused` for one that is not of this transport.

        Addresses in messages come from strangers: go through `eip.addresses.ReturnAddresses` for those.
        """

    @abstractmethod
    def queue_addresses(self, prefix: str) -> str:
        """The addresses, as a pattern with ``*``, of this account's or broker's queues whose names begin so."""

    def health(self) -> Health:
        """Whether the service answered the last calls; the default knows of no failure."""
        return Health(ok=True)

    async def open(self) -> None:
        """Connect; called by ``async with``."""
        return

    async def aclose(self) -> None:
        """Flush what was accepted for sending, and disconnect. Idempotent."""
        return

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _unsupported(self, kind: str) -> NoReturn:
        raise UnsupportedChannel(type(self).__name__, kind, self.kinds)
