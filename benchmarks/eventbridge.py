"""What a bus costs: events per CPU second to EventBridge, beside aioboto3 by hand, and through the embedded bus.

    python -m benchmarks.eventbridge [--quick]

EventBridge is the stub of `benchmarks.sqs_stub`, in a process of its own, so that the client is measured. All put the
same events, encoded by orjson within the measurement; those by hand in tens make sixteen calls at once. Every way is
run several times, in turn, after a warm-up; each figure is the median. Read the ratios: absolute figures are the
machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence

import aioboto3
import orjson
from botocore.config import Config

from benchmarks import sqs_stub
from benchmarks._report import progress, save, spread, table
from eip import Message
from eip.matching import EventPattern
from eip.transports.aws import AwsTransport
from eip.transports.memory import MemoryTransport

BODY = {"order": 17, "customer": "c-42", "total": 129.5, "lines": [{"sku": "abc", "number": 2}] * 3}


SOURCE = "com.example.shop"
CALLS = 16
"""Calls under way at once, where several are."""


def orders(count: int) -> list[Message]:
    return [Message(BODY, type="OrderPlaced", source=SOURCE) for _ in range(count)]


async def cpu(run: Callable[[], Awaitable[object]], count: int) -> float:
    """Microseconds of this process's CPU for an event."""
    gc.collect()
    started = time.process_time()
    await run()
    return (time.process_time() - started) / count * 1e6


async def compared(ways: dict[str, Callable[[], Awaitable[object]]], count: int, runs: int) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(runs + 1):
        for name, run in ways.items():
            measured = await cpu(run, count)
            if turn:  # the first warms up
                figures[name].append(measured)
        progress(f"run {turn} of {runs}")
    return figures


async def on_the_service(url: str, count: int, runs: int) -> dict[str, list[float]]:
    keys = {"aws_access_key_id": "stub", "aws_secret_access_key": "stub"}
    session = aioboto3.Session(region_name=sqs_stub.REGION, **keys)
    async with (
        session.client("events", endpoint_url=url, config=Config(max_pool_connections=CALLS)) as client,
        AwsTransport(session=session, endpoint_url=url, account=sqs_stub.ACCOUNT) as aws,
    ):
        bus = aws.bus("shop")

        def entry() -> dict[str, str]:
            detail = orjson.dumps(BODY).decode()
            return {"Source": SOURCE, "DetailType": "OrderPlaced", "Detail": detail, "EventBusName": "shop"}

        async def by_hand(at_once: int, calls: int) -> None:
            starts = iter(range(0, count, at_once))

            async def work() -> None:
                for _ in starts:
                    answer = await client.put_events(Entries=[entry() for _ in range(at_once)])
                    assert not answer["FailedEntryCount"]

            await asyncio.gather(*(work() for _ in range(calls)))

        async def ours_one_by_one() -> None:
            for message in orders(count):
                await bus.send(message)

        async def ours_as_they_come() -> None:
            await asyncio.gather(*(bus.send(message) for message in orders(count)))

        return await compared(
            {
                "aioboto3, one by one": lambda: by_hand(1, 1),
                "ours, one by one": ours_one_by_one,
                "aioboto3, tens by hand": lambda: by_hand(10, CALLS),
                "ours, as they come": ours_as_they_come,
            },
            count,
            runs,
        )


async def embedded(count: int, runs: int) -> dict[str, list[float]]:
    async with MemoryTransport(capacity=10**9) as memory:
        queue, one, many = memory.queue("plain"), memory.bus("one"), memory.bus("many")
        one.subscription("all")
        for number in range(1000):
            pattern = {"detail-type": ["OrderPlaced"], "detail": {"order": [17 + number]}}
            many.subscription(f"r{number}", pattern=EventPattern(pattern))
        return await compared(
            {
                "queue, no rules": lambda: queue.send(*orders(count)),
                "bus, 1 rule": lambda: one.send(*orders(count)),
                "bus, 1,000 rules, 1 matches": lambda: many.send(*orders(count)),
            },
            count,
            runs,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the events")
    quick = parser.parse_args(arguments).quick
    count, runs = (500, 3) if quick else (5000, 5)
    with sqs_stub.running() as url:
        service = asyncio.run(on_the_service(url, count, runs))
    memory = asyncio.run(embedded(count, runs))
    for title, found in (("PutEvents, CPU µs an event", service), ("Embedded, CPU µs an event", memory)):
        medians = {name: statistics.median(figures) for name, figures in found.items()}
        first = next(iter(medians.values()))
        rows = [(name, each, spread(found[name]), first / each) for name, each in medians.items()]
        print(table(title, ("way", "median", "spread", "times less than the first"), rows))
    print("\nwritten to", save("eventbridge", {"service": service, "embedded": memory}, "aioboto3"))


if __name__ == "__main__":
    main()
