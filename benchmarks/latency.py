"""How long from send to handler? Percentiles under a load that does not wait, on a network with a delay.

    python -m benchmarks.latency [--quick] [--docs]

Messages are sent at the times of a schedule (Poisson arrivals), whether or not earlier ones are through, and the time
counts from the schedule: a sender that falls behind is slow, not excused. The stub stands for SQS and answers each call
after 8 ms; it and the measured process share this machine. Plain: each message by its own caller, calls fill by
themselves. Packed: through a `Packer` without a linger. The embedded transport, too.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from benchmarks import sqs_stub
from benchmarks._events import events
from benchmarks._report import plot, progress, save, table
from eip import Consumer, Message, Queue, Sender
from eip.patterns.packer import Packer
from eip.transports.memory import MemoryTransport

DELAY = 0.008
WAYS = ("SQS, plain", "SQS, packed", "embedded, plain")


async def load(queue: Queue, rate: float, seconds: float, *, packed: bool) -> list[float]:
    """Milliseconds from schedule to handler, of each message of the load; a tenth at the start warms up.

    Empty where the messages were not through after twice the time of the load.
    """
    dice = random.Random(3)
    at: list[float] = [0.0]
    while at[-1] < seconds:
        at.append(at[-1] + dice.expovariate(rate))
    messages = events(min(len(at), 2000))
    due: dict[str, float] = {}
    took: list[float] = []
    done = asyncio.Event()

    async def handle(message: Message[Any]) -> None:
        took.append(time.perf_counter() - due.pop(message.id))
        if len(took) == len(at):
            done.set()

    consumer = Consumer(queue, handle, concurrency=200)
    running = asyncio.create_task(consumer.run())
    await consumer.started.wait()
    gc.collect()
    gc.freeze()  # as `eip run` does
    async with AsyncExitStack() as stack:
        sender: Sender = await stack.enter_async_context(Packer(queue)) if packed else queue
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        sends: set[asyncio.Task[None]] = set()
        begun = time.perf_counter()
        for number, when in enumerate(at):
            while (left := begun + when - time.perf_counter()) > 0:
                await asyncio.sleep(left)
            message = messages[number % len(messages)].replace(id=f"{number:x}")
            due[message.id] = begun + when
            sends.add(task := tasks.create_task(sender.send(message)))
            task.add_done_callback(sends.discard)
            if number % 50 == 0:
                await asyncio.sleep(0)
        try:
            async with asyncio.timeout(max(2 * seconds - (time.perf_counter() - begun), 0)):
                await done.wait()
        except TimeoutError:
            for task in sends:
                task.cancel()
    await consumer.stop()
    await running
    gc.unfreeze()
    return [each * 1000 for each in took[len(took) // 10 :]] if done.is_set() else []


async def measure(url: str, way: str, rate: float, seconds: float) -> dict[str, Any] | None:
    """The percentiles of one way at one rate; None where it cannot keep up."""
    if way.startswith("embedded"):
        async with MemoryTransport() as memory:
            took = await load(memory.queue("q"), rate, seconds, packed=False)
    else:
        async with sqs_stub.transport(url) as aws:
            name = f"l{time.time_ns()}"
            await sqs_stub.make_queue(aws, name)
            took = await load(aws.queue(name), rate, seconds, packed=way.endswith("packed"))
    if not took:
        return None
    cuts = statistics.quantiles(took, n=1000)
    return {
        "way": way,
        "messages/s": rate,
        "p50 ms": cuts[499],
        "p99 ms": cuts[989],
        "p99.9 ms": cuts[998],
        "max ms": max(took),
    }


async def run(rates: Sequence[float], seconds: float) -> list[dict[str, Any]]:
    """All ways at all rates; one that cannot keep up with a rate is spared the higher ones."""
    rows: list[dict[str, Any]] = []
    ways = list(WAYS)
    with sqs_stub.running(delay=DELAY) as url:
        for rate in rates:
            for way in list(ways):
                progress(f"{way}, {rate:,.0f} messages a second for {seconds:g} s")
                row = await measure(url, way, rate, seconds)
                if row is None or row["p50 ms"] > seconds * 100:
                    progress(f"{way} cannot keep up with {rate:,.0f} a second here")
                    ways.remove(way)
                else:
                    rows.append(row)
    return rows


def draw(figure: Any, rows: list[dict[str, Any]]) -> None:
    """p50 and p99 against the offered load."""
    axes = figure.add_subplot()
    for way, colour in zip(WAYS, ("tab:orange", "tab:blue", "tab:green"), strict=True):
        mine = [row for row in rows if row["way"] == way]
        rates = [row["messages/s"] for row in mine]
        axes.plot(rates, [row["p50 ms"] for row in mine], color=colour, marker="o", label=f"{way}, p50")
        axes.plot(rates, [row["p99 ms"] for row in mine], color=colour, marker="o", ls="--", label=f"{way}, p99")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("messages per second offered")
    axes.set_ylabel(f"ms from send to handler; a call takes {DELAY * 1000:g} ms")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3, which="both")
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two rates, three seconds each")
    parser.add_argument("--docs", action="store_true", help="renew the pages' plot")
    options = parser.parse_args()
    rates, seconds = ([200.0, 1000.0], 3.0) if options.quick else ([100.0, 300.0, 1000.0, 2000.0, 4000.0], 8.0)
    rows = asyncio.run(run(rates, seconds))
    print(table("From send to handler", list(rows[0]), [list(row.values()) for row in rows]))
    plot("latency", lambda figure: draw(figure, rows), docs=options.docs)
    print(f"\nwritten to {save('latency', rows, 'aioboto3', 'aiobotocore')}")


if __name__ == "__main__":
    main()
