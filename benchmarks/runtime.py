"""How fast is the runtime itself? Messages per second from publish to ack on the embedded transport.

    python -m benchmarks.runtime [--quick]

Each figure is the median of several runs; the floors (a bare asyncio loop, an asyncio.Queue with workers) are measured
in the same process, side by side, so compare ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import time
import tracemalloc
from collections import deque
from collections.abc import Awaitable, Callable

from pydantic import BaseModel

from benchmarks._report import progress, save, table
from eip import Consumer, Message
from eip.transports.memory import MemoryTransport


class Order(BaseModel):
    number: int
    customer: str
    items: list[int]


BODY = {"number": 7, "customer": "c-42", "items": [1, 2, 3]}
BATCH = 100


async def bare_loop(count: int) -> None:
    """A deque, an async function, nothing else: what any runtime must pay."""
    queue: deque[Message] = deque()
    done = 0

    async def handle(_: Message) -> None:
        nonlocal done
        done += 1

    while done < count:
        queue.extend(Message(BODY) for _ in range(BATCH))
        while queue:
            await handle(queue.popleft())
        await asyncio.sleep(0)


async def asyncio_queue(count: int, workers: int) -> None:
    """What a user would write by hand: a bounded asyncio.Queue and workers."""
    queue: asyncio.Queue[Message] = asyncio.Queue(1000)
    handled = 0

    async def work() -> None:
        nonlocal handled
        while True:
            await queue.get()
            handled += 1
            queue.task_done()

    tasks = [asyncio.create_task(work()) for _ in range(workers)]
    for _ in range(count):
        await queue.put(Message(BODY))
    await queue.join()
    for task in tasks:
        task.cancel()
    assert handled == count


async def consume(count: int, *, concurrency: int, groups: int = 0, typed: bool = False, waits: bool = False) -> None:
    """The whole path: publish, lease, handle, ack."""
    handled = 0
    done = asyncio.Event()

    def count_one() -> None:
        nonlocal handled
        handled += 1
        if handled == count:
            done.set()

    async def untyped(_: Message) -> None:
        count_one()

    async def waiting(_: Message) -> None:
        await asyncio.sleep(0)
        count_one()

    async def validated(order: Order) -> None:
        assert order.number == 7
        count_one()

    async with MemoryTransport(capacity=count + BATCH) as transport:
        queue = transport.queue("orders.fifo" if groups else "orders")
        consumer = Consumer(queue, waiting if waits else validated if typed else untyped, concurrency=concurrency)
        run = asyncio.create_task(consumer.run())
        for start in range(0, count, BATCH):
            numbers = range(start, start + BATCH)
            await queue.send(*(Message(BODY, group_id=str(each % groups) if groups else None) for each in numbers))
            await asyncio.sleep(0)
        await done.wait()
        await consumer.stop()
        await run
        assert len(queue) == 0
        assert consumer.stats.handled == count


def rate(run: Callable[[int], Awaitable[None]], count: int, times: int) -> float:
    """Messages per second, the median."""
    seconds = []
    for _ in range(times):
        gc.collect()
        start = time.perf_counter()
        asyncio.run(run(count))  # type: ignore[arg-type]
        seconds.append(time.perf_counter() - start)
    return count / statistics.median(seconds)


async def _bytes_per_message(count: int) -> float:
    async with MemoryTransport(capacity=count) as transport:
        queue = transport.queue("orders")
        await queue.send(Message(BODY))
        gc.collect()
        tracemalloc.start()
        for start in range(0, count - 1, BATCH):
            await queue.send(*(Message(BODY) for _ in range(start, min(start + BATCH, count - 1))))
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return size / (count - 1)


CASES: dict[str, Callable[[int], Awaitable[None]]] = {
    "bare loop": bare_loop,
    "asyncio.Queue, 10 workers": lambda count: asyncio_queue(count, 10),
    "1 handler": lambda count: consume(count, concurrency=1),
    "10 handlers": lambda count: consume(count, concurrency=10),
    "100 handlers": lambda count: consume(count, concurrency=100),
    "10 handlers, FIFO, 50 groups": lambda count: consume(count, concurrency=10, groups=50),
    "100 handlers, FIFO, 50 groups": lambda count: consume(count, concurrency=100, groups=50),
    "10 handlers, pydantic body": lambda count: consume(count, concurrency=10, typed=True),
    "100 handlers, pydantic body": lambda count: consume(count, concurrency=100, typed=True),
    "100 handlers that wait": lambda count: consume(count, concurrency=100, waits=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the messages, one run each")
    options = parser.parse_args()
    count, times = (10_000, 1) if options.quick else (100_000, 3)
    rates: dict[str, float] = {}
    for name, run in CASES.items():
        progress(name)
        rates[name] = rate(run, count, times)
    bare = 1e6 / rates["bare loop"]
    rows = [(name, each, 1e6 / each, 1e6 / each - bare) for name, each in rates.items()]
    print(
        table(f"{count:,} messages, publish to ack", ("case", "messages/s", "µs each", "µs over the bare loop"), rows)
    )
    size = asyncio.run(_bytes_per_message(10_000))
    print(f"\nmemory per queued message of {len(Message(BODY).encode())} bytes: {size:,.0f} bytes")
    print("saved", save("runtime", {"count": count, "messages_per_second": rates, "bytes_per_queued_message": size}))


if __name__ == "__main__":
    main()
