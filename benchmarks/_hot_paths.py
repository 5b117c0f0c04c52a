"""The hot paths that `benchmarks.check` guards: microseconds of CPU for one operation of each."""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from benchmarks import sqs_stub
from benchmarks._counting import counting
from eip import Consumer, EventPattern, Message
from eip.channels import Sender
from eip.matching import RuleSet
from eip.message import AttributeValue
from eip.patterns import idempotent
from eip.patterns.scatter_gather import ScatterGather
from eip.stores import SqliteStore
from eip.transports.activemq._decoding import from_frame
from eip.transports.activemq._stomp.frames import dump
from eip.transports.activemq._stomp.parser import Parser
from eip.transports.aws.kinesis.aggregation import AggregatedRecord, deaggregate
from eip.transports.aws.kinesis.records import dump_record, load_record
from eip.transports.memory import MemoryTransport

BODY = {"number": 7, "customer": "c-42", "items": [1, 2, 3]}

Case = Callable[[], Awaitable[float]]
"""Microseconds of CPU for one operation."""


class _Thing:
    __slots__ = ("a", "b", "c")

    def __init__(self, a: object, b: object, c: object) -> None:
        self.a, self.b, self.c = a, b, c


async def floor() -> float:
    """What any Python program does with a message, a few times over."""
    seen: dict[int, _Thing] = {}

    def work(number: int) -> None:
        for step in range(8):
            key = number * 8 + step & 1023
            seen[key] = _Thing(key, seen.get(key - 1), None)
        orjson.loads(orjson.dumps(BODY))

    return _spent(work, 10_000)


def _spent(call: Callable[[int], object], count: int) -> float:
    gc.collect()
    began = time.process_time()
    for number in range(count):
        call(number)
    return (time.process_time() - began) / count * 1e6


async def message() -> float:
    """Make a message with two attributes, seal it, read it as a driver does."""
    attributes: dict[str, AttributeValue] = {"kind": "order", "priority": 5}

    def make(_: int) -> None:
        sealed = Message(BODY, attributes=attributes).sealed()
        Message.received(sealed.encode(), id=sealed.id, created_at=sealed.created_at, attributes=attributes)

    return _spent(make, 10_000)


async def consume(*, groups: int = 0) -> float:
    """From send to ack on the embedded transport, ten handlers."""
    count = 10_000
    handle, done = counting(count)
    async with MemoryTransport(capacity=count + 100) as transport:
        queue = transport.queue("orders.fifo" if groups else "orders")
        async with Consumer(queue, handle, concurrency=10):
            gc.collect()
            began = time.process_time()
            for start in range(0, count, 100):
                numbers = range(start, start + 100)
                await queue.send(*(Message(BODY, group_id=str(each % groups) if groups else None) for each in numbers))
                await asyncio.sleep(0)
            await done.wait()
            spent = time.process_time() - began
    return spent / count * 1e6


async def bus() -> float:
    """Put an event on the embedded bus, whose one rule matches it."""
    async with MemoryTransport(capacity=10_000) as transport:
        events = transport.bus("events")
        queue = events.subscription("rule", pattern=EventPattern({"source": ["shop"], "detail": {"number": [7]}}))
        messages = [Message(BODY, type="Order", source="shop") for _ in range(3_000)]
        gc.collect()
        began = time.process_time()
        for each in messages:
            await events.send(each)
        spent = time.process_time() - began
        assert len(queue) == len(messages)
    return spent / len(messages) * 1e6


async def rules() -> float:
    """Match an event with 3,000 rules of three kinds."""
    found = RuleSet()
    for number in range(1_000):
        found.add(f"exact {number}", {"detail": {"state": [f"s{number}"]}})
        found.add(f"range {number}", {"detail": {"n": [{"numeric": [">=", number, "<", number + 1]}]}})
        found.add(f"prefix {number}", {"detail": {"id": [{"prefix": f"i-{number}-"}]}})
    event = {"detail": {"state": "s7", "n": 7.5, "id": "i-7-x"}}
    assert len(found.match(event)) == 3
    return _spent(lambda _: found.match(event), 2_000)


async def store() -> float:
    """Handle a message once, noted in SQLite, a hundred callers."""
    count, handled = 1_000, 0

    async def handle(_: Message) -> None:
        nonlocal handled
        handled += 1

    messages = iter([Message(BODY) for _ in range(count)])
    with tempfile.TemporaryDirectory() as folder:
        kept = SqliteStore(f"{folder}/check.sqlite")
        once = idempotent(kept)(handle)

        async def call() -> None:
            for each in messages:
                await once(each)

        await kept.get("opened")
        gc.collect()
        began = time.process_time()
        await asyncio.gather(*(call() for _ in range(100)))
        spent = time.process_time() - began
        await kept.aclose()
    assert handled == count
    return spent / count * 1e6


async def frames() -> float:
    """Read a message of ActiveMQ as the broker writes it, of the frames of one read."""
    headers = {"eip": '{"v":1,"id":"6f2a","at":1795831904.422194}', "expires": "0", "destination": "/queue/orders"}
    headers |= {"ack": "ID:host-40613-2:12", "subscription": "1", "priority": "4", "timestamp": "1795830000000"}
    headers |= {"message-id": "ID:host-40613-2:10:-1:1:2", "persistent": "true", "content-type": "application/json"}
    data, parser = dump("MESSAGE", headers, orjson.dumps(BODY)) * 20, Parser()
    assert from_frame(parser.feed(data)[0]).message.body == BODY
    return _spent(lambda _: [from_frame(each) for each in parser.feed(data)], 200) / 20


async def aggregates() -> float:
    """Put a message into an aggregate of Kinesis, and read it from there."""
    messages = [Message(BODY, group_id=f"g{number % 50}") for number in range(200)]

    def there_and_back(_: int) -> None:
        made = AggregatedRecord(1 << 20)
        for each in messages:
            made.add(each.group_id or "", None, dump_record(each))
        for part in deaggregate(made.encode()) or ():
            load_record(part.data, key=part.key)

    return _spent(there_and_back, 20) / len(messages)


class _Requests(Sender):
    name = address = "requests"

    def __init__(self) -> None:
        self.sent: list[Message[Any]] = []

    async def send(self, *messages: Message[Any]) -> None:
        self.sent.extend(messages)


async def scatter_gather() -> float:
    """A request with ten replies, 2,000 in flight, the whole path; garbage is not collected meanwhile."""
    count, requests = 2_000, _Requests()
    async with (
        MemoryTransport(capacity=count * 10) as transport,
        ScatterGather(requests, transport.queue("replies")) as gather,
    ):
        gc.collect()
        gc.disable()
        began = time.process_time()
        waiting = [asyncio.ensure_future(gather.request(each, expected=10, deadline=300)) for each in range(count)]
        while len(requests.sent) < count:
            await asyncio.sleep(0)
        for _ in range(10):
            await transport.queue("replies").send(*(each.reply(1) for each in requests.sent))
        await asyncio.gather(*waiting)
        spent = time.process_time() - began
        gc.enable()
    return spent / count * 1e6


async def sqs(url: str) -> float:
    """Send and consume a message of SQS, the stub of the service apart, 200 callers."""
    count = 3_000
    handle, done = counting(count)
    async with sqs_stub.transport(url, long_poll=1) as aws:
        name = f"check-{time.monotonic_ns()}"
        await sqs_stub.make_queue(aws, name)
        queue = aws.queue(name)
        await queue.send(Message(BODY))
        numbers = iter(range(count - 1))

        async def produce() -> None:
            for _ in numbers:
                await queue.send(Message(BODY))

        gc.collect()
        began = time.process_time()
        await asyncio.gather(*(produce() for _ in range(200)))
        async with Consumer(queue, handle, concurrency=200):
            await done.wait()
            spent = time.process_time() - began
    return spent / count * 1e6
