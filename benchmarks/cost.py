"""What do messages cost? The calls that this library makes, metered against a stub, at the price lists of two years.

    python -m benchmarks.cost [--quick] [--docs]

Every figure comes from calls that were made: a run is scaled down, and as billed requests per message do not depend on
how many there are, 100 million are its money times a factor, which is printed. Prices are data (`eip.cost`).

1. Publishing 1 KB messages to a topic, and to an event bus: one by one, in batches, packed to 64 KB, and compressed.
2. Carrying them to a consumer: publish, receive, delete, per million handled messages, and beside the services' bill
   what the CPU of both clients costs on a named instance type.
3. A consumer that needs a quarter of the messages: filtered by itself, and by the service.
4. The meter itself: what a report takes, and what it adds to the embedded transport.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from benchmarks import sqs_stub
from benchmarks._events import events
from benchmarks._report import bars, plot, progress, save, table
from eip import Consumer, Message, Queue, Sender, Source
from eip.cost import Bill, bill, prices
from eip.packs import Encoding
from eip.patterns.packer import Packer
from eip.telemetry.meter import UsageMeter
from eip.transports.aws import AwsTransport
from eip.transports.memory import MemoryTransport

MONTH = 100_000_000
THEN, NOW = prices(on="2020-12-31"), prices()
KIND = ("wanted", "other", "else", "more")
INSTANCE = "m7g.large, us-east-1, Linux, on demand, June 2026"
VCPU_HOUR = 0.0816 / 2
"""Dollars: it has two, and is billed by the second. A core is taken to be as fast as one of this machine."""
MODES = ("one by one", "batched", "packed", "packed + zstd")


async def send(sender: Sender, mode: str, messages: Sequence[Message[Any]]) -> None:
    """The messages in one of the modes."""
    if mode == "one by one":
        for message in messages:
            await sender.send(message)
        return
    async with AsyncExitStack() as stack:
        if mode.startswith("packed"):
            encoding: Encoding = "zstd" if mode.endswith("zstd") else "identity"
            sender = await stack.enter_async_context(Packer(sender, encoding=encoding))
        await sender.send(*messages)


async def consumed(source: Source, count: int, handle: Callable[[Message[Any]], Awaitable[None]] | None = None) -> int:
    """Messages that a consumer handled until it had ``count``."""
    seen = 0
    done = asyncio.Event()

    async def counted(message: Message[Any]) -> None:
        nonlocal seen
        if handle is not None:
            await handle(message)
        seen += 1
        if seen >= count:
            done.set()

    consumer = Consumer(source, counted, concurrency=100)
    running = asyncio.create_task(consumer.run())
    async with asyncio.timeout(300):
        await done.wait()
    await consumer.stop()
    await running
    return consumer.stats.messages


async def metered(url: str, work: Callable[[AwsTransport], Awaitable[None]]) -> UsageMeter:
    """What the work asked of the services; making channels is not counted."""
    meter = UsageMeter()
    async with sqs_stub.transport(url, meter=meter, long_poll=1.0) as aws:
        await work(aws)
    return meter


def bill_of(meter: UsageMeter, *operations: str, on: Any = NOW) -> Bill:
    """The bill of some operations."""
    return bill({call: usage for call, usage in meter.usage().items() if call.operation in operations}, on)


async def publishing(url: str, count: int, *, bus: bool = False) -> list[dict[str, Any]]:
    """Money for 100 million messages of 1 KB, by the way they are published to a topic, or to an event bus."""
    rows = []
    operation = "PutEvents" if bus else "PublishBatch"
    for mode in MODES:
        progress(f"{count:,} messages of 1 KB to {'a bus' if bus else 'a topic'}, {mode}")
        messages = events(count, type="OrderPaid", source="shop") if bus else events(count)
        took = 0.0

        async def work(aws: AwsTransport, mode: str = mode, messages: Sequence[Message[Any]] = messages) -> None:
            nonlocal took
            if not bus:
                await sqs_stub.make_topic(aws, "events")
            sender: Sender = aws.bus("default") if bus else aws.topic("events")
            begun = time.process_time()
            await send(sender, mode, messages)
            took = time.process_time() - begun

        meter = await metered(url, work)
        units = sum(each.units for call, each in meter.usage().items() if call.operation == operation)
        rows.append(
            {
                "mode": mode,
                "billed requests": units,
                "messages per request": count / units,
                "requests for 100 M": round(units * MONTH / count),
                "2020, $": bill_of(meter, operation, on=THEN).per_million(count) * MONTH / 1e6,
                "today, $": bill_of(meter, operation).per_million(count) * MONTH / 1e6,
                "CPU, µs per message": took / count * 1e6,
            }
        )
    return rows


async def handling(url: str, count: int) -> list[dict[str, Any]]:
    """Money per million handled messages, from the topic to the acknowledgement."""
    rows = []
    for mode in MODES:
        progress(f"{count:,} messages of 1 KB through topic and queue, {mode}")
        name = f"handled-{count}-{mode.replace(' ', '').replace('+', '-')}"
        messages = events(count)
        handled, cpu = 0, 0.0

        async def work(
            aws: AwsTransport, name: str = name, mode: str = mode, messages: Sequence[Message[Any]] = messages
        ) -> None:
            nonlocal handled, cpu
            await sqs_stub.make_topic(aws, name)
            await sqs_stub.subscribe(aws, name, f"{name}-all")
            begun = time.process_time()
            await send(aws.topic(name), mode, messages)
            handled = await consumed(aws.topic(name).subscription("all"), len(messages))
            cpu = time.process_time() - begun

        meter = await metered(url, work)
        parts = {
            "publish": ("PublishBatch",),
            "receive": ("ReceiveMessage",),
            "delete": ("DeleteMessageBatch",),
        }
        money = {part: bill_of(meter, *operations).per_million(handled) for part, operations in parts.items()}
        spent = cpu / handled * 1e6  # seconds for a million
        rows.append(
            {
                "mode": mode,
                "handled": handled,
                **money,
                "$ per million": sum(money.values()),
                "CPU, µs each": spent,
                "$ of CPU per million": spent / 3600 * VCPU_HOUR,
            }
        )
    return rows


async def filtering(url: str, count: int, *modes: str) -> list[dict[str, Any]]:
    """What a consumer of a quarter of the messages is called for, and pays."""
    rows: list[dict[str, Any]] = []
    for mode in modes:
        for name, policy in (("by itself", None), ("by the service", {"kind": ["wanted"]})):
            progress(f"{count:,} messages, a quarter wanted, {mode}, filtered {name}")
            topic = f"filtered-{mode}-{name.replace(' ', '-')}"
            messages = [
                each for kind in range(4) for each in events(count // 4, seed=kind, attributes={"kind": KIND[kind]})
            ]
            wanted = woken = 0

            async def handle(message: Message[Any]) -> None:
                nonlocal wanted, woken
                woken += 1
                wanted += message.attributes["kind"] == "wanted"

            async def work(
                aws: AwsTransport,
                topic: str = topic,
                mode: str = mode,
                policy: Any = policy,
                messages: Sequence[Message[Any]] = messages,
                handle: Callable[[Message[Any]], Awaitable[None]] = handle,
            ) -> None:
                await sqs_stub.make_topic(aws, topic)
                await sqs_stub.subscribe(aws, topic, f"{topic}-some", policy=policy)
                await send(aws.topic(topic), mode, messages)
                expected = len(messages) if policy is None else len(messages) // 4
                await consumed(aws.topic(topic).subscription("some"), expected, handle)

            meter = await metered(url, work)
            assert wanted == count // 4
            money = bill_of(meter, "ReceiveMessage", "DeleteMessageBatch").per_million(wanted)
            rows.append({"mode": mode, "filtered": name, "handler calls": woken, "SQS, $ per million wanted": money})
    for row in rows:
        before = next(each for each in rows if each["mode"] == row["mode"])
        row["calls saved"] = f"{1 - row['handler calls'] / before['handler calls']:.0%}"
    return rows


async def overhead(count: int) -> dict[str, float]:
    """Nanoseconds of a report, and what a meter adds to the embedded path, side by side."""
    progress("the meter itself")
    meter = UsageMeter()
    begun = time.perf_counter()
    for _ in range(count):
        meter.record("sqs", "orders", "SendMessageBatch", messages=10, size=10_240)
    report = (time.perf_counter() - begun) / count

    async def path(meter: UsageMeter | None) -> float:
        async with MemoryTransport(meter=meter) as memory:
            queue: Queue = memory.queue("q")
            messages = [Message({"n": number}) for number in range(count // 20)]
            begun = time.process_time()
            await queue.send(*messages)
            await consumed(queue, len(messages))
            return (time.process_time() - begun) / len(messages)

    pairs = [(await path(None), await path(UsageMeter())) for _ in range(5)]
    return {
        "a report, ns": report * 1e9,
        "embedded path without, µs": statistics.median(each[0] for each in pairs) * 1e6,
        "with a meter, ratio": statistics.median(each[1] / each[0] for each in pairs),
    }


def draw(figure: Any, published: list[dict[str, Any]], handled: list[dict[str, Any]]) -> None:
    """Both kinds of money, side by side."""
    left, right = figure.subplots(1, 2)
    bars(left, [each["mode"] for each in published], [each["2020, $"] for each in published], unit="$ for 100 M, 2020")
    left.set_title("publishing 1 KB messages to a topic", fontsize=9)
    shades = {"publish": "tab:blue", "receive": "tab:orange", "delete": "tab:green"}
    names = [each["mode"] for each in handled][::-1]
    before = [0.0] * len(names)
    for part, colour in shades.items():
        values = [each[part] for each in handled][::-1]
        right.barh(names, values, left=before, color=colour, label=part)
        before = [start + value for start, value in zip(before, values, strict=True)]
    right.set_xlabel("$ per million handled, today")
    right.set_title("topic, queue, one consumer", fontsize=9)
    right.legend(fontsize=8, loc="lower right")
    right.spines[["top", "right"]].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the messages")
    parser.add_argument("--docs", action="store_true", help="renew the pages' plot")
    options = parser.parse_args()
    count = 640 if options.quick else 6_400
    with sqs_stub.running() as url:
        asyncio.run(handling(url, 64))  # warms up
        published = asyncio.run(publishing(url, count))
        put = asyncio.run(publishing(url, count, bus=True))
        handled = asyncio.run(handling(url, count))
        filtered = asyncio.run(filtering(url, count, "batched", "packed"))
    took = asyncio.run(overhead(20_000 if options.quick else 200_000))
    results = {
        "messages": count,
        "factor": MONTH / count,
        "publishing": published,
        "to a bus": put,
        "handling": handled,
        "filtering": filtered,
        "meter": took,
        "prices": [str(THEN), str(NOW)],
        "instance": {"type": INSTANCE, "dollars_per_core_and_hour": VCPU_HOUR},
    }
    for title, rows in (
        (f"Publishing 100 M messages of 1 KB to SNS: {count:,} metered, times {MONTH / count:,.0f}", published),
        ("The same to EventBridge, which bills each event of a call", put),
        (f"Topic, queue and one consumer: $ per million handled messages ({NOW})", handled),
        ("A consumer that wants a quarter of the messages", filtered),
        ("The meter", [took]),
    ):
        print(table(title, list(rows[0]), [list(row.values()) for row in rows]))
    print(f"\nCPU: {INSTANCE}, ${VCPU_HOUR:g} per core and hour; a core as fast as one of this machine.")
    print("Billed requests per message do not depend on their number, as long as packs fill: they do at 64 messages")
    print("per linger. At one message an hour every way costs the same: a request each.")
    plot("cost", lambda figure: draw(figure, published, handled), size=(9, 3), docs=options.docs)
    print(f"\nwritten to {save('cost', results, 'aioboto3', 'zstandard')}")


if __name__ == "__main__":
    main()
