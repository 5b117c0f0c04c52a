"""What a user would write or pick instead of `eip.transports.aws` for SQS.

Each is opened once: connections, credentials and plans are made outside of the measurement, which a warm-up precedes.
Then it sends or consumes a number of messages of the same 1 KB JSON event; what consumes tells when the last one was
handled (by `time.perf_counter`), as its last long poll ends a second later.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import count as counter
from typing import Any, NamedTuple

import aioboto3
import boto3
import orjson
from botocore.config import Config
from taskiq.message import BrokerMessage
from taskiq_aio_sqs import SQSBroker

from benchmarks import sqs_stub
from benchmarks.sqs_stub import REGION

__all__ = ["EVENT", "PEERS", "PRODUCERS", "Opens", "Pair", "callers"]

EVENT: dict[str, Any] = {"number": 7, "customer": "c-42", "items": [1, 2, 3], "note": "x" * 950}
CALLS = 16
"""Calls under way at once, where several are."""
PRODUCERS = 200
"""Callers that each await the confirmation of one message before they send the next."""
_KEYS = {"aws_access_key_id": "x", "aws_secret_access_key": "y"}

kombu: Any = import_module("kombu")  # untyped, where it is installed
logging.getLogger("kombu").setLevel(logging.ERROR)


class Pair(NamedTuple):
    """What sends a number of messages, and what consumes them."""

    send: Callable[[int], Awaitable[None]]
    consume: Callable[[int], Awaitable[float]]


Opens = Callable[[str, str], AbstractAsyncContextManager[Pair]]
"""With the stub's URL and a queue's name."""


async def callers(send: Callable[[], Awaitable[Any]], count: int) -> None:
    """Many callers, each of whom awaits the confirmation of one message before the next."""
    numbers = iter(range(count))

    async def produce() -> None:
        for _ in numbers:
            await send()

    await asyncio.gather(*(produce() for _ in range(PRODUCERS)))


@asynccontextmanager
async def _client(url: str) -> AsyncIterator[Any]:
    config = Config(max_pool_connections=64)
    async with aioboto3.Session(region_name=REGION, **_KEYS).client("sqs", endpoint_url=url, config=config) as client:
        yield client


def _url(url: str, name: str) -> str:
    return f"{url}/000000000000/{name}"


async def _handle(body: Any) -> None:
    assert body["number"] == 7


# (a) A loop as in the SDK's examples: one call after the other.


@asynccontextmanager
async def naive(url: str, name: str) -> AsyncIterator[Pair]:
    async with _client(url) as sqs:
        queue = _url(url, name)

        async def send(count: int) -> None:
            for _ in range(count):
                await sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(EVENT))

        async def consume(count: int) -> float:
            handled = 0
            while handled < count:
                answer = await sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
                for message in answer.get("Messages", ()):
                    await _handle(json.loads(message["Body"]))
                    await sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
                    handled += 1
            return time.perf_counter()

        yield Pair(send, consume)


# (b) The same, written well: full batches, many calls at once, orjson.


def _entries(start: int) -> list[dict[str, str]]:
    return [{"Id": str(number), "MessageBody": orjson.dumps(EVENT).decode()} for number in range(start, start + 10)]


def _deletions(messages: list[Any]) -> list[dict[str, str]]:
    return [{"Id": str(number), "ReceiptHandle": each["ReceiptHandle"]} for number, each in enumerate(messages)]


@asynccontextmanager
async def batched(url: str, name: str) -> AsyncIterator[Pair]:
    async with _client(url) as sqs:
        queue = _url(url, name)

        async def send(count: int) -> None:
            starts = iter(range(0, count, 10))

            async def work() -> None:
                for start in starts:
                    answer = await sqs.send_message_batch(QueueUrl=queue, Entries=_entries(start))
                    assert not answer.get("Failed")

            await asyncio.gather(*(work() for _ in range(CALLS)))

        async def consume(count: int) -> float:
            handled, ended = 0, 0.0

            async def work() -> None:
                nonlocal handled, ended
                while handled < count:
                    answer = await sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
                    messages = answer.get("Messages", [])
                    if messages:
                        await asyncio.gather(*(_handle(orjson.loads(each["Body"])) for each in messages))
                        done = await sqs.delete_message_batch(QueueUrl=queue, Entries=_deletions(messages))
                        assert not done.get("Failed")
                        handled, ended = handled + len(messages), time.perf_counter()

            await asyncio.gather(*(work() for _ in range(CALLS)))
            return ended

        yield Pair(send, consume)


# (c) boto3 in threads, in batches.


@asynccontextmanager
async def threads(url: str, name: str) -> AsyncIterator[Pair]:
    config = Config(max_pool_connections=64)
    sqs: Any = boto3.client("sqs", region_name=REGION, endpoint_url=url, config=config, **_KEYS)
    queue, lock = _url(url, name), threading.Lock()
    with ThreadPoolExecutor(CALLS) as pool:

        def send_batch(start: int) -> None:
            assert not sqs.send_message_batch(QueueUrl=queue, Entries=_entries(start)).get("Failed")

        async def send(count: int) -> None:
            await asyncio.to_thread(lambda: list(pool.map(send_batch, range(0, count, 10))))

        async def consume(count: int) -> float:
            handled, ended = 0, 0.0

            def work(_: int) -> None:
                nonlocal handled, ended
                while handled < count:
                    answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
                    messages = answer.get("Messages", [])
                    for each in messages:
                        assert orjson.loads(each["Body"])["number"] == 7
                    if messages:
                        sqs.delete_message_batch(QueueUrl=queue, Entries=_deletions(messages))
                        with lock:
                            handled, ended = handled + len(messages), time.perf_counter()

            await asyncio.to_thread(lambda: list(pool.map(work, range(CALLS))))
            return ended

        yield Pair(send, consume)


# (d) kombu's SQS transport, which Celery uses, and taskiq-aio-sqs.


@asynccontextmanager
async def with_kombu(url: str, name: str) -> AsyncIterator[Pair]:
    queue_options = {"url": _url(url, name), **{key[4:]: text for key, text in _KEYS.items()}}
    options = {"region": REGION, "wait_time_seconds": 1, "predefined_queues": {name: queue_options}}
    address = f"sqs://x:y@{url.removeprefix('http://')}//"
    connection = kombu.Connection(address, transport_options={**options, "is_secure": False})
    queue = kombu.Queue(name, exchange=kombu.Exchange(""), routing_key=name)

    async def send(count: int) -> None:
        def work() -> None:
            with connection.Producer() as producer:
                for _ in range(count):
                    producer.publish(EVENT, routing_key=name, serializer="json")

        await asyncio.to_thread(work)

    async def consume(count: int) -> float:
        def work() -> float:
            handled = 0

            def handle(body: Any, message: Any) -> None:
                nonlocal handled
                assert body["number"] == 7
                message.ack()
                handled += 1

            with connection.Consumer(queue, callbacks=[handle], prefetch_count=100):
                while handled < count:
                    connection.drain_events(timeout=10)
                return time.perf_counter()

        return await asyncio.to_thread(work)

    yield Pair(send, consume)
    await asyncio.to_thread(connection.release)


@asynccontextmanager
async def with_taskiq(url: str, name: str) -> AsyncIterator[Pair]:
    """With its batching, which confirms nothing to the caller: sending ends when the service has all of them."""
    options: dict[str, Any] = {**_KEYS, "wait_time_seconds": 1, "max_number_of_messages": 10}
    broker: Any = SQSBroker(
        name, endpoint_url=url, region_name=REGION, enable_batching=True, batch_timeout=0.1, **options
    )
    await broker.startup()

    async def kick() -> None:
        message = BrokerMessage(task_id="7", task_name="handle", message=orjson.dumps(EVENT), labels={})
        await broker.kick(message)

    async def send(count: int) -> None:
        before = sqs_stub.told(url)["ready_and_held"][name][0]
        await callers(kick, count)
        while sqs_stub.told(url)["ready_and_held"][name][0] < before + count:
            await asyncio.sleep(0.005)

    async def consume(count: int) -> float:
        handled = counter(1)
        async for message in broker.listen():
            await _handle(orjson.loads(message.data))
            await message.ack()
            if next(handled) == count:
                break
        return time.perf_counter()

    yield Pair(send, consume)
    await broker.shutdown()


# (e) fanferro, whose core is written in Rust; for Python 3.12 and newer.


@asynccontextmanager
async def _fanferro(url: str, name: str, *, many: bool) -> AsyncIterator[Pair]:
    fanferro: Any = import_module("fanferro")
    client = fanferro.Client(region=REGION, endpoint_url=url, credentials=fanferro.Credentials(*_KEYS.values()))
    queue = client.queue(name)
    async with client:

        async def send(count: int) -> None:
            if many:
                await queue.send_batch([EVENT] * count)
            else:
                await callers(lambda: queue.send(EVENT), count)

        async def consume(count: int) -> float:
            done, handled = asyncio.Event(), counter(1)

            async def handle(body: dict[str, Any]) -> None:
                assert body["number"] == 7
                if next(handled) == count:
                    done.set()

            consumer = client.consumer(queue, handle, concurrency=PRODUCERS, pollers=8, wait_time=1.0)
            await consumer.start()
            await done.wait()
            ended = time.perf_counter()
            await consumer.stop()
            return ended

        yield Pair(send, consume)


PEERS: dict[str, Opens] = {
    "(a) naive aioboto3 loop": naive,
    "(b) aioboto3, batches and gather": batched,
    "(c) boto3, batches in 16 threads": threads,
    "(d) kombu": with_kombu,
    "(d) taskiq-aio-sqs, batching": with_taskiq,
}
"""By name."""
if find_spec("fanferro") is not None:
    PEERS["(e) fanferro, a caller per message"] = partial(_fanferro, many=False)
    PEERS["(e) fanferro, send_batch"] = partial(_fanferro, many=True)
