"""The transport of ActiveMQ brokers."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterable, Sequence
from typing import Final
from weakref import WeakValueDictionary

from eip import health
from eip.channels import Sender, Transport
from eip.errors import AddressRefused, ConfigurationError
from eip.limits import ACTIVEMQ, KIB, Limits
from eip.telemetry.meter import Meter
from eip.topology import BusSpec, Resource, Step, TopicSpec
from eip.transports.activemq._addresses import SCHEME, checked_name, parse, to_destination
from eip.transports.activemq._link import Dialer, Health, Link
from eip.transports.activemq._outbox import Entry, Outbox
from eip.transports.activemq._provision import provision
from eip.transports.activemq._servers import Credentials, CredentialsSource, environment, parse_servers
from eip.transports.activemq.queue import ActiveMQQueue, Publisher, Redrive
from eip.transports.activemq.temporary import TemporaryQueue
from eip.transports.activemq.topic import VIRTUAL, ActiveMQTopic

__all__ = ["ActiveMQTransport"]

_CLOSE: Final = 20.0
"""Seconds that what was accepted for sending is given at the end."""
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
        probe: seconds without a message or an answer after which the broker is asked for a sign of progress.
        connect_timeout: seconds that one broker has to let us in.
        answer_timeout: seconds in which a broker confirms; one that does not is taken for dead.
        patience: seconds that a send, or the opening of a receiver, goes on while no broker is there.
        max_message_bytes: of a frame, the broker's own limit (``wireFormat.maxFrameSize``).
        meter: is told of every frame, see `eip.telemetry.meter`.
    """

    kinds = ("queue", "topic")

    def __init__(
        self,
        url: str,
        *,
        credentials: Credentials | CredentialsSource | None = None,
        tls: ssl.SSLContext | None = None,
        heartbeat: float = 10.0,
        probe: float = 30.0,
        connect_timeout: float = 10.0,
        answer_timeout: float = 30.0,
        patience: float = 60.0,
        max_message_bytes: int = ACTIVEMQ.message_bytes or 0,
        meter: Meter | None = None,
    ) -> None:
        if heartbeat < 0 or min(probe, connect_timeout, answer_timeout, patience) <= 0 or max_message_bytes < KIB:
            raise ConfigurationError(
                "times are more than 0, a heartbeat may be 0, and a message has a kilobyte at least"
            )
        servers, found = parse_servers(url)
        if tls is None and any(server.tls for server in servers):
            tls = ssl.create_default_context()
        self.limits = Limits(
            message_bytes=max_message_bytes,
            batch_entries=ACTIVEMQ.batch_entries,
            batch_bytes=ACTIVEMQ.batch_bytes,
        )
        self.meter = meter
        self.dialer = Dialer(
            servers=servers,
            credentials=_source(credentials, found),
            tls=tls,
            most_body=max_message_bytes,
            heartbeat=heartbeat,
            connect_timeout=connect_timeout,
            answer_timeout=answer_timeout,
            probe_interval=probe,
            patience=patience,
        )
        self.links: set[Link] = set()
        """The connections of this transport."""
        self._link = Link(self.dialer, name="sender")
        self._outbox = Outbox(self._link, meter)
        self._channels: dict[str, Publisher] = {}
        self._temporary: WeakValueDictionary[str, TemporaryQueue] = WeakValueDictionary()

    async def open(self) -> None:
        """Connect; raises `AccessDenied`, and `ConnectionLost` where no broker answers as long as patience goes."""
        self.links.add(self._link)
        try:
            await self._link.connection()
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
    ) -> ActiveMQQueue:
        """The queue of that name; the broker makes it at its first use.

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
                raise ConfigurationError("ahead is not negative")
            queue.ahead = ahead
        return queue

    def topic(self, name: str, *, virtual: bool = True) -> ActiveMQTopic:
        """The topic of that name: the virtual topic ``VirtualTopic.name``, or the plain one."""
        if virtual and not name.startswith(VIRTUAL):
            name = VIRTUAL + name
        topic = self._channel("topic", name)
        assert isinstance(topic, ActiveMQTopic)
        return topic

    def temporary_queue(self) -> TemporaryQueue:
        """A new queue for replies to this process, which is gone with its connection."""
        queue = TemporaryQueue(self)
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
        own = {entry.message.return_address or "" for entry in entries}
        if not any(address.startswith(_OWN) for address in own):
            await self._outbox.send(entries)
            return
        for address in own:
            those = [entry for entry in entries if (entry.message.return_address or "") == address]
            await self._outbox_of(address).send(those)

    def _outbox_of(self, address: str) -> Outbox:
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

    def health(self) -> health.Health:
        """Whether each connection is up; `connections` has the details."""
        down = [each.name for each in self.connections() if not each.connected]
        return health.Health(ok=not down, reason=f"not connected: {', '.join(down)}" if down else None)

    def connections(self) -> list[Health]:
        """How each connection is doing: when the broker last made progress, and whether it owes answers."""
        return sorted((link.health() for link in self.links), key=lambda each: each.name)

    async def aclose(self) -> None:
        """Send what was accepted for sending, in at most 20 seconds, and disconnect, receivers included."""
        try:
            async with asyncio.timeout(_CLOSE):
                await self._outbox.flush()
        except TimeoutError:
            pass
        finally:
            await self._outbox.aclose()
            await asyncio.gather(*(link.aclose() for link in self.links))
            self.links.clear()

    def __repr__(self) -> str:
        return f"<ActiveMQTransport {', '.join(map(str, self.dialer.servers))}>"


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
