"""The RFQ service under load: many RFQs at once, each answered by 12 unicorns, while customers ask how far they are.

    python -m benchmarks.rfq_load [--quick] [--transport memory] [--transport aws] [--transport activemq]

The service, with its unicorns, is one process: HTTP server, booking, transport and state, as `python -m examples.rfq`
puts them together (state in SQLite; on AWS in DynamoDB). This process is its customers: it asks for all quotes at once,
polls statuses at a steady rate until the last RFQ is complete, and checks that each result holds all 12 quotes.
Unicorns take one to four seconds for an answer, so that all RFQs are under way together: what is measured is whether
that is borne, at what latency and with how much memory. On AWS the server is moto, a Python process of which the state
alone takes four calls for an answer: the figure is the emulator's as much as the service's.
"""

from __future__ import annotations

import argparse
import asyncio
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import structlog
import uvicorn

from benchmarks._report import progress, save, table
from eip import Consumer, Message
from examples.rfq.api import app
from examples.rfq.booking import RideBooking
from examples.rfq.channels import Channels
from examples.rfq.model import Presence, Quote, QuoteRequest
from examples.rfq.vicinity import located
from examples.rfq.wiring import STATES, connected, stored
from tests.support.activemq import ActiveMQBroker
from tests.support.aws import MotoServer
from tests.support.environment import ENVIRONMENT

UNICORNS = 12
FASTEST, SLOWEST = 1.0, 4.0
"""Seconds that a unicorn takes for an answer."""
PLACE = "Alexanderplatz"
RIDE = {"from": PLACE, "to": "Tempelhofer Feld", "customer": "load", "duration": 1200}
CONNECTIONS = 50
SIZES = {"memory": (100, 1000), "aws": (10, 50), "activemq": (100, 1000)}
"""RFQs at once, with --quick and without."""
POLLS = {"memory": 100.0, "aws": 10.0, "activemq": 100.0}
"""Status calls a second at most; one that must wait for an answer waits, so that calls do not pile up."""
POLLERS = 5
SERVERS = {"aws": MotoServer, "activemq": ActiveMQBroker}


# The service's process.


async def steady(channels: Channels, number: int) -> None:
    """A unicorn that stays where it is and always answers, until cancelled."""
    name, dice, position = f"steady-{number}", random.Random(number), located(PLACE)

    async def quote(message: Message[QuoteRequest]) -> Message:
        await asyncio.sleep(dice.uniform(FASTEST, SLOWEST))
        offer = Quote(unicorn=name, name=name, price=round(dice.uniform(5, 50), 2), minutes=3.0)
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


async def serve(transport: str, endpoint: str | None, state: str) -> None:
    """Serve until SIGTERM; says where at first, and what it took at the end."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with (
            stored(state, endpoint if transport == "aws" else None) as states,
            connected(transport, endpoint, unicorns=UNICORNS) as channels,
            asyncio.TaskGroup() as tasks,
        ):
            booking = RideBooking(channels, states)
            running = [tasks.create_task(steady(channels, number)) for number in range(UNICORNS)]
            tasks.create_task(booking.run())
            while len(await booking.unicorns()) < UNICORNS:
                await asyncio.sleep(0.1)
            idle = resource.getrusage(resource.RUSAGE_SELF)
            print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
            server = uvicorn.Server(uvicorn.Config(app(booking), log_level="warning", access_log=False))
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.handle_exit, signal.SIGTERM, None)
            await server._serve(sockets=[listening])  # serve() would end the process at once by the signal that it took
            used = resource.getrusage(resource.RUSAGE_SELF)
            for task in running:
                task.cancel()
            await booking.stop()
    took = used.ru_utime + used.ru_stime - idle.ru_utime - idle.ru_stime
    print(json.dumps({"idle_kib": idle.ru_maxrss, "peak_kib": used.ru_maxrss, "cpu_seconds": took}), flush=True)


# The customers.


async def load(url: str, count: int, polls: float) -> dict[str, float]:
    """Ask for so many quotes at once, watch, and check the results."""
    waits: list[float] = []
    # Shorter than the server's five seconds, so that no call goes out on a connection that is just being closed.
    connector = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=2.0)
    async with aiohttp.ClientSession(url, connector=connector) as client:
        begun = time.perf_counter()

        async def ask() -> str:
            async with client.post("/rfqs", json=RIDE) as answer:
                assert answer.status == 202, await answer.text()
                return str((await answer.json())["links"]["self"])

        links = await asyncio.gather(*(ask() for _ in range(count)))
        asked = time.perf_counter()
        left = set(links)

        async def poll(link: str) -> None:
            start = time.perf_counter()
            async with client.get(link, allow_redirects=False) as answer:
                await answer.read()
            waits.append(time.perf_counter() - start)
            if answer.status == 303:
                left.discard(link)
            else:
                assert answer.status == 200

        async def poller() -> None:
            while left:
                await asyncio.gather(poll(random.choice(tuple(left))), asyncio.sleep(POLLERS / polls))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(POLLERS):
                tasks.create_task(poller())
        ended = time.perf_counter()

        async def check(link: str) -> None:
            async with client.get(f"{link}/result") as answer:
                quotes = (await answer.json())["quotes"]
            assert len({quote["unicorn"] for quote in quotes}) == len(quotes) == UNICORNS

        await asyncio.gather(*map(check, links))
    return {
        "accepted_per_second": count / (asked - begun),
        "seconds_to_last_quote": ended - begun,
        "answers_per_second": count * UNICORNS / (ended - begun),
        "status_calls": len(waits),
        "status_p50_ms": statistics.median(waits) * 1000,
        "status_p99_ms": statistics.quantiles(waits, n=100)[98] * 1000,
    }


@contextmanager
def service(transport: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The service's process, with the server that it needs."""
    server = SERVERS[transport](folder) if transport in SERVERS else None
    if server is not None:
        server.start()
    endpoint = [] if server is None else [server.url]
    state = STATES[transport] if transport == "aws" else str(folder / "rfq.sqlite")
    line = [sys.executable, "-m", "benchmarks.rfq_load", "--serve", transport, state, *endpoint]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env={**os.environ, **ENVIRONMENT})
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if server is not None:
            server.stop(timeout=3)


def measure(transport: str, count: int) -> dict[str, Any]:
    """The figures of one transport."""
    progress(f"{transport}: {count:,} RFQs x {UNICORNS} unicorns")
    with tempfile.TemporaryDirectory() as folder, service(transport, Path(folder)) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        found = asyncio.run(load(url, count, POLLS[transport]))
        process.terminate()
        usage = json.loads(process.stdout.read().splitlines()[-1])
    per_rfq = (usage["peak_kib"] - usage["idle_kib"]) / count
    memory = {"peak_mib": usage["peak_kib"] / 1024, "kib_per_rfq": per_rfq, "cpu_seconds": usage["cpu_seconds"]}
    return {"transport": transport, "rfqs": count, "unicorns": UNICORNS, **found, **memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the RFQs")
    parser.add_argument("--transport", action="append", choices=SIZES, help="default: all")
    parser.add_argument("--rfqs", type=int, help="at once; default: by the transport")
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        transport, state, *endpoint = options.serve
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger("warning"),
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        )
        asyncio.run(serve(transport, endpoint[0] if endpoint else None, state))
        return
    chosen = options.transport or list(SIZES)
    results = [measure(each, options.rfqs or SIZES[each][0 if options.quick else 1]) for each in chosen]
    columns = tuple(results[0])
    shown = tuple(name.replace("_", " ") for name in columns)
    print(table("RFQs at once, answered by 12 unicorns each", shown, [tuple(each.values()) for each in results]))
    print(f"\nwritten to {save('rfq_load', results, 'uvicorn', 'starlette', 'aioboto3')}")


if __name__ == "__main__":
    main()
