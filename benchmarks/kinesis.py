"""Kinesis: records a second, and CPU per record, beside hand-written aioboto3 and the async-kinesis package.

    python -m benchmarks.kinesis [--quick]

Producing: PutRecord for each record, PutRecords of 500 by hand, async-kinesis' `Producer`, and `stream.send` plain and
aggregated; fifty callers, the same records. Consuming: a hand-written loop over GetRecords that decodes each record's
JSON, async-kinesis' `Consumer`, `eip.Consumer` and `BatchConsumer`, of plain and of aggregated records. What ours does
beyond that is part of its figure: envelopes, order per key, leases and checkpoints.

All speak to the same stub in a process of its own, see `benchmarks.kinesis_stub`; CPU is this process's. Rates that
the service asks of its readers are switched off on both sides. All use orjson and get the same number of records;
connecting, and one run of each to warm up, are not measured; taking leases and finding the shards are. async-kinesis
confirms no single record: its `flush` at the end is the confirmation of all. Figures are medians of runs that take
turns: read the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import os
import statistics
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aioboto3
import kinesis as async_kinesis
import orjson
import structlog
from aiobotocore.session import AioSession
from aws_kinesis_agg.deaggregator import deaggregate_records
from botocore.config import Config

from benchmarks import kinesis_stub
from benchmarks._report import bars, plot, progress, save, spread, table, watch
from eip import Consumer, Message
from eip.stores import MemoryStore
from eip.streams import BatchConsumer
from eip.transports.aws import AwsTransport, ReadRate
from eip.transports.aws.kinesis.aggregation import AggregatedRecord, deaggregate

REGION, ACCOUNT = "us-east-1", "000000000000"
KEYS = 1000
UNBOUNDED = ReadRate(calls=10_000, bytes=1 << 40, idle=0.01)
_fresh = itertools.count()

Runs = dict[str, tuple[int, Callable[[], Awaitable[None]]]]
"""By name: how many records, and what handles them."""


def records(count: int, size: int) -> list[dict[str, Any]]:
    """Events of about ``size`` bytes of JSON."""
    pad = "x" * max(size - 40, 1)
    return [{"n": number, "user": number % KEYS, "note": pad} for number in range(count)]


def key(event: dict[str, Any]) -> str:
    return f"user-{event['user']}"


@asynccontextmanager
async def by_hand(url: str) -> AsyncIterator[Any]:
    session = aioboto3.Session(aws_access_key_id="stub", aws_secret_access_key="stub", region_name=REGION)
    async with session.client("kinesis", endpoint_url=url, config=Config(max_pool_connections=64)) as client:
        yield client


@asynccontextmanager
async def ours(url: str) -> AsyncIterator[AwsTransport]:
    session = aioboto3.Session(aws_access_key_id="stub", aws_secret_access_key="stub", region_name=REGION)
    async with AwsTransport(session=session, endpoint_url=url, account=ACCOUNT) as aws:
        yield aws


async def fifty(send: Callable[[Any], Awaitable[Any]], items: Sequence[Any]) -> None:
    rest = iter(items)

    async def caller() -> None:
        for item in rest:
            await send(item)

    await asyncio.gather(*(caller() for _ in range(50)))


# Producing.


async def put_record(url: str, events: list[dict[str, Any]]) -> None:
    async with by_hand(url) as client:
        watch.start()

        async def send(event: dict[str, Any]) -> None:
            await client.put_record(StreamName="sink", PartitionKey=key(event), Data=orjson.dumps(event))

        await fifty(send, events)
        watch.stop()


async def put_records(url: str, events: list[dict[str, Any]]) -> None:
    async with by_hand(url) as client:
        watch.start()
        for start in range(0, len(events), 500):
            batch = [{"PartitionKey": key(event), "Data": orjson.dumps(event)} for event in events[start : start + 500]]
            answer = await client.put_records(StreamName="sink", Records=batch)
            assert not answer["FailedRecordCount"]
        watch.stop()


async def peer_put(url: str, events: list[dict[str, Any]]) -> None:
    """With orjson too; ``put`` returns before the service has the record, so `flush` at the end is the confirmation."""
    limits = {"put_rate_limit_per_shard": 10**9, "put_bandwidth_limit_per_shard": 10**9}
    async with async_kinesis.Producer(
        "sink",
        endpoint_url=url,
        region_name=REGION,
        session=AioSession(),
        buffer_time=0.1,
        processor=async_kinesis.StringProcessor(),
        **limits,
    ) as producer:
        await producer.put("first", partition_key="first")  # it connects at the first record
        await producer.flush()
        watch.start()
        for event in events:
            await producer.put(orjson.dumps(event).decode(), partition_key=key(event))
        await producer.flush()
        watch.stop()
        assert not producer.queue.qsize()


async def our_put(url: str, events: list[dict[str, Any]], *, aggregate: bool) -> None:
    async with ours(url) as aws:
        stream = aws.stream("sink", aggregate=aggregate)
        await stream.send(Message(events[0], group_id="first"))
        watch.start()
        await stream.send(*(Message(event, group_id=key(event)) for event in events))
        watch.stop()


# Consuming: the stream is filled before, and each run reads all of it.


async def fill(url: str, name: str, events: list[dict[str, Any]], *, aggregate: bool) -> None:
    async with ours(url) as aws:
        await aws.stream(name, aggregate=aggregate).send(*(Message(event, group_id=key(event)) for event in events))


async def loop_by_hand(url: str, name: str, count: int, *, aggregated: bool) -> None:
    seen = 0
    async with by_hand(url) as client:

        async def read(shard: str) -> None:
            nonlocal seen
            found = await client.get_shard_iterator(StreamName=name, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
            iterator = found["ShardIterator"]
            while seen < count:
                answer = await client.get_records(ShardIterator=iterator, Limit=10_000)
                iterator = answer["NextShardIterator"]
                datas = [each["Data"] for each in answer["Records"]]
                if aggregated:
                    datas = [part for each in answer["Records"] for part in _package(each)]
                for data in datas:
                    assert orjson.loads(data)["note"]
                    seen += 1
                if not datas:
                    await asyncio.sleep(0.01)

        shards = (await client.list_shards(StreamName=name))["Shards"]
        watch.start()
        await asyncio.gather(*(read(each["ShardId"]) for each in shards))
        watch.stop()
    assert seen == count


def _package(record: dict[str, Any]) -> list[bytes]:
    """Taken apart by the aws_kinesis_agg package, which takes Lambda's events."""
    about = dict.fromkeys(("eventID", "eventSource", "eventName", "eventVersion", "invokeIdentityArn", "awsRegion"), "")
    inner = {
        "data": b64encode(record["Data"]).decode(),
        "partitionKey": record["PartitionKey"],
        "sequenceNumber": record["SequenceNumber"],
        "approximateArrivalTimestamp": 0.0,
        "kinesisSchemaVersion": "1.0",
    }
    parts = deaggregate_records({"kinesis": inner, "eventSourceARN": "", **about})
    return [b64decode(part["kinesis"]["data"]) for part in parts]


async def peer_loop(url: str, name: str, count: int) -> None:
    seen = 0
    async with async_kinesis.Consumer(
        name,
        endpoint_url=url,
        region_name=REGION,
        session=AioSession(),
        shard_fetch_rate=10_000,
        sleep_time_no_records=0.01,
        max_queue_size=100_000,
        processor=async_kinesis.StringProcessor(),
    ) as consumer:
        watch.start()  # it reads ahead: at the first record the others may be here already
        async for data in consumer:
            assert orjson.loads(data)["note"]
            seen += 1
            if seen == count:
                watch.stop()
                return


async def our_loop(url: str, name: str, count: int, *, batches: bool) -> None:
    seen, done = 0, asyncio.Event()

    async def one(message: Message) -> None:
        nonlocal seen
        assert message.body["note"]
        seen += 1
        if seen == count:
            done.set()

    async def many(messages: Sequence[Message]) -> None:
        for message in messages:
            await one(message)

    async with ours(url) as aws:
        stream = aws.stream(name, reads=UNBOUNDED)
        group = stream.group(f"g{next(_fresh)}", start="trim_horizon", leases=MemoryStore())
        consumer = BatchConsumer(group, many, batch_size=1000) if batches else Consumer(group, one)
        await stream.call("ListShards")  # the client is made at its first call, as the others' are made before
        watch.start()
        async with consumer:
            await done.wait()
            watch.stop()


async def measured(run: Callable[[], Awaitable[None]], count: int) -> tuple[float, float]:
    """Records a second, and microseconds of CPU per record."""
    await run()
    return count / watch.seconds, watch.cpu / count * 1e6


async def in_turns(runs: Runs, rounds: int) -> list[tuple[Any, ...]]:
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, (count, run) in runs.items():
            progress(name if turn else f"warm-up: {name}")
            found = await measured(run, count)
            if turn:
                figures[name].append(found)
    rows = []
    for name, each in figures.items():
        rates, cpu = [rate for rate, _ in each], [spent for _, spent in each]
        rows.append((name, statistics.median(rates), statistics.median(cpu), spread(cpu)))
    first = rows[0][2]
    return [(*row, first / row[2]) for row in rows]


def codec(size: int) -> list[tuple[Any, ...]]:
    """Microseconds per record to take an aggregate apart: ours, and the package."""
    made = AggregatedRecord(1 << 20)
    count = 0
    while made.add(f"key-{count % 50}", None, os.urandom(size)):
        count += 1
    data = made.encode()
    record = {"Data": data, "PartitionKey": "a", "SequenceNumber": "1"}

    def spent(take: Callable[[], Any]) -> float:
        times = []
        for _ in range(9):
            begun = time.process_time()
            assert len(take() or ()) == count
            times.append((time.process_time() - begun) / count * 1e6)
        return statistics.median(times)

    mine, theirs = spent(lambda: deaggregate(data)), spent(lambda: _package(record))
    return [(f"{size} B", count, mine, theirs, theirs / mine)]


async def compare(*, quick: bool) -> dict[str, Any]:
    rounds, many, stored = (3, 1_000, 5_000) if quick else (3, 20_000, 20_000)
    columns = ("", "records/s", "CPU µs per record", "spread", "of the first")
    results: dict[str, Any] = {"columns": columns}
    with kinesis_stub.running() as url:
        for size in (100, 1000):
            events = records(many, size)
            runs: Runs = {
                "aioboto3 put_record": (many, partial(put_record, url, events)),
                "aioboto3 put_records of 500": (many, partial(put_records, url, events)),
                "async-kinesis Producer": (many, partial(peer_put, url, events)),
                "eip send": (many, partial(our_put, url, events, aggregate=False)),
                "eip send, aggregated": (many, partial(our_put, url, events, aggregate=True)),
            }
            results[f"produce {size} B"] = rows = await in_turns(runs, rounds)
            print(table(f"Producing {many:,} records of {size} B", columns, rows))
            plain, packed = f"plain-{size}", f"packed-{size}"
            events = records(stored, size)
            await fill(url, plain, events, aggregate=False)
            await fill(url, packed, events, aggregate=True)
            reads: Runs = {
                "aioboto3 loop": (stored, partial(loop_by_hand, url, plain, stored, aggregated=False)),
                "async-kinesis Consumer": (stored, partial(peer_loop, url, plain, many)),
                "eip Consumer": (stored, partial(our_loop, url, plain, stored, batches=False)),
                "eip BatchConsumer": (stored, partial(our_loop, url, plain, stored, batches=True)),
                "aioboto3 loop, aggregated": (stored, partial(loop_by_hand, url, packed, stored, aggregated=True)),
                "eip Consumer, aggregated": (stored, partial(our_loop, url, packed, stored, batches=False)),
                "eip BatchConsumer, aggregated": (stored, partial(our_loop, url, packed, stored, batches=True)),
            }
            results[f"consume {size} B"] = rows = await in_turns(reads, rounds)
            print(table(f"Consuming {stored:,} records of {size} B", columns, rows))
    taken = [row for size in (100, 1000) for row in codec(size)]
    results["deaggregate"] = taken
    print(table("Taking aggregates apart", ("record", "in 1 MiB", "µs per record", "aws_kinesis_agg", "ratio"), taken))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 records put, 5,000 read")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    os.environ.update(AWS_ACCESS_KEY_ID="stub", AWS_SECRET_ACCESS_KEY="stub")
    logging.getLogger("kinesis").setLevel(logging.ERROR)
    results = asyncio.run(compare(quick=options.quick))

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        for axes, kind in ((left, "produce 1000 B"), (right, "consume 1000 B")):
            rows = results[kind]
            bars(axes, [row[0] for row in rows], [1e6 / row[2] for row in rows], unit="records per CPU second, 1 KB")
            axes.set_title(kind.split()[0])

    plot("kinesis", draw, size=(11, 4))
    print(f"\nwritten to {save('kinesis', results, 'aioboto3', 'async-kinesis', 'aws-kinesis-agg')}")


if __name__ == "__main__":
    main()
