"""Several real processes that gather over one store and SQS: what is killed, and what is checked afterwards."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from eip import Consumer, Message, ReturnAddresses
from eip.patterns._gathering_records import RequestRecord
from eip.patterns.scatter_gather import Gathered, ScatterGather
from eip.stores import SqliteStore
from eip.stores.base import Store
from eip.topology import QueueSpec, Topology
from eip.transports.aws import AwsTransport
from tests.support.environment import ACCOUNT, REGION

LEASE = 2.0
NAMES = ("a", "b", "c")
DEADLINES = (4.0, 120.0, 120.0)
"""Of the requests in turn: one ends at its deadline, two with the third answer."""


async def open_store(kind: str, url: str, name: str, stack: AsyncExitStack) -> Store:
    """The store of that kind; closed with the stack."""
    if kind == "dynamodb":
        from aiobotocore.session import get_session

        from eip.stores.dynamodb import DynamoStore, create_table

        client = await stack.enter_async_context(get_session().create_client("dynamodb", endpoint_url=url))
        await create_table(client, "gathering")
        return DynamoStore(client, "gathering", name)
    store: Store
    if kind == "postgres":
        from eip.stores.postgres import PostgresStore

        store = PostgresStore(url, name)
    elif kind == "redis":
        from eip.stores.redis import RedisStore

        store = RedisStore(url, name)
    else:
        store = SqliteStore(Path(url))
    stack.push_async_callback(store.aclose)
    return store


def note_completions(store: Any) -> None:
    """Print the key of each request that a write of this process completed."""
    put = store.put

    async def noting(key: str, value: bytes, **options: Any) -> Any:
        written = await put(key, value, **options)
        if written is not None and b"\n" in value and RequestRecord.load(value).completed:
            print(f"completed {key}", flush=True)
        return written

    store.put = noting


async def gatherer(kind: str, url: str, aws_url: str, name: str, stack: AsyncExitStack) -> ScatterGather:
    """One process's scatter-gather over the shared channels."""
    aws = await stack.enter_async_context(AwsTransport(REGION, aws_url, account=ACCOUNT, long_poll=1.0))
    store = await open_store(kind, url, name, stack)
    note_completions(store)
    gather = ScatterGather(aws.queue(f"asked-{name}"), aws.queue(f"replies-{name}"), store=store, poll_interval=0.2)
    return await stack.enter_async_context(gather)


async def work(kind: str, url: str, aws_url: str, name: str, requests: str) -> None:
    """Start requests, print their ids, and take replies until killed."""
    async with AsyncExitStack() as stack:
        gather = await gatherer(kind, url, aws_url, name, stack)
        for number in range(int(requests)):
            request = gather.request(number, expected=NAMES, deadline=DEADLINES[number % len(DEADLINES)])
            key = await request.start()
            print(f"asked {key}", flush=True)
        await asyncio.Event().wait()


def reply(request: Message[int], name: str) -> Message[int]:
    """A responder's answer: the same message, however often it is asked."""
    return request.reply(request.body, source=name, id=f"{request.id}-{name}")


class Processes:
    """Gathering processes, and the lines they print."""

    def __init__(self, kind: str, url: str, aws_url: str, name: str) -> None:
        self._arguments = (kind, url, aws_url, name)
        self._aws_url, self._name = aws_url, name
        self._running: list[asyncio.subprocess.Process] = []
        self.lines: list[str] = []

    async def start(self, *, requests: int) -> asyncio.subprocess.Process:
        """Begin another one."""
        command = (sys.executable, "-m", "tests.stores.gathering", *self._arguments, str(requests))
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=os.environ)
        self._running.append(process)
        return process

    async def read(self, process: asyncio.subprocess.Process) -> None:
        """Collect the lines of one until it ends."""
        assert process.stdout is not None
        async for line in process.stdout:
            self.lines.append(line.decode().strip())

    def of(self, word: str) -> list[str]:
        """The ids that were printed with a word."""
        return [line.split()[1] for line in self.lines if line.startswith(f"{word} ")]

    async def kill(self) -> None:
        """End all that still run, as `kill -9` does."""
        for process in self._running:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def check(store: tuple[str, str], aws_url: str, name: str, *, count: int, kills: int, requests: int) -> None:
    """Processes ask, some are killed between replies, the others complete all; each result once and for ever."""
    total = count * requests
    async with AsyncExitStack() as stack:
        aws = await stack.enter_async_context(AwsTransport(REGION, aws_url, account=ACCOUNT, long_poll=1.0))
        queues = [QueueSpec(f"{each}-{name}", visibility=LEASE, dead_letters=False) for each in ("asked", "replies")]
        await Topology(*queues).apply(aws)
        processes = Processes(*store, aws_url, name)
        stack.push_async_callback(processes.kill)
        asked: list[Message[int]] = []

        async def respond(request: Message[int]) -> Sequence[Message[Any]]:
            """Two responders answer at once, one of them twice; the third answers once processes were killed.

            A request that comes again, as where its acknowledgement takes longer than its lease, gets the same answers.
            """
            asked.append(request)
            first, second = (reply(request, name) for name in NAMES[:2])
            return first, second, first

        replies = ReturnAddresses(aws, prefix=f"replies-{name}")
        await stack.enter_async_context(Consumer(aws.queue(f"asked-{name}"), respond, replies=replies))
        started = [await processes.start(requests=requests) for _ in range(count)]
        reading = [asyncio.create_task(processes.read(each)) for each in started]
        async with asyncio.timeout(60):
            while len({each.headers["request-id"] for each in asked}) < total or len(processes.of("asked")) < total:
                await asyncio.sleep(0.05)
        for process in started[:kills]:  # with two answers of each request taken, or on their way
            process.kill()
        distinct = {each.headers["request-id"]: each for each in asked}
        whole = [each for each in distinct.values() if DEADLINES[each.body % len(DEADLINES)] > DEADLINES[0]]
        await aws.queue(f"replies-{name}").send(*(reply(each, NAMES[2]) for each in whole))
        last = await gatherer(*store, aws_url, name, stack)
        async with asyncio.timeout(60):
            results = {key: await last.result(key) for key in distinct}
        await asyncio.sleep(LEASE + 0.5)  # what the killed ones held comes again, and is known or late
        for key, result in results.items():
            now = await last.get(key)
            assert now is not None
            assert outcome(now) == outcome(result)
        _check_results(results, {each.headers["request-id"] for each in whole})
        await processes.kill()
        await asyncio.gather(*reading)
        assert set(Counter(processes.of("completed")).values()) <= {1}


def _check_results(results: dict[str, Gathered], whole: set[str]) -> None:
    for key, result in results.items():
        names = {each.source for each in result.replies}
        assert len(names) == len(result.replies)
        if key in whole:
            assert names == {*NAMES}
            assert (result.completed_by, result.missing) == ("expected", frozenset())
        else:  # an answer that waited for a killed process's lease may be late
            assert names | {each.source for each in result.late_replies or ()} <= {*NAMES[:2]}
            assert result.completed_by == "deadline"
            assert result.missing == {*NAMES} - names


def outcome(result: Gathered) -> tuple[Any, ...]:
    """What must never change."""
    return result.completed_by, result.completed_at, [each.id for each in result.replies], result.missing


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))
