"""The embedded transport: every kind of channel, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar, cast

from typing_extensions import override

from eip._checks import check_name, check_type
from eip._ids import new_id
from eip.channels import Receiver, Sender, ServerInfo, TemporaryQueue, Transport
from eip.errors import AddressRefused, ConfigurationError
from eip.telemetry.meter import Meter
from eip.topology import Container, Resource, Step
from eip.transports.memory._lifetime import Lifetime
from eip.transports.memory.archives import Account
from eip.transports.memory.bus import MemoryBus
from eip.transports.memory.provisioning import provision, undeclared
from eip.transports.memory.queue import MemoryQueue
from eip.transports.memory.stream import MemoryStream
from eip.transports.memory.topic import MemoryTopic

__all__ = ["MemoryTransport"]

_SCHEME: Final = "memory:"
_Channel = TypeVar("_Channel", bound=Sender)


class MemoryTransport(Transport):
    """Queues, topics, buses and streams in this process, with the semantics of SQS, SNS, EventBridge and Kinesis.

    For tests, for services of one process, and to learn on. It is the reference for the semantics of the other
    transports, and runs under virtual time (`eip.testing`). What it holds ends with the process.

    Args:
        visibility: default duration of a lease, in seconds.
        capacity: default number of messages that a queue holds before senders wait.
        meter: records what is sent, received and settled, see `eip.telemetry.meter`.
    """

    kinds = ("queue", "topic", "bus", "stream")

    def __init__(self, *, visibility: float = 30.0, capacity: int = 100_000, meter: Meter | None = None) -> None:
        self._defaults: dict[str, Any] = {"visibility": visibility, "capacity": capacity, "meter": meter}
        self._meter = meter
        self._channels: dict[str, Sender] = {}
        self._account = Account()
        self._lifetime = Lifetime()

    @property
    def meter(self) -> Meter | None:
        """What records its calls; set it before channels are asked for."""
        return self._meter

    @meter.setter
    def meter(self, meter: Meter | None) -> None:
        self._meter = self._defaults["meter"] = meter

    @override
    def servers(self) -> Sequence[ServerInfo]:
        return (ServerInfo("embedded", "memory", "localhost", self.kinds),)

    @override
    def queue(self, name: str, **options: Any) -> MemoryQueue:
        """Return the queue of that name, which is made at the first call.

        Args:
            name: the queue's.
            options: of a new queue. ``fifo``: default: whether the name ends in ``.fifo``; ``visibility``: duration of
                a lease, in seconds; ``capacity``: how many messages it holds before senders wait; ``dead_letters`` (a
                queue) and ``max_receive_count``: the redrive policy; ``content_based_deduplication``: of a FIFO queue,
                by the body where a message has no deduplication id; ``deduplication_scope``,
                ``max_message_bytes``: as of an `eip.QueueSpec`.

        Raises:
            ConfigurationError: the queue exists with other options.
        """
        return self._channel(MemoryQueue, "queue", name, options, {"fifo": _is_fifo(name), **self._defaults})

    @override
    def topic(self, name: str, **options: Any) -> MemoryTopic:
        """Return the topic of that name, which is made at the first call.

        Args:
            name: the topic's.
            options: of a new topic: ``fifo`` and ``content_based_deduplication``, as for `queue`.
        """
        defaults = {"fifo": _is_fifo(name), "make_queue": self.queue, "meter": self._meter}
        return self._channel(MemoryTopic, "topic", name, options, defaults)

    @override
    def bus(self, name: str = "default", **options: Any) -> MemoryBus:
        """Return the event bus of that name, which is made at the first call.

        Args:
            name: the bus's.
            options: of a new bus. ``replay_interval``: seconds between the minutes of a replay, default 0.
        """
        defaults = {"account": self._account, "find": self._find, "make_queue": self.queue, "meter": self._meter}
        return self._channel(MemoryBus, "bus", name, options, defaults)

    @override
    def stream(self, name: str, **options: Any) -> MemoryStream:
        """Return the stream of that name, which is made at the first call.

        Args:
            name: the stream's.
            options: of a new stream. ``shards``: default 4; ``capacity``: how many records a shard keeps.
        """
        return self._channel(MemoryStream, "stream", name, options, {"meter": self._meter})

    @override
    def temporary_queue(self, name: str = "replies") -> TemporaryQueue:
        return _MemoryTemporaryQueue(self, self.queue(f"{check_type('name', name, str, 'a string')}-temp-{new_id()}"))

    @override
    async def remove_queue(self, name: str) -> None:
        queue = self._channels.pop(f"queue/{name}", None)
        if isinstance(queue, MemoryQueue):
            queue.store.close()

    @override
    def resolve(self, address: str) -> Sender:
        """Return the channel of an address such as ``memory:queue/replies``; raises `AddressRefused` if none."""
        check_type("address", address, str, "a string")
        channel = self._channels.get(address.removeprefix(_SCHEME)) if address.startswith(_SCHEME) else None
        if channel is None:
            raise AddressRefused(address, reason="no channel of this transport")
        return channel

    @override
    def queue_addresses(self, prefix: str) -> str:
        return f"{_SCHEME}queue/{prefix}*"

    def _channel(
        self, make: Callable[..., _Channel], kind: str, name: str, options: dict[str, Any], defaults: dict[str, Any]
    ) -> _Channel:
        key = f"{kind}/{check_name(name)}"
        known = self._channels.get(key)
        if known is None:
            self._lifetime.check_open()
            made = self._channels[key] = make(
                name, address=_SCHEME + key, lifetime=self._lifetime, **{**defaults, **options}
            )
            return made
        for option, value in options.items():
            if getattr(known, option, value) != value:
                raise ConfigurationError(
                    f"{kind} {name} exists with {option}={getattr(known, option)!r}, got {option}={value!r}"
                )
        return cast("_Channel", known)

    def _find(self, kind: str, name: str) -> Sender | None:
        return self._channels.get(f"{kind}/{name}")

    def knows(self, kind: str, name: str) -> bool:
        """Return whether there is such a channel, without making it."""
        return f"{kind}/{name}" in self._channels

    async def provision(self, resource: Resource, *, apply: bool) -> Iterable[Step]:
        """Plan or apply one resource of a topology; see `eip.topology.Provisioner.provision`."""
        return await provision(self, resource, apply=apply)

    async def undeclared(self, container: Container, declared: frozenset[str], *, delete: bool) -> Iterable[Step]:
        """Find what is not declared; see `eip.topology.Provisioner.undeclared`."""
        return list(undeclared(self, container, declared, delete=delete))

    @override
    async def open(self) -> None:
        """Do nothing; raises `StateError` if it was closed."""
        self._lifetime.check_open()

    @override
    async def aclose(self) -> None:
        """Stop the timers, and let every further use of a channel raise `StateError`. Idempotent.

        `MemoryQueue.messages` still returns what was left, and what is on lease can be settled.
        """
        self._lifetime.ended = True
        for channel in self._channels.values():
            if isinstance(channel, MemoryQueue):
                channel.store.close()
            elif isinstance(channel, MemoryBus):
                await channel.aclose()


class _MemoryTemporaryQueue(TemporaryQueue):
    def __init__(self, transport: MemoryTransport, queue: MemoryQueue) -> None:
        self._transport, self._queue = transport, queue
        self.name, self.address, self.limits = queue.name, queue.address, queue.limits

    @override
    def receiver(self, *, capacity: int = 10) -> Receiver:
        return self._queue.receiver(capacity=capacity)

    @override
    async def remove(self) -> None:
        await self._transport.remove_queue(self.name)


def _is_fifo(name: str) -> bool:
    return check_name(name).endswith(".fifo")
