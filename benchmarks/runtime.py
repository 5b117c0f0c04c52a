"""How fast is the runtime itself? Messages per second from publish to ack on the embedded transport.

    python -m benchmarks.runtime [--quick]

Each figure is the median of several runs in turn, after a warm-up; the floors (a bare asyncio loop, an asyncio.Queue
with workers) and the peers, where they are installed (`make bench`), are measured in the same process: compare ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
import tracemalloc
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

from pydantic import BaseModel

from benchmarks._report import Figures, bars, plot, progress, save, table
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


async def unwatched(count: int) -> None:
    """Ten handlers without the thread that notices a blocked loop and renews leases meanwhile: what that costs."""
    with patch("eip.runtime._session.watched", lambda _: nullcontext()):
        await consume(count, concurrency=10)


async def with_taskiq(count: int) -> None:
    """taskiq's broker in memory: a task for each message, its result kept for as long as the next hundred."""
    broker: Any = import_module("taskiq").InMemoryBroker(max_stored_results=BATCH)
    handled = 0

    async def handle(body: dict[str, Any]) -> None:
        nonlocal handled
        assert body["number"] == 7
        handled += 1

    task = broker.task(handle)
    await broker.startup()
    for _ in range(0, count, BATCH):
        for _ in range(BATCH):
            await task.kiq(BODY)
        await broker.wait_all()
    await broker.shutdown()
    assert handled == count


async def with_kombu(count: int) -> None:
    """Celery's transport in memory, JSON as it has it."""
    kombu: Any = import_module("kombu")
    handled = 0

    def handle(body: dict[str, Any], message: Any) -> None:
        nonlocal handled
        assert body["number"] == 7
        message.ack()
        handled += 1

    with kombu.Connection("memory://") as connection:
        queue = kombu.Queue("orders", exchange=kombu.Exchange("orders"), routing_key="orders")
        with connection.Producer() as producer, connection.Consumer(queue, callbacks=[handle], prefetch_count=BATCH):
            for start in range(0, count, BATCH):
                for _ in range(BATCH):
                    producer.publish(BODY, exchange="orders", routing_key="orders", serializer="json")
                while handled < start + BATCH:
                    connection.drain_events(timeout=10)
    assert handled == count


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
    "10 handlers, no watchdog": unwatched,
    "100 handlers": lambda count: consume(count, concurrency=100),
    "10 handlers, FIFO, 50 groups": lambda count: consume(count, concurrency=10, groups=50),
    "100 handlers, FIFO, 50 groups": lambda count: consume(count, concurrency=100, groups=50),
    "10 handlers, pydantic body": lambda count: consume(count, concurrency=10, typed=True),
    "100 handlers, pydantic body": lambda count: consume(count, concurrency=100, typed=True),
    "100 handlers that wait": lambda count: consume(count, concurrency=100, waits=True),
}
PEERS = {"taskiq": ("taskiq, in memory", with_taskiq), "kombu": ("kombu, in memory", with_kombu)}
CASES.update(dict(each for package, each in PEERS.items() if find_spec(package) is not None))


def measure(count: int, rounds: int) -> dict[str, Figures]:
    """Each case in turn, with a tenth of the messages first to warm up."""
    found = {name: Figures() for name in CASES}
    for turn in range(rounds + 1):
        for name, run in CASES.items():
            progress(f"{name}, round {turn} of {rounds}" if turn else f"{name}, warm-up")
            gc.collect()
            began, cpu = time.perf_counter(), time.process_time()
            asyncio.run(run(count if turn else count // 10))  # type: ignore[arg-type]
            if turn:
                found[name].add(count, time.perf_counter() - began, time.process_time() - cpu)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the messages")
    options = parser.parse_args()
    count, rounds = (10_000, 3) if options.quick else (100_000, 5)
    found = measure(count, rounds)
    bare = found["bare loop"].row[1]
    rows = [(name, *each.row, each.spread, each.row[1] - bare) for name, each in found.items()]
    columns = ("case", "messages/s", "CPU µs each", "spread", "µs over the bare loop")
    print(table(f"{count:,} messages, publish to ack", columns, rows))
    size = asyncio.run(_bytes_per_message(10_000))
    print(f"\nmemory per queued message of {len(Message(BODY).encode())} bytes: {size:,.0f} bytes")
    plot(
        "runtime",
        lambda figure: bars(
            figure.subplots(),
            list(found),
            [each.row[1] for each in found.values()],
            unit="CPU µs of a message, publish to ack",
        ),
    )
    cases = {name: each.plain() for name, each in found.items()}
    results = {"count": count, "cases": cases, "bytes_per_queued_message": size}
    print("saved", save("runtime", results, "taskiq", "kombu"))


if __name__ == "__main__":
    main()
