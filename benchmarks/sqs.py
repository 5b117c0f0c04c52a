"""How fast is SQS with this library? Messages per second and CPU per message, beside what a user would write instead.

    python -m benchmarks.sqs [--quick] [--round-trip MS]

Everybody sends and consumes the same 1 KB JSON events on the same stub of the service (`benchmarks.sqs_stub`), which is
a process of its own and answers at once, so that the client is what is measured: its CPU time (all its threads) per
message is the steadier figure. Ours is measured as services use it: every message sent by a caller of its own who
awaits the confirmation, and handled by a `Consumer` with heartbeats and coalesced acks.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from itertools import count as counter

from benchmarks import sqs_stub
from benchmarks._report import progress, save, table
from benchmarks._sqs_peers import EVENT, PEERS
from eip import Consumer, Message

Run = Callable[[str, str, int], Awaitable[float | None]]
"""With the stub's URL, a queue's name and a number of messages; what consumes returns when the last was handled."""
PRODUCERS = 200
"""Callers that each await the confirmation of one message before they send the next."""


async def ours_send(url: str, name: str, count: int) -> None:
    async with sqs_stub.transport(url) as aws:
        queue, numbers = aws.queue(name), iter(range(count))

        async def produce() -> None:
            for _ in numbers:
                await queue.send(Message(EVENT))

        await asyncio.gather(*(produce() for _ in range(PRODUCERS)))


async def ours_send_many(url: str, name: str, count: int) -> None:
    async with sqs_stub.transport(url) as aws:
        queue = aws.queue(name)
        for start in range(0, count, 1000):
            await queue.send(*(Message(EVENT) for _ in range(min(1000, count - start))))


async def ours_consume(url: str, name: str, count: int) -> float:
    async with sqs_stub.transport(url, long_poll=1) as aws:
        done, handled = asyncio.Event(), counter(1)

        async def handle(message: Message) -> None:
            assert message.body["number"] == 7
            if next(handled) == count:
                done.set()

        consumer = Consumer(aws.queue(name), handle, concurrency=PRODUCERS)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(consumer.run())
            await done.wait()
            ended = time.perf_counter()
            await consumer.stop()
        assert consumer.stats.lost == 0
        return ended


CONTENDERS: dict[str, tuple[Run, Run]] = {
    "ours, a caller per message": (ours_send, ours_consume),
    "ours, 1,000 in one send": (ours_send_many, ours_consume),
    **PEERS,
}
SLOW = ("naive", "kombu", "taskiq")
"""These get a tenth of the messages."""


class Figures:
    """One contender's runs."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.cpu: list[float] = []

    def add(self, count: int, seconds: float, cpu: float) -> None:
        self.rates.append(count / seconds)
        self.cpu.append(cpu / count * 1e6)

    @property
    def row(self) -> tuple[float, float]:
        return statistics.median(self.rates), statistics.median(self.cpu)


def _measured(run: Run, url: str, name: str, count: int, figures: Figures) -> None:
    gc.collect()
    begun, cpu = time.perf_counter(), time.process_time()
    ended: float | None = asyncio.run(run(url, name, count))  # type: ignore[arg-type]
    figures.add(count, (ended or time.perf_counter()) - begun, time.process_time() - cpu)


async def _ready(url: str, name: str) -> None:
    async with sqs_stub.transport(url) as aws:
        await sqs_stub.make_queue(aws, name)


def measure(url: str, count: int, rounds: int) -> dict[str, tuple[Figures, Figures]]:
    """By contender, the figures of sending and of consuming; rounds are interleaved, so that noise hits all alike."""
    found = {name: (Figures(), Figures()) for name in CONTENDERS}
    for turn in range(rounds):
        for number, (name, (send, consume)) in enumerate(CONTENDERS.items()):
            progress(f"round {turn + 1} of {rounds}: {name}")
            share = count // 10 if any(slow in name for slow in SLOW) else count
            queue = f"bench-{turn}-{number}"
            asyncio.run(_ready(url, queue))
            _measured(send, url, queue, share, found[name][0])
            _measured(consume, url, queue, share, found[name][1])
            ready, held = sqs_stub.told(url)["ready_and_held"][queue]
            assert (ready, held) == (0, 0), f"{name}: {ready} ready, {held} held at the end"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2,000 messages, one round")
    parser.add_argument(
        "--round-trip", type=float, default=0.0, help="milliseconds that the stub waits before it answers"
    )
    options = parser.parse_args()
    count, rounds = (2_000, 1) if options.quick else (20_000, 3)
    with sqs_stub.running(delay=options.round_trip / 1000) as url:
        found = measure(url, count, rounds)
    naive, batched = found["(a) naive aioboto3 loop"], found["(b) aioboto3, batches and gather"]
    for index, verb in enumerate(("Sending", "Consuming, deleting included")):
        rows = []
        for name, figures in found.items():
            rate, cpu = figures[index].row
            rows.append((name, rate, cpu, naive[index].row[1] / cpu, batched[index].row[1] / cpu))
        columns = ("client", "messages/s", "CPU µs each", "per CPU second ÷ (a)", "÷ (b)")
        print(table(f"{verb}: {count:,} events of 1 KB, round trip {options.round_trip:g} ms", columns, rows))
    results = {
        name: {
            verb: dict(zip(("messages_per_second", "cpu_microseconds"), each.row, strict=True))
            for verb, each in zip(("send", "consume"), figures, strict=True)
        }
        for name, figures in found.items()
    }
    about = {"count": count, "rounds": rounds, "round_trip_ms": options.round_trip}
    packages = ("aioboto3", "aiobotocore", "aiohttp", "boto3", "kombu", "taskiq-aio-sqs")
    print("\nsaved", save("sqs", {**about, "clients": results}, *packages))


if __name__ == "__main__":
    main()
