"""The transport of Amazon's services."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from typing_extensions import override

from eip._aws.sessions import check_session
from eip._checks import check_duration, check_integer, check_type
from eip.channels import Sender, ServerInfo, Transport
from eip.clock import Duration
from eip.codec import JSON, Codec, check_codec, is_json
from eip.errors import ChannelNotFound, ConfigurationError
from eip.health import Health
from eip.telemetry.meter import Meter
from eip.topology import Container, QueueSpec, Resource, Step, StreamSpec, TopicSpec
from eip.transports._capabilities import SQS
from eip.transports.aws._batch_dispatcher import Batching
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws._role_policies import role_arn, role_name
from eip.transports.aws.arns import Arns, Kind
from eip.transports.aws.eventbridge.bus import EventBridgeBus
from eip.transports.aws.kinesis.rates import ReadRate, ReadRates
from eip.transports.aws.kinesis.stream import HashKey, KinesisStream
from eip.transports.aws.sns.topic import SnsTopic
from eip.transports.aws.sqs.queue import SqsQueue
from eip.transports.aws.sqs.temporary import SqsTemporaryQueue, temporary_name

if TYPE_CHECKING:
    import aioboto3
    from aiobotocore.session import AioSession

    from eip.transports.aws.scheduler.messages import EventBridgeSchedules

__all__ = ["AwsTransport"]

_MAX_RESOLVED: Final = 1000
"""Channels known only from return addresses."""
_FLUSH_TIMEOUT_S: Final = 20.0
"""For what was accepted for sending, at the end."""

_MAX_LINGER_S: Final = 60.0
_MAX_HEARTBEAT_S: Final = 3600.0

_C = TypeVar("_C", SqsQueue, SnsTopic, EventBridgeBus)

_Channel: TypeAlias = SqsQueue | SnsTopic | EventBridgeBus | KinesisStream


_SERVICES: Final = (
    ("queue", "sqs", "sqs"),
    ("topic", "sns", "sns"),
    ("bus", "eventbridge", "events"),
    ("stream", "kinesis", "kinesis"),
)
"""Of each kind of channel: the protocol's name, and the service's in its endpoint."""


class AwsTransport(Transport):
    """Queues on SQS, topics on SNS, buses on EventBridge, streams on Kinesis; use it with ``async with``.

    Credentials come from the SDK's ordinary chain. Channels must exist: declare them with `eip.topology`.

    Args:
        region: default: the session's, or AWS_REGION's.
        endpoint_url: of all services, e.g. ``http://127.0.0.1:5000`` of a local moto.
        session: an `aioboto3.Session` or `aiobotocore.session.AioSession`, with credentials of its own.
        account: the account's number, 12 digits; default: asked for once, of STS.
        linger: how long a send may wait until its call is full, seconds or a timedelta, at most 60 s; 0: only while
            another call is under way.
        max_partial_calls: a send starts a call that is not full while fewer than that are under way to its channel.
            More than 1 shortens the wait, and makes more calls.
        long_poll: length of a long poll, seconds or a timedelta, at most 20 s.
        connections: of each service's pool, at least 1; more than pollers and senders together.
        fair_queues: whether messages with a group carry it as MessageGroupId on standard queues and topics, too, so
            that SQS keeps one group from holding up the others. A channel that refuses it is noticed once.
        fast_path: whether hot calls bypass the SDK, for less CPU; turn it off for programs that hook into botocore.
            Default: unless the environment variable ``EIP_AWS_FAST_PATH`` is ``off``.
        meter: gets a record of every call, see `eip.telemetry.meter`.

    Raises:
        TypeError: an argument of another type.
        ConfigurationError: an argument out of range, no region, or a region that the SDK does not know.
    """

    kinds = ("queue", "topic", "bus", "stream")

    def __init__(
        self,
        region: str | None = None,
        endpoint_url: str | None = None,
        session: AioSession | aioboto3.Session | None = None,
        *,
        account: str | None = None,
        linger: Duration = 0.0,
        max_partial_calls: int = 1,
        long_poll: Duration = 20.0,
        connections: int = 64,
        fair_queues: bool = True,
        fast_path: bool | None = None,
        meter: Meter | None = None,
    ) -> None:
        check_type("region", region, str, "a str", optional=True)
        check_type("endpoint_url", endpoint_url, str, "a str", optional=True)
        check_session(session)
        check_type("account", account, str, "a str", optional=True)
        check_type("fair_queues", fair_queues, bool, "a bool")
        if meter is not None and not (callable(getattr(meter, "record", None)) and not isinstance(meter, type)):
            raise TypeError(f"meter must have a method record, got {meter!r}")
        self._batching = Batching(
            check_duration("linger", linger, most=_MAX_LINGER_S),
            check_integer("max_partial_calls", max_partial_calls, least=1),
        )
        self._long_poll = check_duration("long_poll", long_poll, positive=True, most=SQS.long_poll)
        self._client = ServiceClient(
            session=session,
            region=region,
            endpoint_url=endpoint_url,
            meter=meter,
            connections=check_integer("connections", connections, least=1),
            fast_path=fast_path,
        )
        self._arns = Arns(self._client.partition, self._client.region, account)
        self._fair_queues = fair_queues
        self._queues: dict[str, SqsQueue] = {}
        self._topics: dict[str, SnsTopic] = {}
        self._buses: dict[str, EventBridgeBus] = {}
        self._streams: dict[tuple[Any, ...], KinesisStream] = {}
        self._reads: dict[str, ReadRates] = {}
        self._resolved: OrderedDict[str, _Channel] = OrderedDict()
        self._temporary: dict[str, SqsTemporaryQueue] = {}

    @override
    def servers(self) -> Sequence[ServerInfo]:
        return [
            ServerInfo(protocol, protocol, self._client.host(service), (kind,)) for kind, protocol, service in _SERVICES
        ]

    @property
    def region(self) -> str:
        """The region of all its channels."""
        return self._arns.region

    @property
    def account(self) -> str:
        """The account's number; raises `StateError` while the transport is not open, unless it was given."""
        return self._arns.account

    @property
    def partition(self) -> str:
        """The first part of its ARNs, e.g. ``aws``, ``aws-cn``, ``aws-us-gov``, by the SDK's partition data."""
        return self._arns.partition

    @property
    def meter(self) -> Meter | None:
        """What records its calls; set it before channels are asked for."""
        return self._client.meter

    @meter.setter
    def meter(self, meter: Meter | None) -> None:
        self._client.meter = meter

    @override
    async def open(self) -> None:
        """Ask for the account's number, unless it was given; raises within 10 seconds where nothing answers."""
        self._client.check_open()
        if self._arns.account_known:
            return
        try:
            self._arns.account = (await self._client.call("sts", "GetCallerIdentity"))["Account"]
        except BaseException:
            await self._client.aclose()
            raise

    @override
    def health(self) -> Health:
        return self._client.health()

    async def client(self, service: str) -> Any:
        """The SDK's own client of a service, with this transport's region, endpoint and credentials.

        Args:
            service: the SDK's name of it, e.g. ``s3``.
        """
        return await self._client.client(check_type("service", service, str, "a str"))

    @override
    def queue(self, name: str, *, codec: Codec | None = None) -> SqsQueue:
        """The queue of that name or ARN; FIFO where its name ends in ``.fifo``.

        Args:
            name: or ARN.
            codec: encodes the bodies that are sent, and decodes those of foreign producers; default: JSON.
        """
        check_codec(codec, optional=True)
        address = self._arns.of("queue", name)
        if address not in self._queues:
            self._queues[address] = self._make_queue(address, codec or JSON)
        return _with_codec(self._queues[address], codec)

    @override
    def temporary_queue(self, name: str = "replies", *, heartbeat: Duration = 60.0) -> SqsTemporaryQueue:
        """A new queue for replies to this process: made at its first use, removed when its block or the transport ends.

        Args:
            name: what its name begins with, 1 to 30 letters, digits, - and _.
            heartbeat: between signs of life, seconds or a timedelta, at most an hour. When five are missing, another
                process with a temporary queue of that name removes this one.
        """
        interval = check_duration("heartbeat", heartbeat, positive=True, most=_MAX_HEARTBEAT_S)
        address = self._arns.of("queue", temporary_name(check_type("name", name, str, "a str")))
        queue = self._temporary[address] = SqsTemporaryQueue(
            self._client,
            address,
            prefix=name,
            heartbeat=interval,
            on_removed=lambda: self._temporary.pop(address, None),
            **self._queue_options(JSON),
        )
        return queue

    @override
    async def remove_queue(self, name: str) -> None:
        address = self._arns.of("queue", name)
        try:
            url = await self.queue(name).url()
            await self._client.call("sqs", "DeleteQueue", channel=name, QueueUrl=url)
        except ChannelNotFound:
            pass
        queue = self._queues.pop(address)
        await queue.aclose(timeout=0.0)

    @override
    def topic(self, name: str, *, codec: Codec | None = None) -> SnsTopic:
        """The topic of that name or ARN; FIFO where its name ends in ``.fifo``.

        Args:
            name: or ARN.
            codec: see `queue`; its subscriptions have it, too.
        """
        check_codec(codec, optional=True)
        address = self._arns.of("topic", name)
        if address not in self._topics:
            self._topics[address] = self._make_topic(address, codec or JSON)
        return _with_codec(self._topics[address], codec)

    @override
    def bus(self, name: str = "default", *, codec: Codec | None = None) -> EventBridgeBus:
        """The event bus of that name or ARN.

        Args:
            name: or ARN.
            codec: one of a JSON syntax, as an event's detail is a JSON object; default: JSON.
        """
        check_codec(codec, optional=True)
        if codec is not None and not is_json(codec):
            raise ConfigurationError(f"codec must be of a JSON content type for a bus, got {codec.content_type!r}")
        address = self._arns.of("bus", name)
        if address not in self._buses:
            self._buses[address] = self._make_bus(address, codec or JSON)
        return _with_codec(self._buses[address], codec)

    def schedules(self, group: str = "default", *, role: str | None = None) -> EventBridgeSchedules:
        """Schedules of messages that EventBridge Scheduler carries out, for `eip.patterns.MessageScheduler`.

        Args:
            group: the schedules' group; it must exist.
            role: ARN of the role with which the service sends; default: the one that
                `eip.transports.aws.ScheduleGroupSpec.sends_to` makes.
        """
        from eip.transports.aws.scheduler.messages import EventBridgeSchedules  # noqa: PLC0415 - few need it

        check_type("group", group, str, "a str")
        check_type("role", role, str, "a str", optional=True)
        source = self._arns.resource("scheduler", f"schedule-group/{group}")
        return EventBridgeSchedules(self._client, group=group, role=role or role_arn(self._arns, role_name(source)))

    @override
    def stream(
        self,
        name: str,
        *,
        aggregate: bool = False,
        hash_key: HashKey | None = None,
        reads: ReadRate | None = None,
        codec: Codec = JSON,
    ) -> KinesisStream:
        """The stream of that name or ARN.

        Args:
            name: or ARN.
            aggregate: put many messages as one record, in the format of Amazon's producer library: cheaper and faster,
                for consumers that take it apart, as ours do.
            hash_key: chooses a message's explicit hash key, and so its shard.
            reads: how fast its shards are polled, by all groups of this transport together; counts at the first call.
            codec: encodes the bodies that are sent, and decodes those of foreign producers; default: JSON.
        """
        check_codec(codec)
        check_type("aggregate", aggregate, bool, "a bool")
        check_type("reads", reads, ReadRate, "a ReadRate", optional=True)
        if hash_key is not None and not callable(hash_key):
            raise TypeError(f"hash_key must be a function or None, got {hash_key!r}")
        address = self._arns.of("stream", name)
        rates = self._reads.setdefault(address, ReadRates(reads or ReadRate()))
        if reads is not None and reads != rates.rate:
            raise ConfigurationError(f"reads of stream {name} must be {rates.rate!r} as before, got {reads!r}")
        key = (address, aggregate, hash_key, codec)
        if key not in self._streams:
            self._streams[key] = self._make_stream(address, rates, aggregate=aggregate, hash_key=hash_key, codec=codec)
        return self._streams[key]

    def _make_queue(self, address: str, codec: Codec = JSON) -> SqsQueue:
        return SqsQueue(self._client, address, **self._queue_options(codec))

    def _queue_options(self, codec: Codec) -> dict[str, Any]:
        return {
            "find_queue": self.queue,
            "batching": self._batching,
            "long_poll": self._long_poll,
            "codec": codec,
            "fair": self._fair_queues,
        }

    def _make_topic(self, address: str, codec: Codec = JSON) -> SnsTopic:
        return SnsTopic(
            self._client,
            address,
            find_queue=self.queue,
            batching=self._batching,
            codec=codec,
            fair=self._fair_queues,
        )

    def _make_bus(self, address: str, codec: Codec = JSON) -> EventBridgeBus:
        return EventBridgeBus(
            self._client, self._arns, address, find_queue=self.queue, batching=self._batching, codec=codec
        )

    def _make_stream(self, address: str, rates: ReadRates | None = None, **options: Any) -> KinesisStream:
        rates = rates or ReadRates(ReadRate())
        own = self._arns.is_own(address)
        return KinesisStream(self._client, address, own=own, rates=rates, batching=self._batching, **options)

    @override
    def resolve(self, address: str) -> Sender:
        """The queue, topic, bus or stream of an ARN in this partition and region."""
        check_type("address", address, str, "a str")
        known: _Channel | None = self._queues.get(address) or self._topics.get(address) or self._buses.get(address)
        if known is not None:
            return known
        known = self._resolved.pop(address, None) or self._make(self._arns.parse(address).kind, address)
        self._resolved[address] = known
        if len(self._resolved) > _MAX_RESOLVED:
            self._resolved.popitem(last=False)
        return known

    def _make(self, kind: Kind, address: str) -> _Channel:
        match kind:
            case "queue":
                return self._make_queue(address)
            case "topic":
                return self._make_topic(address)
            case "bus":
                return self._make_bus(address)
            case "stream":
                return self._make_stream(address, aggregate=False, hash_key=None)

    @override
    def queue_addresses(self, prefix: str) -> str:
        return f"arn:{self.partition}:sqs:{self.region}:{self.account}:{prefix}*"

    async def provision(self, resource: Resource, *, apply: bool) -> Iterable[Step]:
        """The steps for one resource, done where ``apply`` is set; see `eip.topology.Provisioner`."""
        from eip.transports.aws import provisioning  # noqa: PLC0415 - running channels need none of it

        steps = await provisioning.provision(self._client, self._arns, resource, apply=apply)
        if apply:
            self._forget_attributes(resource)
        return steps

    def _forget_attributes(self, resource: Resource) -> None:
        channels: list[SqsQueue | SnsTopic | KinesisStream | None] = []
        if isinstance(resource, QueueSpec):
            channels = [self._queues.get(self._arns.of("queue", resource.name))]
        elif isinstance(resource, TopicSpec):
            channels = [self._topics.get(self._arns.of("topic", resource.name))]
        elif isinstance(resource, StreamSpec):
            address = self._arns.of("stream", resource.name)
            channels = [stream for key, stream in self._streams.items() if key[0] == address]
        for channel in channels:
            if channel is not None:
                channel.forget_attributes()

    async def undeclared(self, container: Container, declared: frozenset[str], *, delete: bool) -> Iterable[Step]:
        """The steps for what exists and is not declared; see `eip.topology.Provisioner`."""
        from eip.transports.aws import provisioning  # noqa: PLC0415 - as above

        return await provisioning.find_undeclared(self._client, self._arns, container, declared, delete=delete)

    @override
    async def aclose(self) -> None:
        """Send what was accepted for sending, in at most 20 seconds, and disconnect."""
        channels: list[_Channel] = [
            *self._queues.values(),
            *self._topics.values(),
            *self._buses.values(),
            *self._streams.values(),
            *self._resolved.values(),
        ]
        try:
            await asyncio.gather(*(channel.aclose(timeout=_FLUSH_TIMEOUT_S) for channel in channels))
            await asyncio.gather(*(queue.remove() for queue in list(self._temporary.values())))
        finally:
            await self._client.aclose()

    def __repr__(self) -> str:
        return f"<AwsTransport {self.region}>"


def _with_codec(channel: _C, codec: Codec | None) -> _C:
    """The channel; raises `ConfigurationError` where it has another codec already."""
    had = channel.codec
    if codec is not None and (type(codec), codec.content_type) != (type(had), had.content_type):
        raise ConfigurationError(
            f"{channel.name} has the codec of {had.content_type} already, not {codec.content_type}"
        )
    return channel
