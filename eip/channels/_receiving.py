"""Receivers lease messages to a consumer, as deliveries that it settles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from asyncio import get_running_loop
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from eip.channels._dead_letters import send_dead_letter
from eip.channels._opening import Opening
from eip.channels._sending import Sender
from eip.errors import ConfigurationError, LeaseLost, TransportError
from eip.health import Health
from eip.message import Message

__all__ = ["Delivery", "Receiver", "Unsettled"]


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


class Receiver(Opening, ABC):
    """Leases messages from one channel to one consumer; an async context manager and iterator of deliveries.

    The public batch verbs never call the service for a delivery whose lease is known to have ended: deleting with an
    old receipt succeeds without deleting on SQS, so such a delivery is reported as `LeaseLost` instead.
    """

    name: str
    """The channel's name."""
    system: str = "eip"
    """The service's name in OpenTelemetry's conventions (``messaging.system``)."""
    lease: float | None = None
    """Seconds a delivery is leased for; None: as long as the connection, so that no heartbeat is needed."""
    max_batch: int = 10
    """Most deliveries of one `receive`."""
    settle_batch: int = 10
    """Most deliveries of one `ack` or `extend` call; 1: settling costs no call, so it is not worth gathering."""
    billed: bool = False
    """Whether each `receive` costs, for one message as for ten: a consumer asks for several at once then."""
    ordered: bool = True
    """Whether a message group orders its messages; False where the channel uses it for fairness only (SQS standard)."""
    max_receive_count: int | None = None
    """After so many receives the channel itself dead-letters a message; None: never."""
    dead_letters: Sender | None = None
    """Where `dead_letter` sends to: the channel's own dead-letter queue, or one given to the consumer."""
    on_lost: Callable[[Sequence[Delivery]], None] | None = None
    """Called by the driver with deliveries that were taken away (connection lost, shard handed over)."""

    settling: Callable[[str, Sequence[Delivery]], AbstractContextManager[None]] | None = None
    """Entered around each call that settles: ``ack``, ``nack`` or ``dead_letter``, and the deliveries; for tracing."""

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

    def ack_nowait(self, delivery: Delivery) -> bool:
        """Acknowledge where that costs no call and runs no callback; False where `ack` is to do it. Never blocks."""
        del delivery
        return False

    async def ack(self, deliveries: Sequence[Delivery]) -> Sequence[Unsettled]:
        """Let the channel forget the messages; returns those that it did not."""
        live, lost = self._split(deliveries)
        if not live:
            return lost
        if self.settling is None:
            failed = await self._ack(live)
        else:
            with self.settling("ack", live):
                failed = await self._ack(live)
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
        if not live:
            return lost
        with nullcontext() if self.settling is None else self.settling("nack", live):
            return [*lost, *await self._nack(live, delay)]

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

    async def dead_letter(self, delivery: Delivery, reason: str, *, stack: str | None = None) -> None:
        """Send the message to `dead_letters` with the reason, then ack it; raises `ConfigurationError` without one.

        Args:
            delivery: what could not be handled.
            reason: why.
            stack: where its handler failed, see `eip.errors.stack_text`.
        """
        if self.dead_letters is None:
            raise ConfigurationError(f"{self.name} has no dead-letter channel; declare one, or give the consumer one")
        with nullcontext() if self.settling is None else self.settling("dead_letter", (delivery,)):
            await send_dead_letter(
                self.dead_letters,
                delivery.message,
                reason,
                source=self.name,
                count=delivery.receive_count,
                stack=stack,
            )
            delivery.on_acked = None
            _raise_first(await self.ack((delivery,)))

    def health(self) -> Health:
        """Whether what `receive` waits for can come, where that is known here: a connection, a reader of shards."""
        return Health(ok=True)

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

    async def __aiter__(self) -> AsyncIterator[Delivery]:
        """Deliveries, one lease at a time, for ever."""
        while True:
            for delivery in await self.receive(1):
                yield delivery
