"""What a bus costs: events per CPU second to EventBridge, beside aioboto3 by hand, and through the embedded bus.

    python -m benchmarks.eventbridge [--quick]

EventBridge is the stub of `benchmarks.sqs_stub`, in a process of its own, so that the client is measured. Every way is
run several times, in turn; each figure is the median. Read the ratios: absolute figures are the machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence

import aioboto3

from benchmarks import sqs_stub
from benchmarks._report import progress, save, table
from eip import Message
from eip.matching import EventPattern
from eip.transports.aws import AwsTransport
from eip.transports.memory import MemoryTransport

BODY = {"order": 17, "customer": "c-42", "total": 129.5, "lines": [{"sku": "abc", "number": 2}] * 3}


def orders(count: int) -> list[Message]:
    return [Message(BODY, type="OrderPlaced", source="com.example.shop") for _ in range(count)]


async def cpu(run: Callable[[], Awaitable[object]], count: int) -> float:
    """Events per CPU second of this process."""
    started = time.process_time()
    await run()
    return count / (time.process_time() - started)


async def compared(ways: dict[str, Callable[[], Awaitable[object]]], count: int, runs: int) -> list[tuple[str, float]]:
    figures: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(runs + 1):
        for name, run in ways.items():
            measured = await cpu(run, count)
            if turn:  # the first warms up
                figures[name].append(measured)
        progress(f"run {turn} of {runs}")
    return [(name, statistics.median(found)) for name, found in figures.items()]


async def on_the_service(url: str, count: int, runs: int) -> list[tuple[str, float]]:
    keys = {"aws_access_key_id": "stub", "aws_secret_access_key": "stub"}
    session = aioboto3.Session(region_name=sqs_stub.REGION, **keys)
    async with (
        session.client("events", endpoint_url=url) as client,
        AwsTransport(session=session, endpoint_url=url, account=sqs_stub.ACCOUNT) as aws,
    ):
        bus, detail = aws.bus("shop"), '{"order": 17, "customer": "c-42", "total": 129.5, "lines": []}'
        entry = {"Source": "com.example.shop", "DetailType": "OrderPlaced", "Detail": detail, "EventBusName": "shop"}

        async def by_hand(at_once: int) -> None:
            for _ in range(0, count, at_once):
                answer = await client.put_events(Entries=[entry] * at_once)
                assert not answer["FailedEntryCount"]

        async def ours_one_by_one() -> None:
            for message in orders(count):
                await bus.send(message)

        async def ours_as_they_come() -> None:
            await asyncio.gather(*(bus.send(message) for message in orders(count)))

        return await compared(
            {
                "aioboto3, one by one": lambda: by_hand(1),
                "ours, one by one": ours_one_by_one,
                "aioboto3, tens by hand": lambda: by_hand(10),
                "ours, as they come": ours_as_they_come,
            },
            count,
            runs,
        )


async def embedded(count: int, runs: int) -> list[tuple[str, float]]:
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
    for title, rows in (("PutEvents, events per CPU second", service), ("Embedded, events per CPU second", memory)):
        print(table(title, ("way", "events/s", "times the first"), [(*row, row[1] / rows[0][1]) for row in rows]))
    print("\nwritten to", save("eventbridge", {"service": dict(service), "embedded": dict(memory)}, "aioboto3"))


if __name__ == "__main__":
    main()
