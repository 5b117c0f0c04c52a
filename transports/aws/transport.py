"""The transport of Amazon's services."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Any, Final, TypeAlias, TypeVar

import aioboto3

from eip._checks import check_duration, check_integer, check_type
from eip.channels import Sender, Transport
from eip.clock import Duration
from eip.codec import JSON, Codec, is_json
from eip.errors import AddressRefused, ConfigurationError, StateError
from eip.health import Health
from eip.telemetry.meter import Meter
from eip.topology import BusSpec, Resource, Step, TopicSpec
from eip.transports.aws._calls import Calls
from eip.transports.aws._provision import provision, undeclared
from eip.transports.aws.eventbridge import EventBridgeBus
from eip.transports.aws.kinesis.rates import ReadRate, ReadRates
from eip.transports.aws.kinesis.stream import HashKey, KinesisStream
from eip.transports.aws.sns import SnsTopic
from eip.transports.aws.sqs import SqsQueue

__all__ = ["AwsTransport"]

_ARN: Final = re.compile(r"arn:(aws[a-z-]*):(sqs|sns):([a-z0-9-]+):([0-9]{12}):([A-Za-z0-9_-]{1,251}(?:\.fifo)?)")
_BUS_ARN: Final = re.compile(r"arn:(aws[a-z-]*):events:([a-z0-9-]+):([0-9]{12}):event-bus/([A-Za-z0-9._/-]{1,256})")
_ACCOUNT: Final = re.compile(r"[0-9]{12}")
_BUS_NAME: Final = re.compile(r"[A-Za-z0-9._/-]{1,256}")
_STREAM_ARN: Final = re.compile(r"arn:(aws[a-z-]*):kinesis:([a-z0-9-]+):([0-9]{12}):stream/([A-Za-z0-9_.-]{1,128})")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,251}(?:\.fifo)?")
_MOST_RESOLVED: Final = 1000
"""Channels known only by addresses that strangers named."""
_CLOSE: Final = 20.0
"""Seconds that what was accepted for sending is given at the end."""

_MAX_LINGER_S: Final = 60.0
_MAX_LONG_POLL_S: Final = 20.0
"""ReceiveMessage, API reference."""

_C = TypeVar("_C", SqsQueue, SnsTopic, EventBridgeBus)

_Channel: TypeAlias = SqsQueue | SnsTopic | EventBridgeBus | KinesisStream


class AwsTransport(Transport):
    """Queues on SQS, topics on SNS, buses on EventBridge, streams on Kinesis; use it with ``async with``.

    Credentials come from the SDK's ordinary chain. Channels must exist: declare them with `eip.topology`.

    Args:
        region: default: the session's, or AWS_REGION's.
        endpoint_url: of all services, e.g. ``http://127.0.0.1:5000`` of a local moto.
        session: an `aioboto3.Session` with credentials of its own.
        account: the account's number, 12 digits; default: asked for once, of STS.
        linger: how long a send may wait until its call is full, seconds or a timedelta, at most 60 s; 0: only while
            another call is under way.
        long_poll: length of a long poll, seconds or a timedelta, at most 20 s.
        connections: of each service's pool, at least 1; more than pollers and senders together.
        fair_queues: whether messages with a group carry it as MessageGroupId on standard queues, too, so that SQS
            keeps one group from holding up the others. A queue that refuses it is noticed once.
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
        session: aioboto3.Session | None = None,
        *,
        account: str | None = None,
        linger: Duration = 0.0,
        long_poll: Duration = 20.0,
        connections: int = 64,
        fair_queues: bool = True,
        meter: Meter | None = None,
    ) -> None:
        check_type("region", region, str, "a str", optional=True)
        check_type("endpoint_url", endpoint_url, str, "a str", optional=True)
        check_type("session", session, aioboto3.Session, "an aioboto3.Session", optional=True)
        check_type("account", account, str, "a str", optional=True)
        check_type("fair_queues", fair_queues, bool, "a bool")
        if account is not None and not _ACCOUNT.fullmatch(account):
            raise ConfigurationError(f"account must be 12 digits, got {account!r}")
        if meter is not None and not (callable(getattr(meter, "record", None)) and not isinstance(meter, type)):
            raise TypeError(f"meter must have a method record, got {meter!r}")
        self._linger = check_duration("linger", linger, most=_MAX_LINGER_S)
        self.long_poll = check_duration("long_poll", long_poll, positive=True, most=_MAX_LONG_POLL_S)
        check_integer("connections", connections, least=1)
        self._calls = Calls(
            session=session, region=region, endpoint_url=endpoint_url, meter=meter, connections=connections
        )
        self.region = self._calls.region
        self._account, self._fair_queues = account, fair_queues
        self._queues: dict[str, SqsQueue] = {}
        self._topics: dict[str, SnsTopic] = {}
        self._buses: dict[str, EventBridgeBus] = {}
        self._streams: dict[tuple[Any, ...], KinesisStream] = {}
        self._reads: dict[str, ReadRates] = {}
        self._resolved: dict[str, _Channel] = {}

    @property
    def account(self) -> str:
        """The account's number; known once the transport is open."""
        if self._account is None:
            raise StateError("use the transport inside its `async with`: the account is not known before")
        return self._account

    @property
    def partition(self) -> str:
        """The first part of its ARNs, e.g. ``aws``, ``aws-cn``, ``aws-us-gov``: by the SDK's partition data."""
        return self._calls.partition

    async def open(self) -> None:
        """Learn the account's number, where it was not given; raises within 10 seconds where nothing answers."""
        self._calls.check_open()
        if self._account is not None:
            return
        try:
            self._account = (await self.call("sts", "GetCallerIdentity"))["Account"]
        except BaseException:
            await self._calls.aclose()
            raise

    def health(self) -> Health:
        """See `Transport.health`."""
        return self._calls.health()

    async def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """A call of a service, by its API's own names; see `eip.transports.aws._calls.Calls.call`."""
        return await self._calls.call(service, operation, **parameters)

    def call_blocking(self, service: str, operation: str, *, timeout: float, **parameters: Any) -> dict[str, Any]:
        """A hot call from another thread; see `eip.transports.aws._calls.Calls.call_blocking`."""
        return self._calls.call_blocking(service, operation, timeout=timeout, **parameters)

    async def client(self, service: str) -> Any:
        """The SDK's own client of a service, with this transport's region, endpoint and credentials."""
        return await self._calls.client(service)

    def arn(self, service: str, name: str) -> str:
        """The ARN of a name in this account and region; an ARN stays what it is."""
        check_type("name", name, str, "a str")
        if name.startswith("arn:"):
            return name
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"{name!r} is no name of a queue or topic: letters, digits, - and _, and .fifo")
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{name}"

    def queue(self, name: str, *, codec: Codec | None = None) -> SqsQueue:
        """The queue of that name or ARN; FIFO where its name ends in ``.fifo``.

        Args:
            name: or ARN.
            codec: encodes the bodies that are sent, and decodes those of foreign producers; default: JSON.
        """
        _check_codec(codec)
        address = self.arn("sqs", name)
        if address not in self._queues:
            self._queues[address] = self._queue(address, codec or JSON)
        return _with_codec(self._queues[address], codec)

    def topic(self, name: str, *, codec: Codec | None = None) -> SnsTopic:
        """The topic of that name or ARN; FIFO where its name ends in ``.fifo``.

        Args:
            name: or ARN.
            codec: see `queue`; its subscriptions have it, too.
        """
        _check_codec(codec)
        address = self.arn("sns", name)
        if address not in self._topics:
            self._topics[address] = SnsTopic(self, address, linger=self._linger, codec=codec or JSON)
        return _with_codec(self._topics[address], codec)

    def bus(self, name: str = "default", *, codec: Codec | None = None) -> EventBridgeBus:
        """The event bus of that name or ARN.

        Args:
            name: or ARN.
            codec: one of a JSON syntax, as an event's detail is a JSON object; default: JSON.
        """
        check_type("name", name, str, "a str")
        _check_codec(codec)
        if codec is not None and not is_json(codec):
            raise ConfigurationError(f"codec must be of a JSON content type for a bus, got {codec.content_type!r}")
        if not _BUS_ARN.fullmatch(name) and not _BUS_NAME.fullmatch(name):
            raise ConfigurationError(f"{name!r} is no name of a bus: letters, digits, and ._-/")
        address = name if name.startswith("arn:") else self.events_arn("event-bus", name)
        if address not in self._buses:
            self._buses[address] = EventBridgeBus(self, address, linger=self._linger, codec=codec or JSON)
        return _with_codec(self._buses[address], codec)

    def _queue(self, address: str, codec: Codec = JSON) -> SqsQueue:
        return SqsQueue(self, address, linger=self._linger, codec=codec, fair=self._fair_queues)

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
        check_type("name", name, str, "a str")
        check_type("aggregate", aggregate, bool, "a bool")
        if hash_key is not None and not callable(hash_key):
            raise TypeError(f"hash_key must be a function or None, got {hash_key!r}")
        check_type("reads", reads, ReadRate, "a ReadRate", optional=True)
        address = name if name.startswith("arn:") else self._own_streams + name
        if not _STREAM_ARN.fullmatch(address):
            raise ConfigurationError(f"{name!r} is no name of a stream: letters, digits, and ._-")
        rates = self._reads.setdefault(address, ReadRates(reads or ReadRate()))
        if reads is not None and reads != rates.rate:
            raise ConfigurationError(f"stream {name} is read at another rate already")
        key = (address, aggregate, hash_key, codec)
        if key not in self._streams:
            self._streams[key] = self._stream(address, rates, aggregate=aggregate, hash_key=hash_key, codec=codec)
        return self._streams[key]

    def _stream(self, address: str, rates: ReadRates | None = None, **options: Any) -> KinesisStream:
        own = address.startswith(self._own_streams)
        return KinesisStream(
            self, address, own=own, rates=rates or ReadRates(ReadRate()), linger=self._linger, **options
        )

    @property
    def _own_streams(self) -> str:
        return f"arn:{self.partition}:kinesis:{self.region}:{self.account}:stream/"

    def report(self, service: str, channel: str, operation: str, *, messages: int, size: int) -> None:
        """Tell the meter of messages that came without a call, as a service pushes them."""
        if self._calls.meter is not None:
            self._calls.meter.record(service, channel, operation, messages=messages, size=size, units=0, calls=0)

    def events_arn(self, kind: str, name: str) -> str:
        """The ARN of a bus (``event-bus``), an ``archive`` or a ``rule`` in this account and region."""
        return f"arn:{self.partition}:events:{self.region}:{self.account}:{kind}/{name}"

    def rule_arn(self, bus: str, name: str) -> str:
        """The ARN of a rule."""
        return self.events_arn("rule", name if bus == "default" else f"{bus}/{name}")

    def resolve(self, address: str) -> Sender:
        """The queue, topic, bus or stream of an ARN in this partition and region."""
        check_type("address", address, str, "a str")
        known: _Channel | None = self._queues.get(address) or self._topics.get(address) or self._buses.get(address)
        if known is not None:
            return known
        known = self._resolved.pop(address, None) or self._made(address)
        self._resolved[address] = known
        if len(self._resolved) > _MOST_RESOLVED:
            del self._resolved[next(iter(self._resolved))]
        return known

    def _made(self, address: str) -> _Channel:
        found = _BUS_ARN.fullmatch(address)
        if found is not None and (found[1], found[2]) == (self.partition, self.region):
            return EventBridgeBus(self, address, linger=self._linger)
        found = _STREAM_ARN.fullmatch(address)
        if found is not None and (found[1], found[2]) == (self.partition, self.region):
            return self._stream(address, aggregate=False, hash_key=None)
        found = _ARN.fullmatch(address)
        if found is None or (found[1], found[3]) != (self.partition, self.region):
            raise AddressRefused(address, reason="no ARN of a queue, topic, bus or stream in this region")
        return self._queue(address) if found[2] == "sqs" else SnsTopic(self, address, linger=self._linger)

    def queue_addresses(self, prefix: str) -> str:
        """See `Transport.queue_addresses`."""
        return f"arn:{self.partition}:sqs:{self.region}:{self.account}:{prefix}*"

    async def provision(self, resource: Resource, *, apply: bool) -> Iterable[Step]:
        """See `eip.topology.Provisioner.provision`."""
        return await provision(self, resource, apply=apply)

    async def undeclared(
        self, channel: TopicSpec | BusSpec, declared: frozenset[str], *, delete: bool
    ) -> Iterable[Step]:
        """See `eip.topology.Provisioner.undeclared`."""
        return await undeclared(self, channel, declared, delete=delete)

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
            await asyncio.gather(*(channel.aclose(limit=_CLOSE) for channel in channels))
        finally:
            await self._calls.aclose()

    def __repr__(self) -> str:
        return f"<AwsTransport {self.region}>"


def _check_codec(codec: Codec | None) -> None:
    whole = all(hasattr(codec, name) for name in ("content_type", "encode", "decode"))
    if codec is not None and (isinstance(codec, type) or not whole):
        raise TypeError(f"codec must be a Codec or None, got {codec!r}")


def _with_codec(channel: _C, codec: Codec | None) -> _C:
    """The channel; raises `ConfigurationError` where it has another codec already."""
    had = channel.codec
    if codec is not None and (type(codec), codec.content_type) != (type(had), had.content_type):
        raise ConfigurationError(
            f"{channel.name} has the codec of {had.content_type} already, not {codec.content_type}"
        )
    return channel
