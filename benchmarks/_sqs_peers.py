"""What a user would write or pick instead of `eip.transports.aws` for SQS.

Each sends or consumes a number of messages of the same 1 KB JSON event; what consumes tells when the last one was
handled (by `time.perf_counter`), as its last long poll ends a second later.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib import import_module
from itertools import count as counter
from typing import Any

import aioboto3
import boto3
import orjson
from botocore.config import Config
from taskiq.message import BrokerMessage
from taskiq_aio_sqs import SQSBroker

from benchmarks.sqs_stub import REGION

__all__ = ["EVENT", "PEERS"]

EVENT: dict[str, Any] = {"number": 7, "customer": "c-42", "items": [1, 2, 3], "note": "x" * 950}
CALLS = 16
"""Calls under way at once, where several are."""
_KEYS = {"aws_access_key_id": "x", "aws_secret_access_key": "y"}

kombu: Any = import_module("kombu")  # untyped, where it is installed
logging.getLogger("kombu").setLevel(logging.ERROR)


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


async def naive_send(url: str, name: str, count: int) -> None:
    async with _client(url) as sqs:
        for _ in range(count):
            await sqs.send_message(QueueUrl=_url(url, name), MessageBody=json.dumps(EVENT))


async def naive_consume(url: str, name: str, count: int) -> float:
    async with _client(url) as sqs:
        handled = 0
        while handled < count:
            answer = await sqs.receive_message(QueueUrl=_url(url, name), MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in answer.get("Messages", ()):
                await _handle(json.loads(message["Body"]))
                await sqs.delete_message(QueueUrl=_url(url, name), ReceiptHandle=message["ReceiptHandle"])
                handled += 1
        return time.perf_counter()


# (b) The same, written well: full batches, many calls at once, orjson.


def _entries(start: int) -> list[dict[str, str]]:
    return [{"Id": str(number), "MessageBody": orjson.dumps(EVENT).decode()} for number in range(start, start + 10)]


def _deletions(messages: list[Any]) -> list[dict[str, str]]:
    return [{"Id": str(number), "ReceiptHandle": each["ReceiptHandle"]} for number, each in enumerate(messages)]


async def batched_send(url: str, name: str, count: int) -> None:
    async with _client(url) as sqs:
        starts = iter(range(0, count, 10))

        async def work() -> None:
            for start in starts:
                answer = await sqs.send_message_batch(QueueUrl=_url(url, name), Entries=_entries(start))
                assert not answer.get("Failed")

        await asyncio.gather(*(work() for _ in range(CALLS)))


async def batched_consume(url: str, name: str, count: int) -> float:
    async with _client(url) as sqs:
        handled, ended = 0, 0.0

        async def work() -> None:
            nonlocal handled, ended
            while handled < count:
                answer = await sqs.receive_message(QueueUrl=_url(url, name), MaxNumberOfMessages=10, WaitTimeSeconds=1)
                messages = answer.get("Messages", [])
                if messages:
                    await asyncio.gather(*(_handle(orjson.loads(each["Body"])) for each in messages))
                    done = await sqs.delete_message_batch(QueueUrl=_url(url, name), Entries=_deletions(messages))
                    assert not done.get("Failed")
                    handled, ended = handled + len(messages), time.perf_counter()

        await asyncio.gather(*(work() for _ in range(CALLS)))
        return ended


# (c) boto3 in threads, in batches.


def _sync_client(url: str) -> Any:
    config = Config(max_pool_connections=64)
    return boto3.client("sqs", region_name=REGION, endpoint_url=url, config=config, **_KEYS)


async def threads_send(url: str, name: str, count: int) -> None:
    sqs = _sync_client(url)

    def work(start: int) -> None:
        assert not sqs.send_message_batch(QueueUrl=_url(url, name), Entries=_entries(start)).get("Failed")

    with ThreadPoolExecutor(CALLS) as pool:
        await asyncio.to_thread(lambda: list(pool.map(work, range(0, count, 10))))


async def threads_consume(url: str, name: str, count: int) -> float:
    sqs = _sync_client(url)
    handled, ended, lock = 0, 0.0, threading.Lock()

    def work() -> None:
        nonlocal handled, ended
        while handled < count:
            answer = sqs.receive_message(QueueUrl=_url(url, name), MaxNumberOfMessages=10, WaitTimeSeconds=1)
            messages = answer.get("Messages", [])
            for each in messages:
                assert orjson.loads(each["Body"])["number"] == 7
            if messages:
                sqs.delete_message_batch(QueueUrl=_url(url, name), Entries=_deletions(messages))
                with lock:
                    handled, ended = handled + len(messages), time.perf_counter()

    with ThreadPoolExecutor(CALLS) as pool:
        await asyncio.to_thread(lambda: list(pool.map(lambda _: work(), range(CALLS))))
    return ended


# (d) kombu's SQS transport, which Celery uses, and taskiq-aio-sqs.


def _kombu(url: str, name: str) -> Any:
    options = {
        "region": REGION,
        "wait_time_seconds": 1,
        "predefined_queues": {name: {"url": _url(url, name), **{f"{key[4:]}": text for key, text in _KEYS.items()}}},
    }
    return kombu.Connection(
        f"sqs://x:y@{url.removeprefix('http://')}//", transport_options={**options, "is_secure": False}
    )


async def kombu_send(url: str, name: str, count: int) -> None:
    def work() -> None:
        with _kombu(url, name) as connection, connection.Producer() as producer:
            for _ in range(count):
                producer.publish(EVENT, routing_key=name, serializer="json")

    await asyncio.to_thread(work)


async def kombu_consume(url: str, name: str, count: int) -> float:
    def work() -> float:
        handled = 0

        def handle(body: Any, message: Any) -> None:
            nonlocal handled
            assert body["number"] == 7
            message.ack()
            handled += 1

        with _kombu(url, name) as connection:
            queue = kombu.Queue(name, exchange=kombu.Exchange(""), routing_key=name)
            with connection.Consumer(queue, callbacks=[handle], prefetch_count=100):
                while handled < count:
                    connection.drain_events(timeout=10)
                return time.perf_counter()

    return await asyncio.to_thread(work)


def _taskiq(url: str, name: str) -> Any:
    options: dict[str, Any] = {**_KEYS, "wait_time_seconds": 1, "max_number_of_messages": 10}
    return SQSBroker(name, endpoint_url=url, region_name=REGION, **options)


async def taskiq_send(url: str, name: str, count: int) -> None:
    broker = _taskiq(url, name)
    await broker.startup()
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            message = BrokerMessage(
                task_id=str(number), task_name="handle", message=json.dumps(EVENT).encode(), labels={}
            )
            await broker.kick(message)

    await asyncio.gather(*(work() for _ in range(CALLS)))
    await broker.shutdown()


async def taskiq_consume(url: str, name: str, count: int) -> float:
    broker = _taskiq(url, name)
    await broker.startup()
    handled = counter(1)
    async for message in broker.listen():
        await _handle(json.loads(message.data))
        await message.ack()
        if next(handled) == count:
            break
    ended = time.perf_counter()
    await broker.shutdown()
    return ended


PEERS = {
    "(a) naive aioboto3 loop": (naive_send, naive_consume),
    "(b) aioboto3, batches and gather": (batched_send, batched_consume),
    "(c) boto3, batches in 16 threads": (threads_send, threads_consume),
    "(d) kombu": (kombu_send, kombu_consume),
    "(d) taskiq-aio-sqs": (taskiq_send, taskiq_consume),
}
"""By name: what sends, and what consumes."""
