"""Scatter-gather in one process: requests in flight × responders, beside the bare future-per-request floor.

    python -m benchmarks.scatter_gather [--quick] [--stores-only]

Each request goes to every responder; each answers at once; a request is complete with the last answer. The floor does
the same work with nothing but asyncio: an id and a dictionary per request, a dictionary from correlation id to future,
a heap of deadlines, lists of replies. Both are given the same replies in the same order, in batches, so that only the
gathering is compared. The whole path, through the embedded queue and its consumer, is measured too, as Python collects
garbage by itself, and with the setting of docs/how-to/garbage.md. With a store, that path is measured for each store
whose server is installed, with the writes that it makes.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import heapq
import os
import shutil
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks._report import progress, save, spread, table
from eip import GarbageCollection, Message
from eip.channels import Sender
from eip.patterns.scatter_gather import ScatterGather
from eip.stores import MemoryStore, SqliteStore
from eip.transports.memory import MemoryTransport
from tests.support.environment import ENVIRONMENT

if TYPE_CHECKING:
    from tests.support.processes import Service

RESPONDERS = 10
BATCH: Final = 100
"""Replies that are handed over at once."""
RARELY: Final = GarbageCollection(threshold=50_000)


class _Swallow(Sender):
    """Takes requests; whoever measures answers them."""

    def __init__(self) -> None:
        self.name = self.address = "requests"
        self.requests: list[Message[Any]] = []

    async def send(self, *messages: Message[Any]) -> None:
        self.requests.extend(messages)


async def _bare(in_flight: int) -> tuple[float, list[float]]:
    """Seconds of CPU to issue and answer the requests, and seconds from the first answer to each end."""
    pending: dict[str, tuple[asyncio.Future[list[Any]], list[Any]]] = {}
    requests: list[dict[str, Any]] = []
    deadlines: list[tuple[float, str]] = []
    loop = asyncio.get_running_loop()
    ends: list[float] = []

    async def one(number: int) -> None:
        future: asyncio.Future[list[Any]] = loop.create_future()
        key = os.urandom(16).hex()
        pending[key] = (future, [])
        requests.append({"id": key, "body": number})
        heapq.heappush(deadlines, (loop.time() + 300, key))
        assert len(await future) == RESPONDERS
        ends.append(time.perf_counter())

    cpu = time.process_time()
    tasks = [asyncio.create_task(one(number)) for number in range(in_flight)]
    await asyncio.sleep(0)
    issued = time.perf_counter()
    keys = [each["id"] for each in requests]
    for _ in range(RESPONDERS):
        for number, key in enumerate(keys):
            future, replies = pending[key]
            replies.append(number)
            if len(replies) == RESPONDERS:
                del pending[key]
                future.set_result(replies)
            if number % BATCH == 0:
                await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    return time.process_time() - cpu, [each - issued for each in ends]


async def _gathered(in_flight: int) -> tuple[float, list[float]]:
    """The same with `ScatterGather`, its replies handed in where its consumer would; making them is not measured."""
    requests = _Swallow()
    ends: list[float] = []

    async def one(gather: ScatterGather, number: int) -> None:
        result = await gather.request(number, expected=RESPONDERS, deadline=300)
        assert len(result.replies) == RESPONDERS
        ends.append(time.perf_counter())

    async with MemoryTransport() as transport, ScatterGather(requests, transport.queue("replies")) as gather:
        cpu = time.process_time()
        tasks = [asyncio.create_task(one(gather, number)) for number in range(in_flight)]
        while len(requests.requests) < in_flight:
            await asyncio.sleep(0)
        issuing = time.process_time() - cpu
        replies = [[each.reply(1) for each in requests.requests] for _ in range(RESPONDERS)]
        cpu, answering = time.process_time(), time.perf_counter()
        for batch in replies:
            for number, reply in enumerate(batch):
                await gather._gatherer.take(reply)
                if number % BATCH == 0:
                    await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        return issuing + time.process_time() - cpu, [each - answering for each in ends]


async def _whole(in_flight: int, garbage: GarbageCollection | None = None) -> tuple[float, float]:
    """Seconds, and seconds of CPU, through the embedded transport: sent, received, handled, answered, acknowledged."""
    with nullcontext() if garbage is None else garbage.applied(()):
        await asyncio.sleep(0)  # freezes, which a process does once, as it starts
        return await _request_all(in_flight)


async def _request_all(in_flight: int) -> tuple[float, float]:
    requests = _Swallow()
    async with (
        MemoryTransport(capacity=in_flight * RESPONDERS) as transport,
        ScatterGather(requests, transport.queue("replies")) as gather,
    ):
        replies = transport.queue("replies")
        begun, cpu = time.perf_counter(), time.process_time()

        async def one(number: int) -> None:
            await gather.request(number, expected=RESPONDERS, deadline=300)

        tasks = [asyncio.create_task(one(number)) for number in range(in_flight)]
        while len(requests.requests) < in_flight:
            await asyncio.sleep(0)
        for _ in range(RESPONDERS):
            for start in range(0, in_flight, BATCH):
                await replies.send(*(each.reply(1) for each in requests.requests[start : start + BATCH]))
        await asyncio.gather(*tasks)
        return time.perf_counter() - begun, time.process_time() - cpu


async def _bytes_per_request(in_flight: int) -> float:
    async with MemoryTransport() as transport, ScatterGather(_Swallow(), transport.queue("replies")) as gather:
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]

        async def one(number: int) -> None:
            await gather.request(number, expected=RESPONDERS, deadline=300)

        tasks = [asyncio.create_task(one(number)) for number in range(in_flight)]
        await asyncio.sleep(0.1)
        used = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return used / in_flight


class _Counting:
    """Passes a store's calls on, and counts its writes."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.puts = self.parts_written = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def put(self, *arguments: Any, **options: Any) -> Any:
        self.puts += 1
        return await self._store.put(*arguments, **options)

    async def put_part(self, *arguments: Any, **options: Any) -> Any:
        self.parts_written += 1
        return await self._store.put_part(*arguments, **options)


async def _stored(store: Any, number: int) -> tuple[float, float, float]:
    """Requests per second, writes per reply, and other writes per request, through the embedded transport."""
    requests, counting = _Swallow(), _Counting(store)
    async with (
        MemoryTransport(capacity=number * RESPONDERS) as transport,
        ScatterGather(requests, transport.queue("replies"), store=counting) as gather,
    ):
        begun = time.perf_counter()
        tasks = [
            asyncio.ensure_future(gather.request(each, expected=RESPONDERS, deadline=300)) for each in range(number)
        ]
        while len(requests.requests) < number:
            await asyncio.sleep(0.001)
        for _ in range(RESPONDERS):
            await transport.queue("replies").send(*(each.reply(1) for each in requests.requests))
        await asyncio.gather(*tasks)
        took = time.perf_counter() - begun
    await store.aclose()
    return number / took, counting.parts_written / (number * RESPONDERS), counting.puts / number


@contextmanager
def _stores(folder: str) -> Iterator[dict[str, Callable[[AsyncExitStack], Awaitable[Any]]]]:
    """How each store is opened; servers of those that are installed run meanwhile."""

    async def dynamodb(stack: AsyncExitStack) -> Any:
        import aioboto3  # noqa: PLC0415 - not there for everyone
        from botocore.config import Config  # noqa: PLC0415

        from eip.stores.dynamodb import DynamoStore, create_table  # noqa: PLC0415

        config, session = Config(max_pool_connections=64), aioboto3.Session()
        client = await stack.enter_async_context(session.client("dynamodb", endpoint_url=url["moto"], config=config))
        await create_table(client, "benchmark")
        return DynamoStore(client, "benchmark", "gathering")

    async def postgres(_: AsyncExitStack) -> Any:
        from eip.stores.postgres import PostgresStore  # noqa: PLC0415 - not there for everyone

        return PostgresStore(url["postgres"], "benchmark_gathering")

    async def redis(_: AsyncExitStack) -> Any:
        from eip.stores.redis import RedisStore  # noqa: PLC0415 - not there for everyone

        return RedisStore(url["redis"], "benchmark_gathering")

    async def memory(_: AsyncExitStack) -> Any:
        return MemoryStore()

    async def sqlite(_: AsyncExitStack) -> Any:
        return SqliteStore(f"{folder}/gathering.sqlite")

    with ExitStack() as running:
        url = {name: _started(server, running) for name, server in _servers(Path(folder)).items()}
        found = {"memory": memory, "SQLite": sqlite, "DynamoDB (moto)": dynamodb}
        optional = {"postgres": ("PostgreSQL", postgres), "redis": ("Redis", redis)}
        yield {**found, **{title: make for name, (title, make) in optional.items() if name in url}}


def _servers(folder: Path) -> dict[str, Service]:
    # Not before: with the SDK of AWS, the garbage collector has twice as many objects to look at.
    from tests.support.aws import MotoServer  # noqa: PLC0415
    from tests.support.postgres import PostgresServer, binaries  # noqa: PLC0415
    from tests.support.redis import RedisServer  # noqa: PLC0415

    servers: dict[str, Service] = {"moto": MotoServer(folder)}
    if (binary_folder := binaries()) is not None:
        folder.chmod(0o755)  # the database is another user's
        database = servers["postgres"] = PostgresServer(folder, binary_folder)
        database.initialise()
    if shutil.which("redis-server"):
        servers["redis"] = RedisServer(folder)
    return servers


def _started(server: Service, running: ExitStack) -> str:
    running.callback(server.stop, timeout=3)
    server.start()
    return str(getattr(server, "url", ""))


async def _stored_in(make: Callable[[AsyncExitStack], Awaitable[Any]], number: int) -> tuple[float, float, float]:
    async with AsyncExitStack() as stack:
        return await _stored(await make(stack), number)


def _compared(size: int, rounds: int = 3) -> tuple[object, ...]:
    """Medians of runs that take turns, of so many requests in flight."""
    asyncio.run(_whole(100))  # warms up
    bare, ours, ratios, p99s, rates, whole, rarely = [], [], [], [], [], [], []
    for number in range(rounds):
        progress(f"{size:,} in flight × {RESPONDERS} responders, round {number + 1} of {rounds}")
        gc.collect()
        floor, _ = asyncio.run(_bare(size))
        gc.collect()
        cpu, ends = asyncio.run(_gathered(size))
        gc.collect()
        seconds, whole_cpu = asyncio.run(_whole(size))
        gc.collect()
        _, rarely_cpu = asyncio.run(_whole(size, RARELY))
        bare.append(floor / size * 1e6)
        ours.append(cpu / size * 1e6)
        ratios.append(cpu / floor)
        p99s.append(_p99(ends))
        rates.append(size / seconds)
        whole.append(whole_cpu / size * 1e6)
        rarely.append(rarely_cpu / size * 1e6)
    per_request = asyncio.run(_bytes_per_request(min(size, 10_000)))
    medians = [statistics.median(each) for each in (bare, ours, ratios, p99s)]
    paths = (statistics.median(whole), spread(whole), statistics.median(rarely), spread(rarely))
    return (size, *medians, *paths, statistics.median(rates), per_request)


def _p99(ends: list[float]) -> float:
    return statistics.quantiles(ends, n=100)[98] * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10,000 in flight only")
    parser.add_argument("--stores-only", action="store_true", help="measure the stores alone")
    options = parser.parse_args()
    sizes = [] if options.stores_only else [10_000] if options.quick else [1_000, 10_000, 30_000, 100_000]
    rows = [_compared(size) for size in sizes]
    columns = (
        "in flight",
        "bare: CPU µs",
        "gathered: CPU µs",
        "ours ÷ bare",
        "p99 ms",
        "whole path: CPU µs",
        "spread",
        "collected rarely: CPU µs",
        "its spread",
        "whole path/s",
        "bytes per request",
    )
    print(table("A request, complete after 10 replies", columns, rows))
    number = 200 if options.quick else 1000
    os.environ.update(ENVIRONMENT)
    with tempfile.TemporaryDirectory() as folder, _stores(folder) as makers:
        stores = []
        for name, make in makers.items():
            progress(f"with a store: {name}")
            count = number // 10 if "moto" in name else number  # an emulator takes its time
            stores.append((name, count, *asyncio.run(_stored_in(make, count))))
    store_columns = ("store", "in flight", "requests/s", "writes per reply", "other writes per request")
    print(table("With a store, each request complete after 10 replies", store_columns, stores))
    results = {
        "columns": columns,
        "rows": rows,
        "store_columns": store_columns,
        "stores": stores,
    }
    print(f"\nwritten to {save('scatter_gather', results)}")


if __name__ == "__main__":
    main()
