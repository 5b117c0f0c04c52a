"""The transport of ActiveMQ brokers."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterable, Sequence
from typing import Final
from weakref import WeakValueDictionary

from eip.channels import Sender, Transport
from eip.codec import JSON, Codec
from eip.errors import AddressRefused, ConfigurationError
from eip.health import Health
from eip.limits import ACTIVEMQ, KIB, Limits
from eip.telemetry.meter import Meter
from eip.topology import BusSpec, Resource, Step, TopicSpec
from eip.transports.activemq._addresses import SCHEME, checked_name, parse, to_destination
from eip.transports.activemq._batching import BatchAccumulator, Entry
from eip.transports.activemq._provision import provision
from eip.transports.activemq._reconnecting import ConnectionHealth, Connector, ReconnectingConnection
from eip.transports.activemq._servers import Credentials, CredentialsSource, environment, parse_servers
from eip.transports.activemq.queue import ActiveMQQueue, Publisher, Redrive
from eip.transports.activemq.temporary import TemporaryQueue
from eip.transports.activemq.topic import VIRTUAL, ActiveMQTopic

__all__ = ["ActiveMQTransport"]

_FLUSH_TIMEOUT_S: Final = 10.0
"""For what was accepted for sending, when the transport is closed."""
_OWN: Final = f"{SCHEME}temp-queue/eip-"


class ActiveMQTransport(Transport):
    """Queues and topics of an ActiveMQ broker over STOMP 1.2; use it with ``async with``.

    One connection sends, confirmed, in transactions; each receiver has its own, so that a broker that holds a producer
    back never holds acknowledgements back.

    Args:
        url: the brokers, active before standby: ``stomp+ssl://user@active:61614,stomp+ssl://standby:61614``.
        credentials: `Credentials`, or what gives them for each connection: `environment`, `secret`, or an async
            function of your own. Default: those of the URL, or else ACTIVEMQ_USER and ACTIVEMQ_PASSWORD.
        tls: default: the system's certificates, names checked.
        heartbeat: seconds between signs of life, ours and the broker's; 0: none.
        max_blocked: seconds that the event loop may be blocked, at least, before the broker takes us for dead and gives
            what we hold to others; also the time after which it does so where our machine has vanished.
        probe: seconds without a message or an answer after which the broker is asked for a sign of progress.
        connect_timeout: timeout, in seconds, to connect and log in to one broker.
        open_timeout: timeout, in seconds, to open the transport or a receiver, all attempts included.
        answer_timeout: seconds in which a broker confirms; one that does not is taken for dead.
        timeout: seconds that a send goes on while no broker is there.
        max_message_bytes: of a frame, the broker's own limit (``wireFormat.maxFrameSize``).
        meter: is told of every frame, see `eip.telemetry.meter`.
        patience: the earlier name of ``timeout`` and ``open_timeout``.

    Raises:
        ConfigurationError: a wrong URL or option.
    """

    kinds = ("queue", "topic")

    def __init__(
        self,
        url: str,
        *,
        credentials: Credentials | CredentialsSource | None = None,
        tls: ssl.SSLContext | None = None,
        heartbeat: float = 10.0,
        max_blocked: float = 60.0,
        probe: float = 30.0,
        connect_timeout: float = 5.0,
        open_timeout: float = 10.0,
        answer_timeout: float = 30.0,
        timeout: float = 60.0,
        max_message_bytes: int = ACTIVEMQ.message_bytes or 0,
        meter: Meter | None = None,
        patience: float | None = None,
    ) -> None:
        timeout, open_timeout = (timeout, open_timeout) if patience is None else (patience, patience)
        _check_positive(
            probe=probe,
            connect_timeout=connect_timeout,
            open_timeout=open_timeout,
            answer_timeout=answer_timeout,
            timeout=timeout,
            max_blocked=max_blocked,
        )
        if not heartbeat >= 0:
            raise ConfigurationError(f"heartbeat must be 0 or more seconds, got {heartbeat:g}")
        if max_message_bytes < KIB:
            raise ConfigurationError(f"max_message_bytes must be at least {KIB}, got {max_message_bytes}")
        servers, found = parse_servers(url)
        if tls is None and any(server.tls for server in servers):
            tls = ssl.create_default_context()
        self.limits = Limits(
            message_bytes=max_message_bytes,
            batch_entries=ACTIVEMQ.batch_entries,
            batch_bytes=ACTIVEMQ.batch_bytes,
        )
        self.meter = meter
        self.connector = Connector(
            servers=servers,
            credentials=_source(credentials, found),
            tls=tls,
            max_body=max_message_bytes,
            heartbeat=heartbeat,
            max_blocked=max_blocked,
            connect_timeout=connect_timeout,
            open_timeout=open_timeout,
            answer_timeout=answer_timeout,
            probe_interval=probe,
            timeout=timeout,
        )
        self.links: set[ReconnectingConnection] = set()
        """The connections of this transport."""
        self._link = ReconnectingConnection(self.connector, name="sender")
        self._outbox = BatchAccumulator(self._link, meter)
        self._channels: dict[str, Publisher] = {}
        self._closed = False
        self._temporary: WeakValueDictionary[str, TemporaryQueue] = WeakValueDictionary()

    async def open(self) -> None:
        """Connect.

        Raises `AccessDenied`; `ConnectionLost` where no broker answers within ``open_timeout``; `TransportError` for a
        port that does not speak STOMP, or a certificate that is not trusted.
        """
        self.check_open()
        self.links.add(self._link)
        try:
            await self._link.connection(timeout=self.connector.open_timeout)
        except BaseException:
            await self.aclose()
            raise

    def queue(
        self,
        name: str,
        *,
        dead_letters: Sender | None = None,
        max_receive_count: int | None = None,
        ahead: int | None = None,
        codec: Codec | None = None,
    ) -> ActiveMQQueue:
        """The queue of that name; the broker makes it at its first use.

        ``codec`` (default: JSON) decodes what other programs send, and encodes bodies that have no codec of their own.

        ``dead_letters`` and ``max_receive_count`` go together: consumers of this transport move there, with the
        reason, what was received so often. ``ahead`` (default: 0) lets each receiver be handed so many messages more
        than it can start: with message groups, what waits behind the failed head of one group takes slots, and the
        other groups of that consumer would wait as well.
        """
        queue = self._channel("queue", name)
        assert isinstance(queue, ActiveMQQueue)
        if (dead_letters is None) != (max_receive_count is None):
            raise ConfigurationError("dead_letters and max_receive_count go together")
        if dead_letters is not None and max_receive_count is not None:
            queue.redrive = Redrive(dead_letters=dead_letters, max_receive_count=max_receive_count)
        if ahead is not None:
            if ahead < 0:
                raise ConfigurationError(f"ahead must not be negative, got {ahead}")
            queue.ahead = ahead
        if codec is not None:
            queue.codec = codec
        return queue

    def topic(self, name: str, *, virtual: bool = True, codec: Codec | None = None) -> ActiveMQTopic:
        """The topic of that name: the virtual topic ``VirtualTopic.name``, or the plain one. ``codec``: see `queue`."""
        if virtual and not name.startswith(VIRTUAL):
            name = VIRTUAL + name
        topic = self._channel("topic", name)
        assert isinstance(topic, ActiveMQTopic)
        if codec is not None:
            topic.codec = codec
        return topic

    def temporary_queue(self, *, codec: Codec = JSON) -> TemporaryQueue:
        """A new queue for replies to this process, which is gone with its connection; ``codec`` as for queues."""
        queue = TemporaryQueue(self, codec)
        self._temporary[queue.address] = queue
        return queue

    def resolve(self, address: str) -> Sender:
        """The queue or topic of an address; also of a temporary queue that another connection has."""
        match parse(address):
            case ("own-temp-queue", _) | None:
                raise AddressRefused(address, reason="no address of a queue or topic of this broker")
            case (kind, name):
                return self._channel(kind, name)

    def queue_addresses(self, prefix: str) -> str:
        """See `Transport.queue_addresses`."""
        return f"{SCHEME}queue/{prefix}*"

    def _channel(self, kind: str, name: str) -> Publisher:
        if kind != "temp-queue":
            checked_name(name)
        address = f"{SCHEME}{kind}/{name}"
        known = self._channels.get(address)
        if known is None:
            destination = to_destination(address) or ""
            make = {"queue": ActiveMQQueue, "topic": ActiveMQTopic, "temp-queue": Publisher}[kind]
            known = make(self, kind=kind, name=name, destination=destination, address=address)
            if kind != "temp-queue":  # those are many, and short-lived
                self._channels[address] = known
        return known

    async def dispatch(self, entries: Sequence[Entry]) -> None:
        """Send frames; those that ask for replies to a temporary queue over that queue's connection."""
        self.check_open()
        own = {entry.message.return_address or "" for entry in entries}
        if not any(address.startswith(_OWN) for address in own):
            await self._outbox.send(entries)
            return
        for address in own:
            those = [entry for entry in entries if (entry.message.return_address or "") == address]
            await self._outbox_of(address).send(those)

    def _outbox_of(self, address: str) -> BatchAccumulator:
        if not address.startswith(_OWN):
            return self._outbox
        queue = self._temporary.get(address)
        if queue is None:
            raise ConfigurationError(f"{address} is no temporary queue of this transport, or one that is gone")
        return queue.outbox

    async def provision(self, resource: Resource, *, apply: bool) -> Iterable[Step]:
        """See `eip.topology.Provisioner.provision`; what a broker can be told, and tells, is little."""
        return await provision(self, resource, apply=apply)

    async def undeclared(
        self, channel: TopicSpec | BusSpec, declared: frozenset[str], *, delete: bool
    ) -> Iterable[Step]:
        """See `eip.topology.Provisioner.undeclared`; over STOMP nobody can know."""
        del channel, declared, delete
        return ()

    def health(self) -> Health:
        """Return whether each connection is up; `connections` has the details."""
        down = [each for each in self.connections() if not each.connected]
        if not down:
            return Health(ok=not self._closed, reason="closed" if self._closed else None)
        since = [each.failing_since for each in down if each.failing_since is not None]
        reasons = "; ".join(f"{each.name}: {each.reason or 'not connected yet'}" for each in down)
        return Health(ok=False, failing_since=min(since, default=None), reason=reasons)

    def connections(self) -> list[ConnectionHealth]:
        """Return how each connection is doing: when the broker last made progress, and whether it owes answers."""
        return sorted((link.health() for link in self.links), key=lambda each: each.name)

    def check_open(self) -> None:
        """Raise `ConfigurationError` if it was closed."""
        if self._closed:
            raise ConfigurationError(f"{self!r} was closed; make another one")

    async def aclose(self) -> None:
        """Send what was accepted for sending, in at most ten seconds, and disconnect all receivers, too. Idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            async with asyncio.timeout(_FLUSH_TIMEOUT_S if self._link.current is not None else 0):
                await self._outbox.flush()
        except TimeoutError:
            pass
        finally:
            await self._outbox.aclose()
            await asyncio.gather(*(link.aclose() for link in self.links))
            self.links.clear()

    def __repr__(self) -> str:
        return f"<ActiveMQTransport {', '.join(map(str, self.connector.servers))}>"


def _check_positive(**seconds: float) -> None:
    for name, value in seconds.items():
        if not value > 0:
            raise ConfigurationError(f"{name} must be more than 0 seconds, got {value:g}")


def _source(given: Credentials | CredentialsSource | None, found: Credentials | None) -> CredentialsSource:
    """What gives the credentials: what was given, the URL, or the environment."""
    if given is not None and not isinstance(given, Credentials):
        return given
    fixed = given or found
    if fixed is None:
        return environment()

    async def read() -> Credentials:
        password = fixed.password or os.environ.get("ACTIVEMQ_PASSWORD", "")
        return Credentials(user=fixed.user, password=password)

    return read
