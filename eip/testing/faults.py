"""Faults on purpose: what a network, a service and a scheduler do to messages, repeatable by a seed.

Wrap a transport, give the wrapped one to the code under test, and check that it copes:

    plan = FaultPlan(seed=7, duplicates=0.1, lost_acks=0.1, send_failures=0.05)

    async def scenario():
        async with MemoryTransport() as memory:
            service = plan.wrap(memory)             # one process, as the code under test sees the transport
            consumer = Consumer(service.queue("orders"), handle)
            ...
            service.kill()                          # as kill -9: nothing it holds is settled, its leases run out

    eip.testing.run(scenario())                     # in virtual time: the same seed, the same run
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from typing_extensions import override

from eip.channels import Bus, Delivery, Filter, Queue, Receiver, Sender, Source, Stream, Topic, Transport, Unsettled
from eip.errors import ConfigurationError, ConnectionLost, FailedEntry, PartialSendError
from eip.health import Health
from eip.message import Message
from eip.topology.archives import Archives, HasArchives

__all__ = ["FaultPlan", "FaultyTransport"]

_NO_ANSWER: Final = "fault plan: no answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """The faults of a service, and how often they happen: probabilities from 0 to 1, each counted per message or call.

    What a channel guarantees it keeps: message groups are not reordered, and FIFO queues drop what is sent twice.
    """

    seed: int = 0
    """The same seed makes the same faults, where the run is otherwise the same: virtual time, and `random` seeded."""
    duplicates: float = 0.0
    """A message sent is there twice."""
    reordering: float = 0.0
    """The messages of one send come in another order, where the channel promises none."""
    delays: float = 0.0
    """A message sent to a standard queue comes later, by up to `max_delay`."""
    max_delay: float = 30.0
    """Seconds."""
    lost_acks: float = 0.0
    """An acknowledgement is not answered; half of them have taken effect."""
    lost_extensions: float = 0.0
    """A lease is not extended, and the call fails."""
    send_failures: float = 0.0
    """A send fails: before anything was accepted, after everything was, or in the middle."""
    receive_failures: float = 0.0
    """A receive fails."""
    lost_deliveries: float = 0.0
    """The answer to a receive is lost, as by a consumer that crashed on it: the leases of its messages must run out."""

    def __post_init__(self) -> None:
        """Validate the parameters."""
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name not in ("seed", "max_delay") and not 0 <= value <= 1:
                raise ConfigurationError(f"{each.name} is a probability, not {value!r}")

    def wrap(self, transport: Transport) -> FaultyTransport:
        """The transport as one process sees it; wrap it again for the next process, which draws other faults."""
        return FaultyTransport(transport, self)


class FaultyTransport(Transport):
    """A transport whose channels fail by plan; does not close the one it wraps."""

    def __init__(self, inner: Transport, plan: FaultPlan) -> None:
        self.kinds = inner.kinds  # type: ignore[misc]  # those of the wrapped one
        self.plan, self.killed = plan, False
        self._inner = inner
        self._dice = random.Random(plan.seed)
        self.faults = 0
        """How many faults there were so far."""

    def kill(self) -> None:
        """From now on every call fails, and nothing is released: the process is gone."""
        self.killed = True

    def happens(self, probability: float) -> bool:
        """Whether a fault of that probability happens now."""
        happens = probability > 0 and self._dice.random() < probability
        self.faults += happens
        return happens

    def up_to(self, maximum: float) -> float:
        """A random number."""
        return self._dice.uniform(0, maximum)

    def some(self, count: int) -> int:
        """How many of a number of messages."""
        return self._dice.randint(0, count)

    def shuffle(self, messages: list[Message[Any]]) -> None:
        """Bring them in another order."""
        self._dice.shuffle(messages)

    def alive(self) -> None:
        """Raise `ConnectionLost` once killed."""
        if self.killed:
            raise ConnectionLost("fault plan: the process was killed")

    @override
    def queue(self, name: str, **options: Any) -> Queue:
        """The queue, with faults."""
        return _FaultyQueue(self, self._inner.queue(name, **options))

    @override
    def topic(self, name: str, **options: Any) -> Topic:
        """The topic, with faults."""
        return _FaultyTopic(self, self._inner.topic(name, **options))

    @override
    def bus(self, name: str = "default", **options: Any) -> Bus:
        """The bus, with faults."""
        return _FaultyBus(self, self._inner.bus(name, **options))

    @override
    def stream(self, name: str, **options: Any) -> Stream:
        """The stream, with faults."""
        return _FaultyStream(self, self._inner.stream(name, **options))

    @override
    def resolve(self, address: str) -> Sender:
        """The sender, with faults."""
        return _FaultySender(self, self._inner.resolve(address))

    @override
    def queue_addresses(self, prefix: str) -> str:
        return self._inner.queue_addresses(prefix)


class _FaultySender(Sender):
    def __init__(self, owner: FaultyTransport, inner: Sender) -> None:
        self.name, self.address, self.limits = inner.name, inner.address, inner.limits
        self._owner, self._channel = owner, inner

    @property
    def ordered(self) -> bool:
        """Whether order is promised."""
        return bool(getattr(self._channel, "fifo", not isinstance(self._channel, (Queue, Topic))))

    @override
    async def send(self, *messages: Message[Any]) -> None:
        """Send the messages, or some of them, or twice, and fail or not."""
        owner, plan = self._owner, self._owner.plan
        owner.alive()
        listed = list(messages)
        if owner.happens(plan.send_failures):
            accepted = owner.some(len(listed))
            if accepted:
                await self._accept(listed[:accepted])
            if 0 < accepted < len(listed):
                refused = [FailedEntry(each, ConnectionLost(_NO_ANSWER)) for each in listed[accepted:]]
                raise PartialSendError(refused, sent=accepted)
            raise ConnectionLost(_NO_ANSWER)
        await self._accept(listed)
        owner.alive()

    async def _accept(self, messages: list[Message[Any]]) -> None:
        owner, plan = self._owner, self._owner.plan
        twice = [each for each in messages if owner.happens(plan.duplicates)]
        if not self.ordered and owner.happens(plan.reordering):
            owner.shuffle(messages)
        if isinstance(self._channel, Queue) and not self.ordered and plan.delays:
            for message in messages:
                delay = owner.up_to(plan.max_delay) if owner.happens(plan.delays) else 0.0
                await self._channel.send(message, delay=delay)
        else:
            await self._channel.send(*messages)
        if twice:
            await self._channel.send(*twice)


class _FaultySource(Source):
    def __init__(self, owner: FaultyTransport, inner: Source) -> None:
        self.name = inner.name
        self._owner, self._source = owner, inner

    @override
    def receiver(self, *, capacity: int = 10) -> Receiver:
        """A receiver with faults."""
        return _FaultyReceiver(self._owner, self._source.receiver(capacity=capacity))


class _FaultyQueue(_FaultySender, Queue):
    def __init__(self, owner: FaultyTransport, inner: Queue) -> None:
        super().__init__(owner, inner)
        self._queue = inner

    @override
    async def send(self, *messages: Message[Any], delay: float = 0.0) -> None:
        """Send with faults; a message that has a delay of its own fails like others, but the plan adds none."""
        if delay:
            self._owner.alive()
            await self._queue.send(*messages, delay=delay)
        else:
            await super().send(*messages)

    @override
    def receiver(self, *, capacity: int = 10) -> Receiver:
        """A receiver with faults."""
        return _FaultyReceiver(self._owner, self._queue.receiver(capacity=capacity))


class _FaultyTopic(_FaultySender, Topic):
    def __init__(self, owner: FaultyTransport, inner: Topic) -> None:
        super().__init__(owner, inner)
        self._topic = inner

    @override
    def subscription(self, name: str, *, filter: Filter | None = None, **options: Any) -> Source:
        """The subscription, with faults."""
        return _FaultySource(self._owner, self._topic.subscription(name, filter=filter, **options))


class _FaultyBus(_FaultySender, Bus):
    def __init__(self, owner: FaultyTransport, inner: Bus) -> None:
        super().__init__(owner, inner)
        self._bus = inner

    @override
    def subscription(self, name: str, *, pattern: Filter | None = None, **options: Any) -> Source:
        """The rule, with faults."""
        return _FaultySource(self._owner, self._bus.subscription(name, pattern=pattern, **options))

    @property
    def archives(self) -> Archives:
        """The bus's own, without faults; `AttributeError` where it has none."""
        if not isinstance(self._bus, HasArchives):
            raise AttributeError(f"{self.name} has no archives")  # noqa: TRY004 - what `hasattr` and protocols ask for
        return self._bus.archives


class _FaultyStream(_FaultySender, Stream):
    def __init__(self, owner: FaultyTransport, inner: Stream) -> None:
        super().__init__(owner, inner)
        self._stream = inner

    @override
    def group(self, name: str, **options: Any) -> Source:
        """The group, with faults."""
        return _FaultySource(self._owner, self._stream.group(name, **options))


class _FaultyDelivery(Delivery):
    __slots__ = ("inner",)

    def __init__(self, receiver: Receiver, inner: Delivery) -> None:
        super().__init__(
            receiver,
            inner.message,
            receive_count=inner.receive_count,
            lease_until=inner.lease_until,
            error=inner.error,
        )
        self.inner = inner


class _FaultyReceiver(Receiver):
    settle_batch = 10
    """As on a service, so that acknowledgements are gathered."""

    def __init__(self, owner: FaultyTransport, inner: Receiver) -> None:
        self.name, self.lease, self.max_batch, self.ordered = inner.name, inner.lease, inner.max_batch, inner.ordered
        self.max_receive_count = inner.max_receive_count
        self.dead_letters = None if inner.dead_letters is None else _FaultySender(owner, inner.dead_letters)
        self._owner, self._receiver = owner, inner

    @override
    async def receive(self, limit: int, *, wait: float = 20.0) -> Sequence[Delivery]:
        """Some of what came."""
        owner, plan = self._owner, self._owner.plan
        await self._until_dead()
        if owner.happens(plan.receive_failures):
            raise ConnectionLost(_NO_ANSWER)
        taken = await self._receiver.receive(limit, wait=wait)
        await self._until_dead()
        if taken and owner.happens(plan.lost_deliveries):
            return ()
        return [_FaultyDelivery(self, each) for each in taken]

    @override
    def health(self) -> Health:
        return self._receiver.health()

    async def _until_dead(self) -> None:
        if self._owner.killed:
            await asyncio.get_running_loop().create_future()  # a dead process waits for ever

    @override
    async def _ack(self, deliveries: Sequence[Delivery]) -> Sequence[Unsettled]:
        owner, plan = self._owner, self._owner.plan
        owner.alive()
        lost = [each for each in deliveries if owner.happens(plan.lost_acks)]
        effective = [each for each in deliveries if each not in lost or owner.some(1)]
        failed = await self._on_inner(self._receiver.ack, effective)
        refused = {each.delivery for each in failed}
        return [*failed, *(Unsettled(each, ConnectionLost(_NO_ANSWER)) for each in lost if each not in refused)]

    @override
    async def _nack(self, deliveries: Sequence[Delivery], delay: float) -> Sequence[Unsettled]:
        self._owner.alive()
        return await self._on_inner(lambda inner: self._receiver.nack(inner, delay=delay), deliveries)

    @override
    async def _extend(self, deliveries: Sequence[Delivery], seconds: float) -> Sequence[Unsettled]:
        owner, plan = self._owner, self._owner.plan
        owner.alive()
        lost = [each for each in deliveries if owner.happens(plan.lost_extensions)]
        rest = [each for each in deliveries if each not in lost]
        failed = await self._on_inner(lambda inner: self._receiver.extend(inner, seconds), rest)
        return [*failed, *(Unsettled(each, ConnectionLost(_NO_ANSWER)) for each in lost)]

    async def _on_inner(self, verb: Any, deliveries: Sequence[Delivery]) -> list[Unsettled]:
        outer = {each.inner: each for each in deliveries if isinstance(each, _FaultyDelivery)}
        failed = await verb(list(outer)) if outer else ()
        return [Unsettled(outer[each.delivery], each.error) for each in failed]

    @override
    async def open(self) -> None:
        self._owner.alive()
        await self._receiver.open()

    @override
    async def aclose(self) -> None:
        """Releases what it holds, unless the process was killed."""
        if not self._owner.killed:
            await self._receiver.aclose()
