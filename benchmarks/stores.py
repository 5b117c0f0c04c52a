"""How fast are the patterns that write to a store? Messages per second and CPU per message, by store.

    python -m benchmarks.stores [--quick] [--only NAME ...]

A hundred callers at once each have a message handled, as a consumer of concurrency 100 does:

    idempotent   each message is claimed, handled, and noted as done: two writes
    aggregator   each input is stored in its group of ten; the tenth releases it

Servers run beside it on the same machine with their usual durability: Redis with an append-only file synced every
second, PostgreSQL with ``fsync`` and ``synchronous_commit``. CPU is that of this process, threads included. DynamoDB is
moto, which takes most of a core itself: read its CPU, not its rate; ``--quick`` leaves it out.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from itertools import count as counter
from pathlib import Path
from typing import Any, Final

import aioboto3
from botocore.config import Config

from benchmarks._report import Figures, bars, plot, progress, save, table
from eip import Message
from eip.patterns import Aggregator, idempotent
from eip.runtime.handlers import Handler
from eip.stores import MemoryStore, SqliteStore
from eip.stores.base import Store
from eip.stores.dynamodb import DynamoStore, create_table
from eip.stores.postgres import PostgresStore
from eip.stores.redis import RedisStore
from eip.transports.memory import MemoryTransport
from tests.support.aws import MotoServer
from tests.support.environment import ENVIRONMENT, REGION
from tests.support.postgres import PostgresServer, binaries
from tests.support.redis import RedisServer

CALLERS: Final = 100
GROUP: Final = 10
"""Inputs of a group."""
BODY: Final = {"number": 7, "text": "x" * 900}

Opener = Callable[[], AbstractAsyncContextManager[Store]]
"""Opens an empty store."""
Work = Callable[[Store, int], Awaitable[None]]
"""Has so many messages handled on the store."""


class DurableRedis(RedisServer):
    """As Redis is set up to keep what it holds."""

    def command(self) -> Sequence[str]:
        return [*super().command(), "--appendfsync", "everysec"]


class DurablePostgres(PostgresServer):
    """As PostgreSQL is set up by default."""

    def command(self) -> Sequence[str]:
        return [*super().command(), "-c", "fsync=on", "-c", "full_page_writes=on", "-c", "shared_buffers=128MB"]


async def _by_callers(handle: Handler, messages: Sequence[Message[Any]]) -> None:
    left = iter(messages)

    async def call() -> None:
        for message in left:
            await handle(message)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(CALLERS):
            tasks.create_task(call())


async def idempotently(store: Store, count: int) -> None:
    """Each message once: the way of nearly all."""
    handled = 0

    async def handle(_: Message[Any]) -> None:
        nonlocal handled
        handled += 1

    await _by_callers(idempotent(store)(handle), [Message(BODY) for _ in range(count)])
    assert handled == count


async def aggregated(store: Store, count: int) -> None:
    """Groups of ten; a hundred groups are open at once, so that callers seldom wait for each other."""
    async with MemoryTransport() as memory:
        output = memory.queue("out")
        handle = Aggregator(store, output=output, size=GROUP, combine=lambda group: len(group.messages))
        at_once = CALLERS * GROUP
        messages = [Message(BODY, correlation_id=f"g{n // at_once}-{n % CALLERS}") for n in range(count)]
        await _by_callers(handle, messages)
        assert handle.released == {"size": count // GROUP}


WORKS: Final[dict[str, Work]] = {"idempotent": idempotently, "aggregator": aggregated}


async def _measured(open_store: Opener, work: Work, count: int, figures: Figures) -> None:
    """Warm up with a tenth, then measure; opening is not in it."""
    async with open_store() as store:
        await work(store, max(count // 10 // (CALLERS * GROUP), 1) * CALLERS * GROUP)
    async with open_store() as store:
        await store.get("opened")
        gc.collect()
        begun, cpu = time.perf_counter(), time.process_time()
        await work(store, count)
        figures.add(count, time.perf_counter() - begun, time.process_time() - cpu)


@contextmanager
def openers(chosen: Sequence[str]) -> Iterator[dict[str, tuple[Opener, int]]]:
    """How each store is opened, and a divisor for the number of its messages."""
    numbers = counter()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eip-bench-")))

        def server(kind: Any, *arguments: Any) -> Any:
            made = kind(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eip-bench-"))), *arguments)
            if isinstance(made, PostgresServer):
                made.initialise()
            made.start()
            stack.callback(made.stop)
            return made

        def opened(make: Callable[[str], Store]) -> Opener:
            @asynccontextmanager
            async def opener() -> AsyncIterator[Store]:
                store = make(f"b{next(numbers)}")
                try:
                    yield store
                finally:
                    await store.aclose()

            return opener

        found: dict[str, tuple[Opener, int]] = {}
        if "memory" in chosen:
            found["memory"] = opened(lambda _: MemoryStore()), 1
        for synchronous in ("NORMAL", "FULL"):
            if f"sqlite-{synchronous.lower()}" in chosen:
                found[f"sqlite-{synchronous.lower()}"] = (
                    opened(
                        lambda name, s=synchronous: SqliteStore(folder / f"{name}.sqlite", synchronous=s)  # type: ignore[misc]
                    ),
                    1,
                )
        if "redis" in chosen:
            redis = server(DurableRedis)
            found["redis"] = opened(lambda name: RedisStore(redis.url, name)), 1
        if "postgres" in chosen:
            postgres = server(DurablePostgres, binaries())
            found["postgres"] = opened(lambda name: PostgresStore(postgres.dsn, name)), 1
        if "dynamodb" in chosen:
            found["dynamodb"] = _dynamodb(server(MotoServer).url, numbers), 20
        yield found


def _dynamodb(url: str, numbers: Iterator[int]) -> Opener:
    session = aioboto3.Session(
        region_name=REGION,
        aws_access_key_id=ENVIRONMENT["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=ENVIRONMENT["AWS_SECRET_ACCESS_KEY"],
    )

    @asynccontextmanager
    async def opener() -> AsyncIterator[Store]:
        config = Config(max_pool_connections=50)
        async with session.client("dynamodb", endpoint_url=url, config=config) as client:
            await create_table(client, "bench")
            yield DynamoStore(client, "bench", f"b{next(numbers)}")

    return opener


NAMES: Final = ("memory", "sqlite-normal", "sqlite-full", "redis", "postgres", "dynamodb")


def measure(chosen: Sequence[str], count: int, rounds: int) -> dict[str, dict[str, Figures]]:
    """By pattern and store, the figures of each round; rounds are interleaved."""
    figures = {work: {name: Figures() for name in chosen} for work in WORKS}
    with openers(chosen) as found:
        for turn in range(rounds):
            for name, (opener, divisor) in found.items():
                for pattern, work in WORKS.items():
                    progress(f"round {turn + 1} of {rounds}: {pattern} on {name}")
                    asyncio.run(_measured(opener, work, max(count // divisor, 1000), figures[pattern][name]))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2,000 messages a round")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    options = parser.parse_args()
    count, rounds = (2_000, 3) if options.quick else (20_000, 3)
    found = measure(options.only or (NAMES[:-1] if options.quick else NAMES), count, rounds)
    for pattern, rows in found.items():
        unit = "inputs" if pattern == "aggregator" else "messages"
        columns = ("store", f"{unit}/s", "CPU µs each", "spread")
        cells = [(name, *each.row, each.spread) for name, each in rows.items()]
        print(table(f"{pattern}, {CALLERS} callers", columns, cells))
    results = {pattern: {name: each.plain() for name, each in rows.items()} for pattern, rows in found.items()}

    def draw(figure: Any) -> None:
        for axes, (pattern, rows) in zip(figure.subplots(1, len(found)), found.items(), strict=True):
            bars(axes, list(rows), [each.row[1] for each in rows.values()], unit="CPU µs of a message")
            axes.set_title(pattern, fontsize=9)

    plot("stores", draw, size=(10, 3))
    about = {"count": count, "rounds": rounds, "callers": CALLERS, "group": GROUP}
    print("\nsaved", save("stores", {**about, "patterns": results}, "asyncpg", "redis", "aioboto3"))


if __name__ == "__main__":
    main()
