"""Whatever arrives can be dead-lettered and redriven byte for byte, with its attributes' types, labels and digits.

Each case is a path that a dead letter can travel. To add one: a subclass of `Path` and a fixture in `PATHS`.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from abc import ABC, abstractmethod
from base64 import b64decode
from collections import Counter
from collections.abc import Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar, NamedTuple, TypeAlias
from uuid import uuid4

import pytest

from eip import Consumer, Message, Queue, Reject, Source
from eip.channels import Sender
from eip.errors import DecodeError
from eip.patterns import redrive
from eip.stores import MemoryStore
from eip.topology import BusSpec, QueueSpec, RuleSpec, StreamSpec, SubscriptionSpec, TopicSpec, Topology
from eip.transports.activemq import ActiveMQTransport
from eip.transports.aws import AwsTransport
from eip.transports.aws.kinesis import KinesisStream
from eip.transports.aws.lambda_host import lambda_handler
from tests.support.aws import native_messages
from tests.support.jms import JmsProgram
from tests.support.lambda_events import Context, kinesis_record, mq_message, sns_record, sqs_record
from tests.transports.aws.kinesis.conftest import FAST

Attributes: TypeAlias = Mapping[str, tuple[str, str | bytes]]
"""Data type and value by name."""

ATTRIBUTES: Attributes = {
    "labelled": ("Number.int", "007"),
    "long": ("Number.java.lang.Long", "9223372036854775807"),
    "digits": ("Number", "1.10"),
    "many": ("Number", "12345678901234567890123456789012345678"),
    "uuid": ("String.UUID", "c0ffee"),
    "array": ("String.Array", '["a", "b", 1.0]'),
    "image": ("Binary.gif", b"GIF89a\x00\xff"),
    "text": ("String", "Ünï🦄"),
}
TEN = {f"a{number}": ("String", "x") for number in range(10)}
BODIES = {
    "long-decimal": '{"n": 1.00000000000000000000000001, "m": 1.10}',
    "infinite": '{"n": 1e400}',
    "doubled": '{"n": 1, "n": 2}',
    "spaced": '{ "b" :1 ,\n"a":\t2 }',
    "surrogate": '{"a": "\\ud800"}',
    "deep": "[" * 300 + "]" * 300,
    "plain": "Message at 12:00",
    "html": "<p>&amp;</p>\r\n",
    "emoji": '"🦄"',
    "null": "null",
}


class Wire(NamedTuple):
    """A message as its channel carries it; attributes as data type and value, ours left out."""

    body: str | bytes
    attributes: dict[str, tuple[str, str | bytes]]


class Path(ABC):
    """From a source of foreign messages to its dead-letter queue and back."""

    source: Source
    back: Queue
    """Where a redrive sends to."""
    dead: Queue
    attributes: ClassVar[Attributes] = ATTRIBUTES
    """What the source carries."""
    objects = False
    """Whether bodies are JSON objects only."""

    @abstractmethod
    async def put(self, body: str, attributes: Attributes) -> None:
        """Send as a foreign producer does."""

    @abstractmethod
    async def lie_dead(self) -> list[Wire]:
        """What the dead-letter queue holds, by a foreign client; leaves it there."""

    @abstractmethod
    async def came_back(self) -> list[Wire]:
        """What the source holds after the redrive, by a foreign client."""


class AwsPath(Path):
    """On moto: foreign parts by boto3."""

    def __init__(self, aws: AwsTransport, moto: Any) -> None:
        self.aws, self.moto = aws, moto
        self.sqs = moto.client("sqs")
        self.name = f"raw{uuid4().hex[:10]}"

    async def _read(self, queue: Any) -> list[Wire]:
        url = await queue.url()
        found = await asyncio.to_thread(native_messages, self.sqs, url)
        return [
            Wire(each["Body"], {
                name: (value["DataType"], value.get("StringValue", value.get("BinaryValue")))
                for name, value in each.get("MessageAttributes", {}).items()
                if name != "eip"
            })
            for each in found
        ]  # fmt: skip

    async def lie_dead(self) -> list[Wire]:
        return await self._read(self.dead)

    async def came_back(self) -> list[Wire]:
        return await self._read(self.back)

    @staticmethod
    def _native(attributes: Attributes) -> dict[str, dict[str, Any]]:
        return {
            name: {"DataType": kind, "BinaryValue" if isinstance(value, bytes) else "StringValue": value}
            for name, (kind, value) in attributes.items()
        }


class FromSqs(AwsPath):
    async def open(self, suffix: str = "") -> FromSqs:
        name = self.name + suffix
        await Topology(QueueSpec(name)).apply(self.aws)
        self.source = self.back = self.aws.queue(name)
        self.dead = self.aws.queue(f"{self.name}-dead{suffix}")
        return self

    async def put(self, body: str, attributes: Attributes) -> None:
        assert isinstance(self.back, Queue)
        url = await self.aws.queue(self.back.name).url()
        more = {"MessageGroupId": uuid4().hex, "MessageDeduplicationId": uuid4().hex} if url.endswith(".fifo") else {}
        self.sqs.send_message(QueueUrl=url, MessageBody=body, MessageAttributes=self._native(attributes), **more)


class FromSns(AwsPath):
    """Through a topic, with raw delivery or wrapped; SNS knows four data types, without labels."""

    attributes: ClassVar[Attributes] = {
        name: each for name, each in ATTRIBUTES.items() if each[0] in ("String", "Number", "String.Array")
    }

    async def open(self, *, raw: bool) -> FromSns:
        await Topology(TopicSpec(self.name), SubscriptionSpec(self.name, "s", raw=raw)).apply(self.aws)
        topic = self.aws.topic(self.name)
        self.source = topic.subscription("s")
        self.back = self.aws.queue(f"{self.name}-s")
        self.dead = self.aws.queue(f"{self.name}-s-dead")
        return self

    async def put(self, body: str, attributes: Attributes) -> None:
        self.moto.client("sns").publish(
            TopicArn=self.aws.topic(self.name).address, Message=body, MessageAttributes=self._native(attributes)
        )


class FromEventBridge(AwsPath):
    """Events with the body as their detail, whose text the rule's queue got."""

    attributes: ClassVar[Attributes] = {}
    objects = True

    async def open(self) -> FromEventBridge:
        await Topology(BusSpec(self.name), RuleSpec(self.name, "r")).apply(self.aws)
        self.source = self.aws.bus(self.name).subscription("r")
        self.back = self.aws.queue(f"{self.name}-r")
        self.dead = self.aws.queue(f"{self.name}-r-dead")
        return self

    async def put(self, body: str, attributes: Attributes) -> None:
        assert not attributes
        # What the bus makes of an event: moto would write the detail anew.
        event = {"version": "0", "id": "e", "detail-type": "T", "source": "s", "time": "2026-11-24T10:00:00Z"}
        text = json.dumps({**event, "detail": 0})[:-2] + body + ', "region": "us-east-1"}'
        self.sqs.send_message(QueueUrl=await self.aws.queue(self.back.name).url(), MessageBody=text)


@pytest.fixture
async def aws(moto_server):
    options = {"session": moto_server.session, "endpoint_url": moto_server.url, "long_poll": 1.0}
    async with AwsTransport(region=moto_server.region, **options) as transport:
        yield transport


PATHS = {
    "sqs-sqs": lambda aws, moto: FromSqs(aws, moto).open(),
    "fifo-fifo": lambda aws, moto: FromSqs(aws, moto).open(".fifo"),
    "sns-sqs": lambda aws, moto: FromSns(aws, moto).open(raw=True),
    "sns-wrapped-sqs": lambda aws, moto: FromSns(aws, moto).open(raw=False),
    "eventbridge-sqs": lambda aws, moto: FromEventBridge(aws, moto).open(),
}


async def dead_lettered(path: Path, count: int, *, look: bool) -> None:
    """Have a consumer reject all that comes, with or without a look at the body."""

    async def handle(message: Message) -> None:
        if look:
            _ = message.body
        raise Reject("no")

    consumer = Consumer(path.source, handle)
    task = asyncio.create_task(consumer.run())
    async with asyncio.timeout(60):
        while consumer.stats.dead_lettered < count:
            await asyncio.sleep(0.02)
    await consumer.stop()
    await task


@pytest.mark.aws
@pytest.mark.parametrize("name", PATHS)
async def test_a_dead_letter_and_its_redrive_are_the_same_bytes(aws, moto_server, name):
    """Faults 3, 9, 10 and 12: bodies to the letter; attributes with types, labels and digits, also ten of them."""
    path: Path = await PATHS[name](aws, moto_server)
    sent = [Wire(body, {}) for body in BODIES.values() if not path.objects or body.startswith("{")]
    if path.attributes:
        sent += [Wire("1", dict(path.attributes)), Wire("2", dict(TEN))]
    if path.objects:
        sent = [each for each in sent if "ud800" not in str(each.body)]  # no service makes an event of it
    for each in sent:
        await path.put(str(each.body), each.attributes)
    await dead_lettered(path, len(sent), look=True)
    key = lambda wire: (str(wire.body), str(wire.attributes))
    assert sorted(await path.lie_dead(), key=key) == sorted(sent, key=key)
    progress = await redrive(path.dead, path.back, transform=lambda message: message, limit=len(sent))
    assert (progress.moved, progress.failed) == (len(sent), 0)
    assert sorted(await path.came_back(), key=key) == sorted(sent, key=key)


RAW = {
    **{name: body.encode() for name, body in BODIES.items()},
    "empty": b"",
    "latin": "Grüße".encode("latin-1"),
    "gzip": gzip.compress(b'{"a": 1}', mtime=0),
    "controls": bytes(range(32)),
}
"""Bodies of channels that carry bytes."""


class FromKinesis:
    """Records that boto3 put; a key of a stream is the group of its message, whatever it is."""

    def __init__(self, aws: AwsTransport, moto: Any) -> None:
        self.aws, self.client = aws, moto.client("kinesis")
        self.name = f"raw{uuid4().hex[:10]}"
        self.keys = [name if number % 2 else "ü " * 100 + name for number, name in enumerate(RAW)]

    async def open(self) -> None:
        streams = [StreamSpec(name, shards=2) for name in (self.name, f"{self.name}-dead")]
        await Topology(*streams, QueueSpec(f"{self.name}-dead", dead_letters=False)).apply(self.aws)
        self.back = self.aws.stream(self.name, reads=FAST)
        for key, body in zip(self.keys, RAW.values(), strict=True):
            await asyncio.to_thread(self.client.put_record, StreamName=self.name, Data=body, PartitionKey=key)

    async def rejected(self, dead: Sender) -> None:
        """Have a consumer send all of it to the dead-letter channel, having looked at the bodies."""

        async def handle(message: Message) -> None:
            with suppress(DecodeError):
                _ = message.body
            raise Reject("no")

        group = self.back.group(uuid4().hex, start="trim_horizon", leases=MemoryStore(), dead_letters=dead)
        async with Consumer(group, handle) as consumer, asyncio.timeout(60):
            while consumer.stats.dead_lettered < len(RAW):
                await asyncio.sleep(0.02)

    async def read(self, stream: KinesisStream, count: int) -> list[Message]:
        """The last records of a stream, by a group of its own."""
        seen: list[Message] = []

        async def handle(message: Message) -> None:
            seen.append(message)

        group = stream.group(uuid4().hex, start="trim_horizon", leases=MemoryStore())
        async with Consumer(group, handle), asyncio.timeout(60):
            while len(seen) < count:
                await asyncio.sleep(0.02)
        return seen

    @property
    def wires(self) -> list[tuple[str, bytes]]:
        """Key and data of each record."""
        return list(zip(self.keys, RAW.values(), strict=True))

    def check(self, messages: list[Message]) -> None:
        assert sorted((str(each.group_id), each.encode()) for each in messages) == sorted(self.wires)


async def received(queue: Queue, count: int) -> list[Message]:
    """Messages of a queue; they are acknowledged."""
    found: list[Message] = []
    async with queue.receiver() as receiver, asyncio.timeout(60):
        while len(found) < count:
            for delivery in await receiver.receive(10, wait=1):
                assert delivery.error is None
                found.append(delivery.message)
                await delivery.ack()
    return found


@pytest.mark.aws
async def test_records_of_a_stream_are_the_same_bytes_in_a_queue_and_back_in_the_stream(aws, moto_server):
    """Faults 3, 4 and 12: Kinesis to SQS and back, with keys that are no id of SQS."""
    path = FromKinesis(aws, moto_server)
    await path.open()
    dead = aws.queue(f"{path.name}-dead")
    await path.rejected(dead)
    lying = await asyncio.to_thread(native_messages, moto_server.client("sqs"), await dead.url())
    assert set(BODIES.values()) <= {each["Body"] for each in lying}
    progress = await redrive(dead, path.back, limit=len(RAW))
    assert (progress.moved, progress.failed) == (len(RAW), 0)
    both = await path.read(path.back, 2 * len(RAW))
    assert Counter((each.group_id, each.encode()) for each in both) == Counter([*path.wires, *path.wires])


@pytest.mark.aws
async def test_records_of_a_stream_are_the_same_bytes_in_another_stream(aws, moto_server):
    """Faults 3 and 12: Kinesis to Kinesis."""
    path = FromKinesis(aws, moto_server)
    await path.open()
    dead = aws.stream(f"{path.name}-dead", reads=FAST)
    await path.rejected(dead)
    path.check(await path.read(dead, len(RAW)))


LAMBDA = {
    "sqs": lambda body, number: sqs_record(body.decode(), number),
    "sns": lambda body, number: sns_record(body.decode(), number),
    "kinesis": lambda body, number: kinesis_record(body, number, f"k {number}"),
    "mq": lambda body, number: mq_message(number, body, color="red"),
}


@pytest.mark.aws
@pytest.mark.parametrize("source", LAMBDA)
async def test_records_that_lambda_brought_are_the_same_bytes_in_a_queue(aws, moto_server, source):
    """Faults 1, 3 and 12: Lambda to SQS."""
    name = f"raw{uuid4().hex[:10]}"
    await Topology(QueueSpec(name, dead_letters=False)).apply(aws)
    bodies = [*(RAW.values() if source in ("kinesis", "mq") else (each.encode() for each in BODIES.values()))]
    records = [LAMBDA[source](body, number) for number, body in enumerate(bodies)]

    @asynccontextmanager
    async def setup():
        options = {"session": moto_server.session, "endpoint_url": moto_server.url}
        async with AwsTransport(region=moto_server.region, **options) as transport:
            yield {"dead_letters": transport.queue(name)}

    async def handle(message: Message) -> None:
        with suppress(DecodeError):
            _ = message.body
        raise Reject("no")

    function = lambda_handler(handle, setup=setup)
    event = {"eventSource": "aws:mq", "messages": records} if source == "mq" else {"Records": records}
    answer = await asyncio.to_thread(function, event, Context())
    await asyncio.to_thread(function.close)
    assert answer == {"batchItemFailures": []}
    found = await received(aws.queue(name), len(bodies))
    assert sorted(each.encode() for each in found) == sorted(bodies)


class FromActiveMQ(Path):
    """A broker with foreign parts by JMS; STOMP carries every property as text."""

    attributes: ClassVar[Attributes] = {
        "digits": ("string", "1.10"),
        "many": ("string", "9" * 38),
        "expires": ("string", "60000"),
        "odd name": ("string", "a\tb"),
        "text": ("string", "Ünï"),
    }

    def __init__(self, activemq: ActiveMQTransport, jms: JmsProgram) -> None:
        self.jms = jms
        self.name = f"raw{uuid4().hex[:10]}"
        self.dead = activemq.queue(f"{self.name}-dead")
        self.source = self.back = activemq.queue(self.name, dead_letters=self.dead, max_receive_count=5)
        self.count = 0
        """How many were put and not read yet."""

    async def put(self, body: str, attributes: Attributes) -> None:
        kind = "bytes" if attributes.get("kind") == ("string", "bytes") else "text"
        properties = {name: value for name, (_, value) in attributes.items()}
        await self.jms.send(self.name, body.encode() if kind == "bytes" else body, properties=properties)
        self.count += 1

    async def _read(self, queue: str) -> list[Wire]:
        """All that was put, and what comes soon after."""
        found: list[Wire] = []
        expected, self.count = self.count, 0
        while (message := await self.jms.receive(queue, wait=30 if len(found) < expected else 0.3)) is not None:
            body = b64decode(message.body) if message.kind == "bytes" else message.body
            ours = ("!", "eip", "content-", "amq-msg-type")
            found.append(Wire(body, {n: v for n, v in message.properties.items() if not n.startswith(ours)}))
        return found

    async def lie_dead(self) -> list[Wire]:
        return await self._read(self.dead.name)

    async def came_back(self) -> list[Wire]:
        return await self._read(self.back.name)


@pytest.mark.activemq
async def test_a_dead_letter_and_its_redrive_are_the_same_to_jms_consumers(activemq_broker, jms):
    """Faults 3, 12 and 13: text stays a TextMessage of the same characters, bytes a BytesMessage of the same bytes."""
    async with ActiveMQTransport(activemq_broker.url) as activemq:
        path = FromActiveMQ(activemq, jms)
        for read, redriven in ((path.lie_dead, False), (path.came_back, True)):
            for body in BODIES.values():
                await path.put(body, {})
                await path.put(body, {"kind": ("string", "bytes")})
            await dead_lettered(path, 2 * len(BODIES), look=True)
            if redriven:
                progress = await redrive(path.dead, path.back, limit=2 * len(BODIES))
                assert (progress.moved, progress.failed) == (2 * len(BODIES), 0)
            bodies = [each.body for each in await read()]
            sent = [*BODIES.values(), *(each.encode() for each in BODIES.values())]
            assert sorted(bodies, key=repr) == sorted(sent, key=repr)


@pytest.mark.activemq
async def test_properties_of_a_dead_letter_are_the_same_after_its_redrive(activemq_broker, jms):
    """Faults 10 and 14: the digits and the names as they came, for handlers of the redriven message."""
    async with ActiveMQTransport(activemq_broker.url) as activemq:
        path = FromActiveMQ(activemq, jms)
        await path.put("1", path.attributes)
        await dead_lettered(path, 1, look=True)
        await redrive(path.dead, path.back, limit=1)
        async with path.source.receiver() as receiver:
            (delivery,) = await receiver.receive(1, wait=20)
            await delivery.ack()
        sent = {name: value for name, (_, value) in path.attributes.items()}
        assert {name: delivery.message.attributes.get(name) for name in sent} == sent
