"""What the conformance suite does not ask of streams: failures of single records, aggregates, limits, starts."""

from __future__ import annotations

import asyncio
import contextlib
import random
from datetime import timedelta
from hashlib import md5
from typing import Any

import pytest
from aws_kinesis_agg.aggregator import RecordAggregator

from eip import Consumer, Message, clock
from eip.codec import JSON
from eip.errors import (
    ChannelNotFound,
    CheckpointInvalid,
    ConfigurationError,
    InvalidMessage,
    MessageTooLarge,
    PartialSendError,
    Throttled,
)
from eip.streams import Position
from eip.telemetry.meter import UsageMeter
from eip.topology import StreamSpec, Topology
from eip.transports.aws import AwsTransport, ReadRate
from eip.transports.aws._client.errors import IteratorExpired
from eip.transports.aws.kinesis.fan_out import FanOutCursor
from eip.transports.aws.kinesis.log import PollingCursor
from eip.transports.aws.kinesis.rates import ReadRates
from tests.support.aws import MotoServer
from tests.support.processes import unavailable
from tests.transports.aws.kinesis.conftest import BRISK, FAST, KinesisHarness

pytestmark = pytest.mark.kinesis

REFUSED = {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "slow down"}


class ServiceClient:
    """Stands between a transport and the service: counts calls, lets them fail, or single records of them."""

    def __init__(self, transport, monkeypatch):
        self.made: list[tuple[str, dict]] = []
        self.fail: dict[str, list[Exception]] = {}
        self.refuse = lambda: False
        self.swallow = False
        """Answer as if all records were accepted: for calls larger than the emulator takes."""
        self._call = transport._client.call
        monkeypatch.setattr(transport._client, "call", self)

    async def __call__(self, service, operation, **parameters):
        self.made.append((operation, parameters))
        if errors := self.fail.get(operation):
            raise errors.pop(0)
        if operation != "PutRecords":
            return await self._call(service, operation, **parameters)
        records = parameters.pop("Records")
        if self.swallow:
            return {"Records": [{"ShardId": "shardId-000000000000", "SequenceNumber": "1"} for _ in records]}
        kept = [not self.refuse() for _ in records]
        accepted = [record for record, keep in zip(records, kept, strict=True) if keep]
        answer = await self._call(service, operation, Records=accepted, **parameters) if accepted else {"Records": []}
        answers = iter(answer["Records"])
        return {"Records": [next(answers) if keep else REFUSED for keep in kept]}

    def of(self, operation):
        return [parameters for each, parameters in self.made if each == operation]


@pytest.fixture
def calls(kinesis, monkeypatch):
    return ServiceClient(kinesis, monkeypatch)


async def read(harness, stream, count, *, name="reader", **options):
    """What a group reads from the oldest record on: bodies by key, and the shard of each."""
    group = stream.group(name, start="trim_horizon", leases=harness.leases, options=BRISK, **options)
    seen, done = [], asyncio.Event()

    async def handle(message):
        seen.append((message.group_id, message.body, message.headers["shard"]))
        if len(seen) >= count:
            done.set()

    consumer = Consumer(group, handle)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(consumer.run())
        async with asyncio.timeout(60):
            await done.wait()
        await consumer.stop()
    return seen


def numbers_of(seen, key):
    return [number for each, number, _ in seen if each == key]


@pytest.mark.parametrize("aggregate", [False, True])
async def test_refused_records_are_put_again_in_the_order_of_their_key(harness, calls, aggregate):
    dice = random.Random(7)
    stream = await harness.stream(aggregate=aggregate)
    calls.refuse = lambda: dice.random() < 0.3
    await asyncio.gather(
        *(stream.send(*(Message(number, group_id=f"k{key}") for number in range(8))) for key in range(20))
    )
    seen = await read(harness, stream, 160)
    for key in range(20):
        assert numbers_of(seen, f"k{key}") == list(range(8))
    assert len(seen) == 160


async def test_throttled_calls_hold_the_sender_back_and_lose_nothing(harness, calls):
    stream = await harness.stream(shards=1)
    calls.fail["PutRecords"] = [Throttled("slow down")] * 4
    await stream.send(Message(1, group_id="k"))
    assert len(calls.of("PutRecords")) == 5


async def test_what_is_refused_for_ever_is_said_by_message(harness, calls, monkeypatch):
    at_once = type("None", (), {"delay": lambda *_: 0.0})()
    monkeypatch.setattr("eip.transports.aws._batch_dispatcher.RETRY_BACKOFF", at_once)
    stream = await harness.stream(shards=1)
    calls.refuse = iter([False] + [True] * 100).__next__
    good, bad = Message("good"), Message("bad")
    with pytest.raises(PartialSendError) as failed:
        await stream.send(good, bad)
    assert [(each.message, type(each.error)) for each in failed.value.failed] == [(bad, Throttled)]


async def test_calls_are_as_large_as_the_service_takes(harness, calls):
    stream = await harness.stream(shards=1)
    await stream.send(*(Message("x") for _ in range(1200)))
    assert [each["messages"] for each in calls.of("PutRecords")] == [500, 500, 200]
    calls.made.clear()
    calls.swallow = True
    await stream.send(*(Message("x" * 900_000) for _ in range(8)))
    sizes = [(each["messages"], each["size"]) for each in calls.of("PutRecords")]
    assert all(size <= 5 * 1024 * 1024 for _, size in sizes)
    assert sum(count for count, _ in sizes) == 8
    assert sum(each["units"] for each in calls.of("PutRecords")) == 8 * 36


async def test_what_no_stream_takes_is_refused_before_it_is_sent(harness, calls):
    stream = await harness.stream(shards=1, hash_key=lambda message: message.attributes.get("hash"))
    for wrong, error in (
        (Message("x" * (1 << 20)), MessageTooLarge),
        (Message("x", attributes={"hash": 1 << 128}), InvalidMessage),
    ):
        with pytest.raises(error):
            await stream.send(Message("good"), wrong)
    assert not calls.of("PutRecords")


@pytest.mark.parametrize("aggregate", [False, True])
async def test_an_explicit_hash_key_chooses_the_shard_and_the_key_stays(harness, aggregate):
    third = (1 << 128) // 3
    stream = await harness.stream(aggregate=aggregate, hash_key=lambda message: third * message.body + 5)
    await stream.send(*(Message(number % 3, group_id=f"k{number}") for number in range(9)))
    seen = await read(harness, stream, 9)
    assert sorted({(body, shard) for _, body, shard in seen}) == [
        (number, f"shardId-{number:012}") for number in range(3)
    ]
    assert {key for key, _, _ in seen} == {f"k{number}" for number in range(9)}


async def test_aggregates_are_one_record_of_each_shard(harness, calls):
    stream = await harness.stream(aggregate=True)
    await stream.send(*(Message(number, group_id=f"k{number % 50}") for number in range(1000)))
    (call,) = calls.of("PutRecords")
    assert call["messages"] == 1000
    assert call["units"] <= 12
    seen = await read(harness, stream, 1000)
    for key in range(50):
        assert numbers_of(seen, f"k{key}") == list(range(key, 1000, 50))


async def test_more_than_may_wait_is_sent_as_room_comes(harness, calls):
    """The first call takes all that waits, and makes all the room that there is."""
    stream = await harness.stream(shards=1, aggregate=True)
    calls.swallow = True
    async with asyncio.timeout(60):
        await stream.send(*(Message(number, group_id=f"k{number % 100}") for number in range(25_000)))
    assert sum(each["messages"] for each in calls.of("PutRecords")) == 25_000


def status_of(client, stream):
    return client.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["StreamStatus"]


async def test_an_aggregating_sender_notices_that_the_stream_was_split(harness, kinesis_server):
    if isinstance(kinesis_server, MotoServer):
        unavailable("kinesis-local")
    stream = await harness.stream(shards=1, aggregate=True)
    await stream.send(*(Message(number, group_id=f"k{number}") for number in range(20)))
    client = kinesis_server.client("kinesis")
    half = {"ShardToSplit": "shardId-000000000000", "NewStartingHashKey": str(1 << 127)}
    await asyncio.to_thread(client.split_shard, StreamName=stream.name, **half)
    while await asyncio.to_thread(status_of, client, stream.name) != "ACTIVE":  # until then its parent takes records
        await asyncio.sleep(0.1)
    await stream.send(*(Message(number, group_id=f"k{number - 20}") for number in range(20, 40)))
    keys = [f"k{number}" for number in range(20)]
    upper = {key: md5(key.encode(), usedforsecurity=False).digest()[0] >= 128 for key in keys}
    right = {(key, f"shardId-00000000000{2 if upper[key] else 1}") for key in keys}
    again = [key for key, shard in right if shard != "shardId-000000000001"]  # the aggregate went to the first child
    assert again
    seen = await read(harness, stream, 40 + len(again))
    assert {body for _, body, _ in seen} == set(range(40))
    assert right <= {(key, shard) for key, body, shard in seen if body >= 20}


async def test_an_expired_iterator_is_found_again_by_its_position(harness, calls):
    stream = await harness.stream(shards=1)
    await stream.send(*(Message(number) for number in range(5)))
    calls.fail["GetRecords"] = [IteratorExpired("five minutes")]
    assert sorted(body for _, body, _ in await read(harness, stream, 5)) == list(range(5))
    group = stream.group("reader", leases=harness.leases, options=BRISK)
    async with group.receiver() as receiver:
        calls.fail["GetRecords"] = [IteratorExpired("five minutes"), Throttled("slow"), ConnectionError("gone")] * 2
        await stream.send(Message("more"))
        assert [each.message.body for each in await receiver.receive(10)] == ["more"]
        assert not calls.fail["GetRecords"]


class MadeAgain:
    """A stream that was deleted and made again since a group read it: calls about the old one's records are refused."""

    name, address, codec, where = "s", "arn:aws:kinesis:eu-west-1:123456789012:stream/s", JSON, "here"
    rates = ReadRates(FAST)

    def __init__(self, refusal=None):
        self.old, self._refusal = True, refusal

    async def call(self, operation, **parameters):
        if operation == "DescribeStreamConsumer":
            return {"ConsumerDescription": {"ConsumerStatus": "ACTIVE", "ConsumerARN": "arn"}}
        if self.old and operation == "GetShardIterator":
            return {"ShardIterator": "old"}
        if self.old:
            return {"Records": [], "NextShardIterator": "old", "MillisBehindLatest": 0}
        if operation == "GetRecords":
            raise self._refusal
        raise ConfigurationError("InvalidArgumentException: StartingSequenceNumber 7 did not come from this stream")


@pytest.mark.parametrize(
    "refusal", [ChannelNotFound("no such record"), ConfigurationError("InvalidArgument"), None], ids=str
)
async def test_a_stream_made_again_while_it_is_read_is_noticed(refusal):
    """Fault 23: the iterator of the old stream was kept for ever, so that nobody learned what to do."""
    stream: Any = MadeAgain(refusal)
    cursor: Any = FanOutCursor if refusal is None else PollingCursor
    reading = cursor(stream, "shardId-000000000000", Position(sequence="7"), group="g")
    if refusal is not None:
        assert not (await reading.read(10)).records
    stream.old = False
    if refusal is not None:
        with pytest.raises(type(refusal)):
            await reading.read(10)
    with pytest.raises(CheckpointInvalid, match=r's/g: .* group.seek\("trim_horizon"\)'):
        await reading.read(10)


class Answers:
    """A stream that gives these answers, one a call, and notes where reading begins."""

    name, address, codec, where = MadeAgain.name, MadeAgain.address, JSON, "here"
    rates = ReadRates(FAST)

    def __init__(self, *answers):
        self._answers = list(answers)

    async def call(self, operation, **parameters):
        return {"ShardIterator": "i"} if operation == "GetShardIterator" else self._answers.pop(0)


RECORDS = [{"Data": b"%d" % number, "SequenceNumber": str(number), "PartitionKey": "k"} for number in range(3)]
WHOLE = {"Records": RECORDS, "NextShardIterator": "i", "MillisBehindLatest": 0}
NO_RECORDS: tuple[dict[str, Any] | None, ...] = (
    None,
    {},
    {"Data": None},
    {"SequenceNumber": None},
    {"PartitionKey": 7},
    {"ApproximateArrivalTimestamp": "x"},
)


@pytest.mark.parametrize(
    "answer",
    [
        *({**WHOLE, "Records": [*RECORDS[:2], each and {**RECORDS[2], **each}]} for each in NO_RECORDS),
        {**WHOLE, "Records": None},
        {**WHOLE, "MillisBehindLatest": "x"},
        {"Records": RECORDS[:2]},
    ],
)
async def test_of_an_answer_that_is_malformed_nothing_is_taken_in(answer):
    """Fault 51: records behind the odd one came before those in front of it, or the shard seemed to be at its end."""
    stream: Any = Answers(answer, WHOLE)
    reading = PollingCursor(stream, "shardId-000000000000", Position(), group="g")
    with contextlib.suppress(Exception):
        page = await reading.read(10)
        pytest.fail(f"read {page}")
    page = await reading.read(10)
    assert ([each.sequence for each in page.records], page.ended) == (["0", "1", "2"], False)


async def test_a_checkpoint_within_an_aggregate_is_kept(harness):
    stream = await harness.stream(shards=1, aggregate=True)
    await stream.send(*(Message(number, group_id="k") for number in range(6)))
    group = await harness.group(stream, "one")
    async with group.receiver() as receiver:
        await harness.take_and_ack(receiver, 2)
    async with group.receiver() as receiver:
        assert [each.body for each in await harness.take_and_ack(receiver, 4)] == [2, 3, 4, 5]
        await harness.assert_quiet(receiver)


async def test_records_of_foreign_producers_are_read(harness, kinesis_server):
    stream = await harness.stream(shards=1)
    client = kinesis_server.client("kinesis")
    made = RecordAggregator()
    made.add_user_record("first", b'{"n": 1}')
    made.add_user_record("second", b'{"n": 2}')
    key, _, data = made.clear_and_get().get_contents()
    for name, record in ((key, data), ("plain", b'{"n": 3}'), ("text", b"no JSON")):
        await asyncio.to_thread(client.put_record, StreamName=stream.name, PartitionKey=name, Data=record)
    group = await harness.group(stream, "one")
    async with group.receiver() as receiver:
        taken = {each.message.group_id: each.message for each in await harness.take(receiver, 4)}
    assert [taken[name].body["n"] for name in ("first", "second", "plain")] == [1, 2, 3]
    assert taken["text"].encode() == b"no JSON"
    where = taken["second"].headers
    assert taken["second"].id == f"{where['shard']}:{where['sequence-number']}:{where['sub-sequence-number']}"


async def test_a_group_starts_at_a_time_to_the_millisecond(harness):
    stream = await harness.stream(shards=1)
    await stream.send(Message("before"))
    await asyncio.sleep(0.05)
    at = clock.now() - 0.02
    await stream.send(Message("after"))
    group = stream.group("late", start=at, leases=harness.leases, options=BRISK)
    async with group.receiver() as receiver:
        assert [each.body for each in await harness.take_and_ack(receiver)] == ["after"]
        await harness.assert_quiet(receiver)
        await group.seek("trim_horizon")
        assert [each.body for each in await harness.take_and_ack(receiver, 2)] == ["before", "after"]


async def test_every_call_is_told_to_the_meter(kinesis_server):
    meter = UsageMeter()
    account = getattr(kinesis_server, "account", "000000000000")
    async with AwsTransport(kinesis_server.region, kinesis_server.url, account=account, meter=meter) as transport:
        harness = KinesisHarness(transport)
        stream = await harness.stream(shards=1)
        await stream.send(Message("x" * 30_000), Message("y"))
        group = await harness.group(stream, "one")
        async with group.receiver() as receiver:
            await harness.take_and_ack(receiver, 2)
    usage = {(call.channel, call.operation): count for call, count in meter.usage().items()}
    put = usage[stream.name, "PutRecords"]
    assert (put.calls, put.messages, put.units) == (1, 2, 3)
    got = usage[f"{stream.name}/one", "GetRecords"]
    assert (got.messages, got.units) == (2, 0)
    assert got.size > 30_000


async def test_a_topology_makes_streams_and_changes_them(harness, kinesis):
    name = harness.fresh("stream")
    assert [str(each.action) for each in (await Topology(StreamSpec(name, shards=2)).apply(kinesis)).steps] == [
        "create"
    ]
    assert (await Topology(StreamSpec(name, shards=2)).plan(kinesis)).in_force
    wanted = Topology(StreamSpec(name, shards=3, retention=timedelta(hours=48)))
    (step,) = (await wanted.plan(kinesis)).steps
    assert (step.action, step.detail) == ("change", "retention: 24 h -> 48 h, shards: 2 -> 3")
    await wanted.apply(kinesis)
    assert (await wanted.plan(kinesis)).in_force
    with pytest.raises(ConfigurationError, match="whole hours"):
        StreamSpec(name, retention=timedelta(hours=1))


async def test_a_stream_is_read_at_one_rate(kinesis):
    kinesis.stream("s", reads=FAST)
    assert kinesis.stream("s").rates.rate == FAST
    with pytest.raises(ConfigurationError, match="as before"):
        kinesis.stream("s", reads=ReadRate())
    assert kinesis.resolve(kinesis.stream("s").address).name == "s"
    with pytest.raises(ConfigurationError, match="name must be an ARN"):
        kinesis.stream("no/name")
