"""The RFQ service under load, each RFQ answered by 12 unicorns, while customers ask how far they are.

    python -m benchmarks.rfq_load [--quick] [--store sqlite] [--store memory] [--store postgresql] [--store dynamodb]
                                  [--transport aws] [--transport activemq] [--profile FILE]

Two loads: all RFQs at once (1,000), and a steady one (50 a second for a minute). The service, with its unicorns, is one
process: HTTP server, booking, transport and state, as `python -m examples.rfq` puts them together. This process is its
customers: it asks, polls statuses at a steady rate, follows each RFQ of the steady load (of the other, every tenth) by
server-sent events, and checks that each result holds all 12 quotes. Unicorns take one to four seconds for an answer, so
that many RFQs are under way together.

- *accepted/s*: RFQs divided by the time from the first POST to the last 202.
- *last quote*: from the first POST to the completion of the last RFQ, as the service noted it; up to four seconds of it
  are the slowest unicorn's.
- *completed*: from the moment that an RFQ's last reply is sent to the completion that the service noted.
- *told*: from there to the moment that its customer reads the event ``complete``.

On DynamoDB and AWS the server is moto, a Python process: the figure is the emulator's as much as the service's.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import os
import random
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import structlog
import uvicorn

from benchmarks._report import progress, save, table
from eip import Consumer, Message
from eip.stores import MemoryStore
from examples.rfq.api import app
from examples.rfq.booking import RideBooking
from examples.rfq.channels import Channels
from examples.rfq.model import Presence, Quote, QuoteRequest
from examples.rfq.store import States
from examples.rfq.vicinity import located
from examples.rfq.wiring import GARBAGE, connected, stored
from tests.support.activemq import ActiveMQBroker
from tests.support.aws import MotoServer
from tests.support.environment import ENVIRONMENT
from tests.support.postgres import PostgresServer, binaries
from tests.support.processes import Service

UNICORNS = 12
FASTEST, SLOWEST = 1.0, 4.0
"""Seconds that a unicorn takes for an answer."""
PLACE = "Alexanderplatz"
RIDE = {"from": PLACE, "to": "Tempelhofer Feld", "customer": "load", "duration": 1200}
CONNECTIONS = 50
POLLERS = 5
POLLS_PER_S = 100.0
"""Status calls a second at most; one that must wait for an answer waits, so that calls do not pile up."""
AT_ONCE = {"sqlite": 1000, "memory": 1000, "postgresql": 1000, "dynamodb": 50}
STEADY = {"sqlite": (50.0, 60.0), "memory": (50.0, 60.0), "postgresql": (50.0, 60.0), "dynamodb": (2.0, 30.0)}
"""By store: RFQs a second, and for how many seconds."""
WATCHED = 10
"""Of many RFQs at once, one of so many is followed by server-sent events."""
STORE_OF = {"aws": "dynamodb", "activemq": "sqlite"}
"""By transport other than the embedded one."""


# The service's process.


async def steady_unicorn(channels: Channels, number: int, sent: dict[str, float]) -> None:
    """A unicorn that stays where it is and always answers, until cancelled; notes when it answered an RFQ."""
    name, dice, position = f"steady-{number}", random.Random(number), located(PLACE)

    async def quote(message: Message[QuoteRequest]) -> Message:
        await asyncio.sleep(dice.uniform(FASTEST, SLOWEST))
        offer = Quote(unicorn=name, name=name, price=round(dice.uniform(5, 50), 2), minutes=3.0)
        sent[message.headers["request-id"]] = time.time()
        return message.reply(offer, type="Quote", source=name)

    source = await channels.enter(position.zone, name)
    consumer = Consumer(source, quote, replies=channels.return_addresses, concurrency=2000, grace=0.0, name=name)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(consumer.run())
        await consumer.started.wait()
        here = Presence(unicorn=name, zone=position.zone, position=position)
        while True:
            await channels.presence.send(Message(here, type="Presence", source=name))
            await asyncio.sleep(10)


async def serve(transport: str, state: str, endpoint: str | None, state_endpoint: str | None) -> None:
    """Serve until SIGTERM; prints the URL, then what it took and when each RFQ was answered and complete."""
    sent: dict[str, float] = {}
    async with AsyncExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        if state == "memory":
            states = States(MemoryStore(), MemoryStore(), MemoryStore())
        else:
            states = await stack.enter_async_context(stored(state, state_endpoint))
        channels = await stack.enter_async_context(connected(transport, endpoint, unicorns=UNICORNS))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        booking = RideBooking(channels, states)
        stack.enter_context(GARBAGE.applied((booking,)))
        running = [tasks.create_task(steady_unicorn(channels, number, sent)) for number in range(UNICORNS)]
        tasks.create_task(booking.run())
        while len(await booking.unicorns()) < UNICORNS:
            await asyncio.sleep(0.1)
        idle = resource.getrusage(resource.RUSAGE_SELF)
        print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
        server = uvicorn.Server(uvicorn.Config(app(booking), log_level="warning", access_log=False))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.handle_exit, signal.SIGTERM, None)
        await server._serve(sockets=[listening])  # serve() would end the process at once by the signal that it took
        used = resource.getrusage(resource.RUSAGE_SELF)
        completed = {each: rfq.completed_at for each in list(sent) if (rfq := await booking.get(each))}
        for task in running:
            task.cancel()
        await booking.stop()
    took = used.ru_utime + used.ru_stime - idle.ru_utime - idle.ru_stime
    usage = {"idle_kib": idle.ru_maxrss, "peak_kib": used.ru_maxrss, "cpu_seconds": took}
    print(json.dumps({**usage, "sent": sent, "completed": completed}), flush=True)


def profiled(profile: str, *arguments: Any) -> None:
    """`serve` under cProfile: which functions take the time; it takes longer meanwhile."""
    profiler = cProfile.Profile(time.process_time)  # what others do on the machine does not count
    try:
        profiler.runcall(asyncio.run, serve(*arguments))
    finally:
        profiler.dump_stats(profile)


# The customers.


@dataclass
class Seen:
    """What the customers saw."""

    begun: float = 0.0
    accepted: float = 0.0
    """When the last RFQ was accepted."""
    links: list[str] = field(default_factory=list)
    posts: list[float] = field(default_factory=list)
    statuses: list[float] = field(default_factory=list)
    told: dict[str, float] = field(default_factory=dict)
    """By RFQ, when its customer had the completion, in seconds since the epoch."""


class Customers:
    """Ask for quotes and follow what becomes of them."""

    def __init__(self, client: aiohttp.ClientSession, watching: aiohttp.ClientSession) -> None:
        self._client, self._watching = client, watching
        self._open: set[str] = set()
        self._watches: list[asyncio.Task[None]] = []
        self.seen = Seen()

    async def ask(self, *, watch: bool) -> None:
        """One RFQ."""
        begun = time.perf_counter()
        async with self._client.post("/rfqs", json=RIDE) as answer:
            assert answer.status == 202, await answer.text()
            link = str((await answer.json())["links"]["self"])
        self.seen.posts.append(time.perf_counter() - begun)
        self.seen.links.append(link)
        self._open.add(link)
        if watch:
            self._watches.append(asyncio.create_task(self._watch(link)))

    async def _watch(self, link: str) -> None:
        async with self._watching.get(f"{link}/events") as answer:
            async for line in answer.content:
                if line.startswith(b"event: complete"):
                    self.seen.told[link.rpartition("/")[2]] = time.time()
                    return

    async def poll(self) -> None:
        """Ask for the status of one of those that are open, at a steady rate, until none is."""
        while True:
            if self._open:
                await self._poll_one(random.choice(tuple(self._open)))
            await asyncio.sleep(POLLERS / POLLS_PER_S)

    async def _poll_one(self, link: str) -> None:
        begun = time.perf_counter()
        async with self._client.get(link, allow_redirects=False) as answer:
            await answer.read()
        self.seen.statuses.append(time.perf_counter() - begun)
        if answer.status == 303:
            self._open.discard(link)
        else:
            assert answer.status == 200

    async def finished(self) -> None:
        """Return once every RFQ is complete, and has all quotes."""
        await asyncio.gather(*self._watches)
        await asyncio.gather(*(self._check(link) for link in self.seen.links))

    async def _check(self, link: str) -> None:
        while True:
            async with self._client.get(f"{link}/result") as answer:
                if answer.status == 200:
                    quotes = (await answer.json())["quotes"]
                    break
            await asyncio.sleep(1.0)
        assert len({quote["unicorn"] for quote in quotes}) == len(quotes) == UNICORNS


async def load(url: str, count: int, rate: float | None) -> Seen:
    """Ask for so many quotes, all at once or at that rate, watch, and check the results."""
    # Shorter than the server's five seconds, so that no call goes out on a connection that is just being closed.
    calling = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=2.0)
    watching = aiohttp.TCPConnector(limit=0)
    patient = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(url, connector=calling, timeout=patient) as client,
        aiohttp.ClientSession(url, connector=watching, timeout=patient) as streams,
    ):
        customers = Customers(client, streams)
        pollers = [asyncio.create_task(customers.poll()) for _ in range(POLLERS)]
        customers.seen.begun = time.time()
        if rate is None:
            apart = WATCHED if count > 20 * WATCHED else 1
            await asyncio.gather(*(customers.ask(watch=number % apart == 0) for number in range(count)))
        else:
            await _steadily(customers, count, rate)
        customers.seen.accepted = time.time()
        await asyncio.sleep(SLOWEST)
        await customers.finished()
        for each in pollers:
            each.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*pollers)
        return customers.seen


async def _steadily(customers: Customers, count: int, rate: float) -> None:
    """Ask at that rate, whether earlier calls were answered or not."""
    begun = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            await asyncio.sleep(max(0.0, begun + number / rate - time.perf_counter()))
            tasks.create_task(customers.ask(watch=True))


# The figures.


@contextmanager
def servers(transport: str, store: str, folder: Path) -> Iterator[tuple[str, str, str]]:
    """What the service needs: the state's URL, the transport's endpoint, the state's endpoint; empty: none."""
    started: list[Service] = []

    def start(server: Service) -> str:
        started.append(server)
        server.start()
        return str(getattr(server, "url", ""))

    try:
        endpoint = {"aws": lambda: start(MotoServer(folder)), "activemq": lambda: start(ActiveMQBroker(folder))}.get(
            transport, str
        )()
        match store:
            case "memory":
                yield "memory", endpoint, ""
            case "dynamodb":
                yield "dynamodb:rfq", endpoint, endpoint or start(MotoServer(folder))
            case "postgresql":
                found = binaries()
                assert found is not None, "no PostgreSQL is installed"
                server = PostgresServer(folder, found)
                server.initialise()
                yield start(server), endpoint, ""
            case _:
                yield str(folder / "rfq.sqlite"), endpoint, ""
    finally:
        for each in started:
            each.stop(timeout=3)


def measure(transport: str, store: str, count: int, rate: float | None, profile: str | None) -> dict[str, Any]:
    """The figures of one load."""
    kind = "at once" if rate is None else f"{rate:g}/s"
    progress(f"{transport}, {store}: {count:,} RFQs {kind} x {UNICORNS} unicorns")
    with tempfile.TemporaryDirectory() as folder, servers(transport, store, Path(folder)) as needs:
        Path(folder).chmod(0o755)  # the database is another user's
        line = [sys.executable, "-m", "benchmarks.rfq_load", "--serve", transport, *needs]
        options = ["--profile", profile] if profile else []
        process = subprocess.Popen(
            [*line, *options], stdout=subprocess.PIPE, text=True, env={**os.environ, **ENVIRONMENT}
        )
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            seen = asyncio.run(load(url, count, rate))
            process.terminate()
            usage = json.loads(process.stdout.read().splitlines()[-1])
        finally:
            process.kill()
            process.wait()
    return {"transport": transport, "store": store, "load": kind, "RFQs": count, **figures(seen, usage, count, rate)}


def figures(seen: Seen, usage: dict[str, Any], count: int, rate: float | None) -> dict[str, Any]:
    """What a run came to."""
    sent, completed = usage["sent"], usage["completed"]
    completing = [completed[each] - sent[each] for each in completed]
    telling = [at - sent[each] for each, at in seen.told.items()]
    return {
        "accepted/s": count / (seen.accepted - seen.begun),
        "last quote s": max(completed.values()) - seen.begun if rate is None else float("nan"),
        **percentiles("POST", seen.posts),
        **percentiles("status", seen.statuses),
        **percentiles("completed", completing),
        **percentiles("told", telling),
        "cpu ms/RFQ": 1000 * usage["cpu_seconds"] / count,
        "peak MiB": usage["peak_kib"] / 1024,
        "KiB/RFQ": (usage["peak_kib"] - usage["idle_kib"]) / count,
    }


def percentiles(name: str, seconds: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile in milliseconds."""
    return {
        f"{name} p50 ms": statistics.median(seconds) * 1000,
        f"{name} p99 ms": statistics.quantiles(seconds, n=100)[98] * 1000,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the RFQs, of the store SQLite only")
    parser.add_argument("--store", action="append", choices=AT_ONCE, help="default: all, on the embedded transport")
    parser.add_argument(
        "--transport", action="append", choices=STORE_OF, help="another transport, with its usual store"
    )
    parser.add_argument("--load", choices=("at-once", "steady"), help="default: both")
    parser.add_argument("--rfqs", type=int, help="at once; default: by the store")
    parser.add_argument("--profile", metavar="FILE", help="write a profile of the service's process (for pstats)")
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        _serve(options)
        return
    stores = options.store or ([] if options.transport else ["sqlite"] if options.quick else list(AT_ONCE))
    runs = [("memory", store) for store in stores] + [(each, STORE_OF[each]) for each in options.transport or ()]
    results = []
    for transport, store in runs:
        share = 0.1 if options.quick else 1.0
        if options.load != "steady":
            count = options.rfqs or max(1, int(AT_ONCE["dynamodb" if transport == "aws" else store] * share))
            results.append(measure(transport, store, count, None, options.profile))
        if options.load != "at-once":
            rate, seconds = STEADY["dynamodb" if transport == "aws" else store]
            results.append(measure(transport, store, int(rate * seconds * share), rate, options.profile))
    print(table("Each RFQ answered by 12 unicorns", tuple(results[0]), [tuple(each.values()) for each in results]))
    print(f"\nwritten to {save('rfq_load', results, 'uvicorn', 'starlette', 'aioboto3')}")


def _serve(options: argparse.Namespace) -> None:
    transport, state, endpoint, state_endpoint = options.serve
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger("warning"),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    arguments = (transport, state, endpoint or None, state_endpoint or None)
    if options.profile:
        profiled(options.profile, *arguments)
    else:
        asyncio.run(serve(*arguments))


if __name__ == "__main__":
    main()
