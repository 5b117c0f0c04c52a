"""How fast is SQS with this library? Messages per second and CPU per message, beside what a user would write instead.

    python -m benchmarks.sqs [--quick | --count N] [--round-trip MS] [--docs]

Everybody sends and consumes the same 1 KB JSON events on the same stub of the service (`benchmarks.sqs_stub`), which is
a process of its own and answers at once, so that the client is what is measured: its CPU time (all its threads) per
message is the steadier figure. Ours is measured as services use it: every message sent by a caller of its own who
awaits the confirmation, and handled by a `Consumer` with heartbeats and coalesced acks. All get the same number of
messages; connecting and a warm-up come before the measurement.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import count as counter
from typing import Any

from benchmarks import sqs_stub
from benchmarks._report import Figures, bars, plot, progress, save, table
from benchmarks._sqs_peers import EVENT, PEERS, PRODUCERS, Opens, Pair, callers
from eip import Consumer, Message


@asynccontextmanager
async def ours(url: str, name: str, *, many: bool) -> AsyncIterator[Pair]:
    async with sqs_stub.transport(url, long_poll=1) as aws:
        queue = aws.queue(name)

        async def send(count: int) -> None:
            if many:
                for start in range(0, count, 1000):
                    await queue.send(*(Message(EVENT) for _ in range(min(1000, count - start))))
            else:
                await callers(lambda: queue.send(Message(EVENT)), count)

        async def consume(count: int) -> float:
            done, handled = asyncio.Event(), counter(1)

            async def handle(message: Message) -> None:
                assert message.body["number"] == 7
                if next(handled) == count:
                    done.set()

            consumer = Consumer(queue, handle, concurrency=PRODUCERS)
            async with consumer:
                await done.wait()
                ended = time.perf_counter()
            assert consumer.stats.lost == 0
            return ended

        yield Pair(send, consume)


CONTENDERS: dict[str, Opens] = {
    "ours, a caller per message": partial(ours, many=False),
    "ours, 1,000 in one send": partial(ours, many=True),
    **PEERS,
}
WARM_UP = 200
"""Messages before the measurement: connections, caches, imports."""


async def _measured(run: Callable[[int], Awaitable[float | None]], count: int, figures: Figures) -> None:
    gc.collect()
    begun, cpu = time.perf_counter(), time.process_time()
    ended = await run(count)
    figures.add(count, (ended or time.perf_counter()) - begun, time.process_time() - cpu)


async def _one(name: str, url: str, queue: str, count: int, found: tuple[Figures, Figures]) -> None:
    async with sqs_stub.transport(url) as aws:
        await sqs_stub.make_queue(aws, queue)
    async with CONTENDERS[name](url, queue) as pair:
        await pair.send(WARM_UP)
        await pair.consume(WARM_UP)
        await asyncio.sleep(1.2)  # long polls of the warm-up that nobody reads any more must not get messages
        await _measured(pair.send, count, found[0])
        await _measured(pair.consume, count, found[1])


def measure(url: str, count: int, rounds: int) -> dict[str, tuple[Figures, Figures]]:
    """By contender, the figures of sending and of consuming; rounds are interleaved, so that noise hits all alike."""
    found = {name: (Figures(), Figures()) for name in CONTENDERS}
    for turn in range(rounds):
        for number, name in enumerate(CONTENDERS):
            progress(f"round {turn + 1} of {rounds}: {name}")
            queue = f"bench-{turn}-{number}"
            asyncio.run(_one(name, url, queue, count, found[name]))
            ready, held = sqs_stub.told(url)["ready_and_held"][queue]
            assert (ready, held) == (0, 0), f"{name}: {ready} ready, {held} held at the end"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 messages a round")
    parser.add_argument(
        "--round-trip", type=float, default=0.0, help="milliseconds that the stub waits before it answers"
    )
    parser.add_argument("--docs", action="store_true", help="renew the pages' plot")
    parser.add_argument("--count", type=int, help="messages a round; default: 20,000")
    options = parser.parse_args()
    count, rounds = (1_000, 3) if options.quick else (options.count or 20_000, 3)
    with sqs_stub.running(delay=options.round_trip / 1000) as url:
        found = measure(url, count, rounds)
    naive, batched = found["(a) naive aioboto3 loop"], found["(b) aioboto3, batches and gather"]
    for index, verb in enumerate(("Sending", "Consuming, deleting included")):
        rows = []
        for name, figures in found.items():
            rate, cpu = figures[index].row
            spread = figures[index].spread
            rows.append((name, rate, cpu, spread, naive[index].row[1] / cpu, batched[index].row[1] / cpu))
        columns = ("client", "messages/s", "CPU µs each", "spread", "per CPU second ÷ (a)", "÷ (b)")
        print(table(f"{verb}: {count:,} events of 1 KB, round trip {options.round_trip:g} ms", columns, rows))
    results = {
        name: {verb: each.plain() for verb, each in zip(("send", "consume"), figures, strict=True)}
        for name, figures in found.items()
    }

    def draw(figure: Any) -> None:
        for index, (axes, verb) in enumerate(zip(figure.subplots(1, 2), ("send", "receive and delete"), strict=True)):
            bars(axes, list(found), [each[index].row[1] for each in found.values()], unit="CPU µs of a message")
            axes.set_title(verb, fontsize=9)

    plot("sqs", draw, size=(13, 4), docs=options.docs)
    about = {"count": count, "rounds": rounds, "round_trip_ms": options.round_trip}
    packages = ("aioboto3", "aiobotocore", "aiohttp", "boto3", "kombu", "taskiq-aio-sqs", "fanferro")
    print("\nsaved", save("sqs", {**about, "clients": results}, *packages))


if __name__ == "__main__":
    main()
