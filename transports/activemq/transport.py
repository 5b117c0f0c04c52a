"""The transport of ActiveMQ brokers."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Sequence
from typing import Final, get_args

from typing_extensions import override

from eip._checks import check_duration, check_integer, check_one_of
from eip.channels import Sender, ServerInfo, Transport
from eip.clock import Duration
from eip.codec import JSON, Codec, check_codec
from eip.errors import AddressRefused, ConfigurationError
from eip.health import Health
from eip.limits import KIB, Capabilities
from eip.telemetry.meter import Meter
from eip.topology import Container, Resource, Step
from eip.transports._capabilities import ACTIVEMQ
from eip.transports.activemq._addresses import SCHEME, checked_name, parse, to_destination
from eip.transports.activemq._client import Client
from eip.transports.activemq._credentials import credentials_source
from eip.transports.activemq._publisher import Publisher
from eip.transports.activemq._stomp.connecting import Connector
from eip.transports.activemq._stomp.reconnecting import ConnectionHealth
from eip.transports.activemq._stomp.servers import Credentials, CredentialsSource, parse_servers
from eip.transports.activemq._subscription import OnEmpty
from eip.transports.activemq.provisioning import provision
from eip.transports.activemq.queue import ActiveMQQueue, Redrive
from eip.transports.activemq.temporary import ActiveMQTemporaryQueue
from eip.transports.activemq.topic import VIRTUAL_PREFIX, ActiveMQTopic

__all__ = ["ActiveMQTransport"]

_ON_EMPTY: Final[tuple[OnEmpty, ...]] = get_args(OnEmpty)


class ActiveMQTransport(Transport):
    """Queues and topics of an ActiveMQ broker over STOMP 1.2; use it with ``async with``.

    One connection sends, confirmed, in transactions; each receiver has its own, so that a broker that holds a producer
    back never holds acknowledgements back.

    Args:
        url: the brokers, active before standby: ``stomp+ssl://user@active:61614,stomp+ssl://standby:61614``.
        credentials: `Credentials`, or their source: `environment`, `secret`, or an async function, called for each
            connection. Default: those of the URL, or else ACTIVEMQ_USER and ACTIVEMQ_PASSWORD.
        tls: default: the system's certificates, names checked.
        heartbeat: seconds between heart-beats, ours and the broker's; 0: none.
        max_blocked: seconds that the event loop may be blocked before the broker counts us as dead and hands out again
            what we hold; it also does so that long after our machine has vanished.
        probe_interval: seconds without a message or an answer after which the broker is asked for a sign of progress.
        connect_timeout: timeout, in seconds, to connect and log in to one broker.
        open_timeout: timeout, in seconds, to open the transport or a receiver, all attempts included.
        answer_timeout: timeout, in seconds, of the broker's confirmations; a broker that exceeds it counts as dead.
        timeout: timeout, in seconds, of a send while no broker answers.
        max_message_bytes: maximum size of a frame, the broker's own limit (``wireFormat.maxFrameSize``).
        meter: records every frame, see `eip.telemetry.meter`.
        patience: the earlier name of ``timeout`` and ``open_timeout``.

    Raises:
        ConfigurationError: a wrong URL, or an option out of range.
    """

    kinds = ("queue", "topic")

    def __init__(
        self,
        url: str,
        *,
        credentials: Credentials | CredentialsSource | None = None,
        tls: ssl.SSLContext | None = None,
        heartbeat: Duration = 10.0,
        max_blocked: Duration = 60.0,
        probe_interval: Duration = 30.0,
        connect_timeout: Duration = 5.0,
        open_timeout: Duration = 10.0,
        answer_timeout: Duration = 30.0,
        timeout: Duration = 60.0,
        max_message_bytes: int = ACTIVEMQ.message_bytes or 0,
        meter: Meter | None = None,
        patience: Duration | None = None,
    ) -> None:
        if patience is not None:
            timeout = open_timeout = check_duration("patience", patience, positive=True)
        servers, in_url = parse_servers(url)
        if tls is None and any(server.tls for server in servers):
            tls = ssl.create_default_context()
        max_message_bytes = check_integer("max_message_bytes", max_message_bytes, least=KIB)
        connector = Connector(
            servers=servers,
            credentials=credentials_source(credentials, in_url),
            tls=tls,
            max_body=max_message_bytes,
            heartbeat=check_duration("heartbeat", heartbeat),
            max_blocked=check_duration("max_blocked", max_blocked, positive=True),
            connect_timeout=check_duration("connect_timeout", connect_timeout, positive=True),
            open_timeout=check_duration("open_timeout", open_timeout, positive=True),
            answer_timeout=check_duration("answer_timeout", answer_timeout, positive=True),
            probe_interval=check_duration("probe_interval", probe_interval, positive=True),
            timeout=check_duration("timeout", timeout, positive=True),
        )
        self.limits = Capabilities(
            message_bytes=max_message_bytes,
            batch_entries=ACTIVEMQ.batch_entries,
            batch_bytes=ACTIVEMQ.batch_bytes,
        )
        self._servers = servers
        self._client = Client(connector, limits=self.limits, meter=meter)
        self._queues: dict[str, ActiveMQQueue] = {}
        self._topics: dict[str, ActiveMQTopic] = {}

    @property
    def meter(self) -> Meter | None:
        """What records its calls; set it before channels are asked for."""
        return self._client.meter

    @meter.setter
    def meter(self, meter: Meter | None) -> None:
        self._client.use_meter(meter)

    @override
    def servers(self) -> Sequence[ServerInfo]:
        return [
            ServerInfo(f"broker-{number}", "stomps" if each.tls else "stomp", f"{each.host}:{each.port}", self.kinds)
            for number, each in enumerate(self._servers, 1)
        ]

    @override
    async def open(self) -> None:
        """Connect.

        Raises:
            AccessDenied: the broker refuses the credentials.
            ConnectionLost: no broker answers within ``open_timeout``.
            TransportError: the port does not speak STOMP, or its certificate is not trusted.
        """
        try:
            await self._client.open()
        except BaseException:
            await self.aclose()
            raise

    @override
    def queue(
        self,
        name: str,
        *,
        dead_letters: Sender | None = None,
        max_receive_count: int | None = None,
        extra_prefetch: int | None = None,
        codec: Codec | None = None,
        on_empty: OnEmpty | None = None,
    ) -> ActiveMQQueue:
        """Return the queue of that name; the broker makes it at its first use.

        Args:
            name: letters, digits and ``- _ . $``, up to 250.
            dead_letters: where consumers of this transport move, with the reason, what was received
                ``max_receive_count`` times. Default: what an earlier call has set.
            max_receive_count: goes with ``dead_letters``.
            extra_prefetch: how many more messages each receiver may be handed than it can start, default 0. With
                message groups, those that wait behind a failed head take slots, and without extra ones the other
                groups of that consumer would wait as well.
            codec: decodes the messages of other programs, and encodes bodies that have no codec of their own; default:
                what an earlier call has set, or JSON.
            on_empty: what becomes of another program's message that comes without a body. It may be a map, a stream or
                an object of JMS, whose contents STOMP does not carry, or an empty text; they look the same.
                ``"dead_letter"``: it cannot be read, and stays with the broker, contents and all; ``"handle"``: it is
                an empty text, for producers that send no others. Default: what an earlier call has set, or dead_letter.

        Raises:
            ConfigurationError: a name that means more than one queue to the broker, an option out of range, or another
                codec than an earlier call has set.
        """
        if (dead_letters is None) != (max_receive_count is None):
            raise ConfigurationError(
                "dead_letters and max_receive_count go together, "
                f"got dead_letters={dead_letters!r} and max_receive_count={max_receive_count!r}"
            )
        check_codec(codec, optional=True)
        queue = self._queue(name)
        queue.use_codec(codec)
        if dead_letters is not None and max_receive_count is not None:
            queue.redrive = Redrive(dead_letters=dead_letters, max_receive_count=max_receive_count)
        if on_empty is not None:
            queue.on_empty = check_one_of("on_empty", on_empty, _ON_EMPTY)
        if extra_prefetch is not None:
            queue.extra_prefetch = check_integer("extra_prefetch", extra_prefetch, least=0)
        return queue

    def _queue(self, name: str) -> ActiveMQQueue:
        if checked_name(name) not in self._queues:
            self._queues[name] = ActiveMQQueue(self._client, name=name, **_addresses("queue", name))
        return self._queues[name]

    @override
    def topic(
        self, name: str, *, virtual: bool = True, codec: Codec | None = None, on_empty: OnEmpty | None = None
    ) -> ActiveMQTopic:
        """Return the topic of that name; the broker makes it at its first use.

        Args:
            name: as for `queue`.
            virtual: whether it is the virtual topic ``VirtualTopic.name``; otherwise a plain one.
            codec: as for `queue`.
            on_empty: as for `queue`, of its subscriptions.
        """
        check_codec(codec, optional=True)
        if virtual and not checked_name(name).startswith(VIRTUAL_PREFIX):
            name = VIRTUAL_PREFIX + name
        topic = self._topic(name)
        topic.use_codec(codec)
        if on_empty is not None:
            topic.on_empty = check_one_of("on_empty", on_empty, _ON_EMPTY)
        return topic

    def _topic(self, name: str) -> ActiveMQTopic:
        if checked_name(name) not in self._topics:
            self._topics[name] = ActiveMQTopic(self._client, queue=self._queue, name=name, **_addresses("topic", name))
        return self._topics[name]

    @override
    def temporary_queue(
        self, name: str = "replies", *, codec: Codec = JSON, on_empty: OnEmpty = "dead_letter"
    ) -> ActiveMQTemporaryQueue:
        """Return a new queue for replies to this process, which is gone with its receiver's connection.

        Args:
            name: the broker chooses it; not used.
            codec: see `queue`.
            on_empty: see `queue`.
        """
        del name
        check_codec(codec)
        return ActiveMQTemporaryQueue(self._client, codec, check_one_of("on_empty", on_empty, _ON_EMPTY))

    @override
    async def remove_queue(self, name: str) -> None:
        """Do nothing: STOMP has no frame for it, and the broker's ``gcInactiveDestinations`` does it."""

    @override
    def resolve(self, address: str) -> Sender:
        """Return the queue or topic of an address; also a temporary queue of another connection."""
        match parse(address):
            case ("queue", name):
                return self._queue(name)
            case ("topic", name):
                return self._topic(name)
            case ("temp-queue", name):  # not kept: they are many, and short-lived
                return Publisher(self._client, name=name, **_addresses("temp-queue", name))
        raise AddressRefused(address, reason="not a queue or topic of this broker")

    @override
    def queue_addresses(self, prefix: str) -> str:
        return f"{SCHEME}queue/{prefix}*"

    async def provision(self, resource: Resource, *, apply: bool) -> Iterable[Step]:
        """Plan or apply one resource of a topology; see `eip.topology.Provisioner.provision`.

        Args:
            resource: what is declared.
            apply: whether to make it.
        """
        return await provision(self, resource, apply=apply)

    async def undeclared(self, container: Container, declared: frozenset[str], *, delete: bool) -> Iterable[Step]:
        """Return nothing: STOMP has no way to ask what exists. See `eip.topology.Provisioner.undeclared`."""
        del container, declared, delete
        return ()

    @override
    def health(self) -> Health:
        """Return whether each connection is up; `connections` has the details."""
        down = [each for each in self.connections() if not each.connected]
        if not down:
            return Health(ok=not self._client.closed, reason="closed" if self._client.closed else None)
        since = [each.failing_since for each in down if each.failing_since is not None]
        reasons = "; ".join(f"{each.name}: {each.reason or 'not connected yet'}" for each in down)
        return Health(ok=False, failing_since=min(since, default=None), reason=reasons)

    def connections(self) -> list[ConnectionHealth]:
        """Return the state of each connection: when the broker last made progress, and what it has not answered."""
        return sorted((each.health() for each in self._client.connections), key=lambda each: each.name)

    @override
    async def aclose(self) -> None:
        """Send what was accepted for sending, in at most ten seconds, and disconnect, receivers included.

        Idempotent.
        """
        await self._client.aclose()

    def __repr__(self) -> str:
        return f"<ActiveMQTransport {self._client.connector}>"


def _addresses(kind: str, name: str) -> dict[str, str]:
    """Return a channel's address, and the broker's own name of it."""
    address = f"{SCHEME}{kind}/{name}"
    return {"address": address, "destination": to_destination(address) or ""}
