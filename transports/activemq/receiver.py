"""Receives from a queue or a subscription over a connection of its own.

The broker hands out as many messages as the consumer has slots (the prefetch), each acknowledged by itself. What is
held belongs to one connection: when that breaks, the broker gives it to whoever is there, and acknowledging it later
would be void.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from eip import clock
from eip._logging import get_logger
from eip.channels import Delivery, Receiver, Sender, Unsettled, dead_lettered
from eip.codec import JSON, Codec
from eip.errors import DecodeError, InvalidMessage, LeaseLost, TransportError
from eip.health import Health
from eip.message import Message
from eip.transports.activemq._connection import ATTEMPTED, Connection
from eip.transports.activemq._frames import Frame, dump, escape
from eip.transports.activemq._headers import from_frame
from eip.transports.activemq._reconnecting import ReconnectingConnection
from eip.transports.activemq._settling import SetAside, ack_ids_of

if TYPE_CHECKING:
    from eip.transports.activemq.transport import ActiveMQTransport

__all__ = ["ActiveMQDelivery", "ActiveMQReceiver", "Again", "Subscription"]

_log = get_logger("eip.activemq")
_EARLY: Final = 0.05
"""Seconds that a delayed message may come before its time: clocks differ, and the broker's scheduler rounds."""
_MAX_HELD_S: Final = 60.0
"""Seconds that a message which is not due yet is held here, in a slot; then it is sent again, to be due later."""
_LATER: Final = 5.0
"""Seconds until a message that cannot be dead-lettered is tried again."""
_SUBSCRIPTION: Final = "s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """What is subscribed to."""

    destination: str
    name: str
    capacity: int
    """Most deliveries that its consumer holds."""
    ahead: int = 0
    """Messages that the broker may hand out besides: those that wait behind a held-up head of their group."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """More headers of SUBSCRIBE: a selector, the name of a durable subscription."""
    client_id: str | None = None
    """Who a durable subscription belongs to."""


class Again(Protocol):
    """Where a message goes that is to be tried again later."""

    async def send_again(self, delivery: ActiveMQDelivery, *, delay: float) -> None:
        """Send a copy to be received after ``delay`` seconds."""
        ...


class ActiveMQDelivery(Delivery):
    """A message held over one connection, with the broker's own headers of it."""

    __slots__ = ("ack_ids", "connection", "headers")

    def __init__(
        self,
        receiver: Receiver,
        message: Message[Any],
        *,
        connection: Connection,
        headers: Mapping[str, str],
        ack_ids: Sequence[str],
        **state: Any,
    ) -> None:
        super().__init__(receiver, message, **state)
        self.connection, self.headers = connection, headers
        self.ack_ids = ack_ids
        """By which the broker knows it on this connection: one, or more where a malformed head leaves it open."""


class ActiveMQReceiver(Receiver):
    """Leases messages for as long as its connection lasts.

    A message that is given back at once stays here and is handed out again, first of all; one that is given back for
    later is sent anew with a delay, then acknowledged. Messages of a group stay here in both cases, and those behind
    wait: the broker keeps a group with one consumer, so that order holds. Of a group, one message is handed out at a
    time.
    """

    settle_batch = 1

    def __init__(
        self,
        transport: ActiveMQTransport,
        subscription: Subscription,
        *,
        again: Again | None,
        codec: Codec = JSON,
        wanted: Callable[[Message[Any]], bool] | None = None,
        dead_letters: Sender | None = None,
        max_receive_count: int | None = None,
    ) -> None:
        self.name, self._subscription = subscription.name, subscription
        self.max_batch = max(1, subscription.capacity)
        self.dead_letters, self.max_receive_count = dead_letters, max_receive_count
        self.stale_acks = 0
        """Acknowledgements that were dropped because their connection is over."""
        self._transport, self._again, self._wanted = transport, again, wanted
        headers = {} if subscription.client_id is None else {"client-id": subscription.client_id}
        self._link = ReconnectingConnection(
            transport.connector,
            name=f"from {subscription.name}",
            headers=headers,
            restore=self._subscribe,
            on_lost=self._lost_connection,
        )
        self._ready: deque[ActiveMQDelivery] = deque()
        self._groups: dict[str, deque[ActiveMQDelivery]] = {}
        """Groups with a message that is ready, handed out or put off; what came behind it waits here."""
        self._out: dict[ActiveMQDelivery, None] = {}
        """What is handed out and not settled."""
        self._timers: dict[ActiveMQDelivery, asyncio.TimerHandle] = {}
        """What is put off."""
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._codec = codec
        self._sending: set[asyncio.Task[None]] = set()
        self._set_aside = SetAside(self.name)
        self._closed = False

    # Connecting.

    async def open(self) -> None:
        """Connect and subscribe; raises `AccessDenied`, `ConnectionLost`."""
        self._transport.check_open()
        self._transport.links.add(self._link)
        try:
            await self._link.connection(timeout=self._link.connector.open_timeout)
        except BaseException:
            await self.aclose()
            raise

    async def _subscribe(self, connection: Connection) -> None:
        subscription, connector = self._subscription, self._link.connector
        connection.subscribe(_SUBSCRIPTION, lambda frame: self._take(connection, frame))
        headers = {
            "id": _SUBSCRIPTION,
            "destination": subscription.destination,
            "ack": "client-individual",
            "activemq.prefetchSize": str(self.max_batch + subscription.ahead),
            **subscription.headers,
        }
        await connection.request("SUBSCRIBE", headers, timeout=connector.answer_timeout)
        self._meter("SUBSCRIBE")

    def _lost_connection(self, connection: Connection) -> None:
        """What was held over it is the broker's again."""
        mine = [each for each in self._out if each.connection is connection]
        self._ready.clear()
        self._groups.clear()
        self._out.clear()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if mine and self.on_lost is not None and not self._closed:
            self.on_lost(mine)

    def health(self) -> Health:
        """Return whether its connection is up, and since when not; when it last received and settled."""
        return self._link.tracker.health()

    # Messages in.

    def _take(self, connection: Connection, frame: Frame) -> None:
        ack_ids = ack_ids_of(frame)
        if not frame.complete or not ack_ids:
            self._set_aside.unreadable(connection, frame, ack_ids)
            return
        message, attempts, due, error = from_frame(frame, self._codec)
        if error is None and self._wanted is not None:
            try:
                wanted = self._wanted(message)
            except Exception as failure:  # noqa: BLE001 - one message that the filter fails on must not stop the others
                wanted, error = True, DecodeError(f"the subscription's filter fails on it: {type(failure).__name__}")
            if not wanted:
                self._write_ack(connection, ack_ids)
                return
        delivery = ActiveMQDelivery(
            self,
            message,
            connection=connection,
            headers=frame.headers,
            ack_ids=ack_ids,
            receive_count=attempts + 1,
            error=error,
        )
        self._link.tracker.polled()
        self._meter("MESSAGE", messages=1, size=len(frame.body))
        early = 0.0 if due is None else due - clock.now()
        group = message.group_id
        if group is not None and group in self._groups:
            self._groups[group].append(delivery)
            return
        if group is not None:
            self._groups[group] = deque()
        if early > _EARLY:
            _log.warning("delivered_early", channel=self.name, by=round(early, 1), hint="does the broker schedule?")
            self._put_off(delivery, min(early, _MAX_HELD_S), due=due)
        else:
            self._make_ready(delivery)

    def _make_ready(self, delivery: ActiveMQDelivery, *, first: bool = False) -> None:
        if first:
            self._ready.appendleft(delivery)
        else:
            self._ready.append(delivery)
        self._wake_one()

    def _put_off(self, delivery: ActiveMQDelivery, delay: float, *, due: float | None = None) -> None:
        self._timers[delivery] = asyncio.get_running_loop().call_later(delay, self._due, delivery, due)

    def _due(self, delivery: ActiveMQDelivery, due: float | None) -> None:
        del self._timers[delivery]
        early = 0.0 if due is None else due - clock.now()
        if early > _EARLY and self._again is not None and delivery.message.group_id is None:
            task = asyncio.create_task(self._send_later(delivery, early), name=f"{self.name} not due")
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        else:
            self._make_ready(delivery)

    async def _send_later(self, delivery: ActiveMQDelivery, delay: float) -> None:
        """Free the slot of a message that is not due for long: its due time may be a stranger's."""
        assert self._again is not None
        self._out[delivery] = None
        delivery.receive_count -= 1  # nobody has handled it
        try:
            await self._again.send_again(delivery, delay=delay)
        except Exception as error:  # noqa: BLE001 - it stays here
            _log.warning("delayed_message_kept", channel=self.name, error=str(error))
            if self._out.pop(delivery, 0) is None and delivery.connection.open:
                delivery.receive_count += 1
                self._put_off(delivery, _MAX_HELD_S, due=clock.now() + delay)
        else:
            await self._ack((delivery,))

    async def receive(self, limit: int, *, wait: float = 20.0) -> Sequence[Delivery]:
        """See `Receiver.receive`; what was received too often before is dead-lettered here, and not handed out."""
        until = asyncio.get_running_loop().time() + wait
        while True:
            await self._something_ready(until)
            if not self._ready or not self._spent(self._ready[0]):
                return self.receive_nowait(limit)
            await self._bury(self._ready.popleft())

    async def _something_ready(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        while not self._ready and (rest := until - loop.time()) > 0 and not self._closed:
            waiting = loop.create_future()
            self._waiting[waiting] = None
            timer = loop.call_later(rest, _wake, waiting)
            try:
                await waiting
            except asyncio.CancelledError:
                if self._ready:  # woken for a message that it does not take
                    self._wake_one()
                raise
            finally:
                timer.cancel()
                self._waiting.pop(waiting, None)

    def _wake_one(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
                return

    def receive_nowait(self, limit: int) -> Sequence[Delivery]:
        """See `Receiver.receive_nowait`."""
        ready, out = self._ready, self._out
        taken: list[Delivery] = []
        while ready and len(taken) < limit and not self._spent(ready[0]):
            delivery = ready.popleft()
            out[delivery] = None
            taken.append(delivery)
        return taken

    def _spent(self, delivery: Delivery, *, more: int = 0) -> bool:
        """Whether it was received more often than the redrive policy lets it."""
        limit = self.max_receive_count
        return limit is not None and delivery.receive_count + more > limit and self.dead_letters is not None

    async def _bury(self, delivery: ActiveMQDelivery) -> Sequence[Unsettled]:
        """Dead-letter what was received too often; where that fails it is put off."""
        self._out[delivery] = None
        assert self.dead_letters is not None
        received = min(delivery.receive_count, self.max_receive_count or 0)
        try:
            await self.dead_letters.send(dead_lettered(delivery, f"received {received} times", source=self.name))
        except InvalidMessage as error:
            if self._given_to_broker(delivery, error):
                return ()
            return self._keep(delivery, _LATER)
        except asyncio.CancelledError:
            self._keep(delivery, 0.0)
            raise
        except Exception as error:  # noqa: BLE001 - a dead-letter channel that fails keeps the message where it is
            _log.warning("dead_letter_failed", channel=self.name, error=str(error))
            return self._keep(delivery, _LATER)
        return await self._ack((delivery,))

    # Settling.

    async def _ack(self, deliveries: Sequence[Delivery]) -> Sequence[Unsettled]:
        failed: list[Unsettled] = []
        last: Connection | None = None
        for delivery in deliveries:
            if not isinstance(delivery, ActiveMQDelivery) or delivery not in self._out or not delivery.connection.open:
                self.stale_acks += 1
                error = LeaseLost(f"the connection that {delivery.message.id} came over is gone")
                failed.append(Unsettled(delivery, error))
                continue
            del self._out[delivery]
            last = delivery.connection
            self._write_ack(last, delivery.ack_ids)
            self._link.tracker.settled()
            self._next_of_group(delivery)
        if last is not None and any(each.on_acked for each in deliveries):
            # What is told now may delete what a message that came again would need.
            try:
                await last.probe(timeout=self._link.connector.answer_timeout)
            except TransportError as error:
                done = {each.delivery for each in failed}
                failed += [Unsettled(each, LeaseLost(str(error))) for each in deliveries if each not in done]
        return failed

    def _write_ack(self, connection: Connection, ack_ids: Sequence[str]) -> None:
        if len(ack_ids) == 1:
            connection.write(f"ACK\nid:{escape(ack_ids[0])}\n\n\0".encode())
        else:  # all but one are forged, which the broker refuses
            for number, ack_id in enumerate(ack_ids):
                connection.write(dump("ACK", {"id": ack_id, "receipt": f"{ATTEMPTED}{number}"}))
        self._meter("ACK", messages=1)

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        """See `Receiver.dead_letter`; what the channel can never carry goes to the broker's own dead-letter queue."""
        try:
            await super().dead_letter(delivery, reason)
        except InvalidMessage as error:
            if not isinstance(delivery, ActiveMQDelivery) or not self._given_to_broker(delivery, error):
                raise

    def _given_to_broker(self, delivery: ActiveMQDelivery, error: Exception) -> bool:
        """Have the broker move the message itself; return whether it does."""
        if delivery not in self._out or not self._set_aside.given_to_broker(
            delivery.connection, delivery.ack_ids, delivery.message.id, str(error)
        ):
            return False
        del self._out[delivery]
        self._next_of_group(delivery)
        return True

    def _next_of_group(self, delivery: ActiveMQDelivery) -> None:
        group = delivery.message.group_id
        if group is None:
            return
        followers = self._groups.get(group)
        if followers:
            self._make_ready(followers.popleft())
        else:
            self._groups.pop(group, None)

    async def _nack(self, deliveries: Sequence[Delivery], delay: float) -> Sequence[Unsettled]:
        failed: list[Unsettled] = []
        for delivery in deliveries:
            if not isinstance(delivery, ActiveMQDelivery) or delivery not in self._out:
                self.stale_acks += 1
                failed.append(Unsettled(delivery, LeaseLost("its connection is gone: the broker has it back")))
                continue
            failed += await self._give_back(delivery, delay)
        return failed

    async def _give_back(self, delivery: ActiveMQDelivery, delay: float) -> Sequence[Unsettled]:
        if delay > 0 and self._spent(delivery, more=1):
            return await self._bury(delivery)
        if delay > 0 and self._again is not None and delivery.message.group_id is None:
            try:
                await self._again.send_again(delivery, delay=delay)
            except (TransportError, InvalidMessage) as error:
                _log.warning("retry_kept_here", channel=self.name, error=str(error))
            else:
                return await self._ack((delivery,))
        return self._keep(delivery, delay)

    def _keep(self, delivery: ActiveMQDelivery, delay: float) -> Sequence[Unsettled]:
        """Hand it out again from here, as a delivery of its own."""
        if self._out.pop(delivery, 0) == 0 or not delivery.connection.open:
            return [Unsettled(delivery, LeaseLost("its connection is gone: the broker has it back"))]
        again = ActiveMQDelivery(
            self,
            delivery.message.with_encoded(delivery.message.raw or b""),
            connection=delivery.connection,
            headers=delivery.headers,
            ack_ids=delivery.ack_ids,
            receive_count=delivery.receive_count + 1,
            error=delivery.error,
        )
        if delay > 0:
            self._put_off(again, delay)
        else:
            self._make_ready(again, first=True)
        return ()

    async def _extend(self, deliveries: Sequence[Delivery], seconds: float) -> Sequence[Unsettled]:
        """A lease lasts as long as the connection."""
        del seconds
        return [Unsettled(each, LeaseLost("its connection is gone")) for each in deliveries if each not in self._out]

    def extend_blocking(self, deliveries: Sequence[Delivery], seconds: float) -> Sequence[Unsettled]:
        """Show the broker a sign of life while a handler blocks the event loop; see `Receiver.extend_blocking`."""
        connection = self._link.current
        if connection is not None and connection.beat_blocking():
            return ()
        return super().extend_blocking(deliveries, seconds)

    def _meter(self, operation: str, *, messages: int = 0, size: int = 0) -> None:
        meter = self._transport.meter
        if meter is not None:
            meter.record("activemq", self.name, operation, messages=messages, size=size, units=0)

    async def aclose(self) -> None:
        """Flush the acknowledgements and disconnect; what is held goes back to the broker, in its order."""
        self._closed = True
        for waiting in self._waiting:
            _wake(waiting)
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        await self._link.aclose()
        self._transport.links.discard(self._link)


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
