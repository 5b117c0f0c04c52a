"""How fast is the ActiveMQ driver? Messages per second, and client CPU per message, on one broker in one run.

    python -m benchmarks.activemq [--quick]

A broker of Debian's package is started, persistent, with a journal that is synced to disk. Compared are what a user
would pick instead: stomp.py, stompman (as it is, and with our framing), and a bare socket as the floor. Last comes a
queue of 100,000 messages, drained in batches of 100, with the memory that takes.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import structlog

from benchmarks import _stomp_peers as peers
from benchmarks._counting import counting
from benchmarks._report import bars, plot, progress, save, spread, table, watch
from eip import Consumer, Message
from eip.transports.activemq import ActiveMQTransport
from tests.support.activemq import HOME, ActiveMQBroker

Case = Callable[[int], Awaitable[None]]


class Bench:
    """Cases on one broker, for messages of one size."""

    def __init__(self, broker: ActiveMQBroker, size: int) -> None:
        self.broker, self.port, self.size = broker, broker.port, size
        self.body = {"number": 7, "text": "x" * (size - 24)}
        self.raw = Message(self.body).encode()

    async def fill(self, queue: str, count: int) -> None:
        async with ActiveMQTransport(self.broker.url) as transport:
            channel = transport.queue(queue)
            watch.start()
            for start in range(0, count, 100):
                await channel.send(*(Message(self.body) for _ in range(min(100, count - start))))
            watch.stop()

    async def receive(self, queue: str, count: int) -> None:
        async with (
            ActiveMQTransport(self.broker.url) as transport,
            transport.queue(queue).receiver(capacity=peers.WINDOW) as receiver,
        ):
            received = 0
            watch.start()
            while received < count:
                taken = await receiver.receive(peers.WINDOW)
                await receiver.ack(taken)
                received += len(taken)
            watch.stop()

    async def consume(self, queue: str, count: int) -> None:
        handle, done = counting(count)
        watch.start()  # it subscribes as it starts, and messages come at once
        async with (
            ActiveMQTransport(self.broker.url) as transport,
            Consumer(transport.queue(queue), handle, concurrency=peers.WINDOW),
        ):
            await done.wait()
            watch.stop()

    def receivers(self) -> dict[str, Callable[[str, int], Awaitable[None]]]:
        port = self.port
        return {
            "raw socket": lambda queue, count: asyncio.to_thread(peers.raw_receive, port, queue, count),
            "eip, receiver": self.receive,
            "eip, consumer": self.consume,
            "stomp.py": lambda queue, count: asyncio.to_thread(peers.stomp_py_receive, port, queue, count),
            "stompman, our framing": lambda queue, count: peers.stompman_receive(port, queue, count, peers.OurFraming),
            "stompman": lambda queue, count: peers.stompman_receive(port, queue, count),
        }

    async def send_batches(self, queue: str, count: int) -> None:
        await self.fill(queue, count)

    async def send_singly(self, queue: str, count: int) -> None:
        """Fifty tasks, each sending one message after the other."""
        async with ActiveMQTransport(self.broker.url) as transport:
            channel, numbers = transport.queue(queue), iter(range(count))
            watch.start()

            async def send() -> None:
                for _ in numbers:
                    await channel.send(Message(self.body))

            async with asyncio.TaskGroup() as tasks:
                for _ in range(50):
                    tasks.create_task(send())
            watch.stop()

    def senders(self) -> dict[str, Callable[[str, int], Awaitable[None]]]:
        port, raw, body = self.port, self.raw, self.body

        def encode() -> bytes:
            return orjson.dumps(body)

        return {
            "raw socket, transactions": lambda queue, count: asyncio.to_thread(peers.raw_send, port, queue, count, raw),
            "eip, batches of 100": self.send_batches,
            "eip, one by one, 50 tasks": self.send_singly,
            "stomp.py, transactions": lambda queue, count: asyncio.to_thread(
                peers.stomp_py_send, port, queue, count, encode
            ),
            "stompman, receipts, 50 tasks": lambda queue, count: peers.stompman_send(port, queue, count, encode),
        }


async def measure(run: Awaitable[None], count: int) -> tuple[float, float]:
    """Messages per second, and microseconds of this process's CPU for each."""
    await run
    return count / watch.seconds, watch.cpu / count * 1e6


Figures = tuple[float, float, float, float]
"""Messages per second, CPU microseconds for each; and of those the least and the most."""


async def warm_up(cases: dict[str, Callable[[str, int], Awaitable[None]]], bench: Bench, *, sending: bool) -> None:
    """Each case once with a few messages: imports, caches, the broker's pages."""
    for number, run in enumerate(cases.values()):
        queue = f"warm-{'s' if sending else 'r'}-{bench.size}-{number}"
        if not sending:
            await bench.fill(queue, 100)
        await run(queue, 100)
        if sending:
            await bench.receive(queue, 100)


async def compare(bench: Bench, count: int, times: int, *, sending: bool) -> dict[str, Figures]:
    """Each case in turn, several times over, so that a busy minute of the machine meets all of them."""
    cases = bench.senders() if sending else bench.receivers()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    await warm_up(cases, bench, sending=sending)
    for attempt in range(times):
        for number, (name, run) in enumerate(cases.items()):
            progress(f"{bench.size:,} bytes, {'send' if sending else 'receive'}: {name}")
            queue = f"bench-{'s' if sending else 'r'}-{bench.size}-{attempt}-{number}"
            if not sending:
                await bench.fill(queue, count)
            found[name].append(await measure(run(queue, count), count))
            if sending:
                await bench.receive(queue, count)  # every message arrived, and the store stays small
    return {name: figures(each) for name, each in found.items()}


def figures(runs: list[tuple[float, float]]) -> Figures:
    rates, cpu = [rate for rate, _ in runs], [each for _, each in runs]
    return statistics.median(rates), statistics.median(cpu), min(cpu), max(cpu)


def show(title: str, found: dict[str, Figures]) -> str:
    floor_rate, floor_cpu, *_ = next(iter(found.values()))
    rows = [
        (name, rate, rate / floor_rate, cpu, spread((least, most)), cpu / floor_cpu)
        for name, (rate, cpu, least, most) in found.items()
    ]
    return table(title, ("client", "messages/s", "of raw", "µs CPU each", "spread", "times raw"), rows)


def resident() -> float:
    """MiB of this process in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096 / 1024 / 1024


async def drain(bench: Bench, count: int, batch: int = 100) -> dict[str, float]:
    """A long queue drained in batches (scenario S5): rate, and how much memory grows while that lasts."""
    await bench.fill("backlog", count)
    drained, most = 0, 0.0
    async with (
        ActiveMQTransport(bench.broker.url) as transport,
        transport.queue("backlog").receiver(capacity=batch) as receiver,
    ):
        start, before = time.perf_counter(), 0.0
        while drained < count:
            taken = await receiver.receive(batch)
            await receiver.ack(taken)
            drained += len(taken)
            if drained <= count // 20:
                before = resident()
            else:
                most = max(most, resident())
        seconds = time.perf_counter() - start
        assert not await receiver.receive(1, wait=0.5)
    return {"messages": count, "seconds": seconds, "messages_per_second": count / seconds, "grown_mib": most - before}


async def run(options: argparse.Namespace, broker: ActiveMQBroker) -> dict[str, Any]:
    counts = {1024: 2_000, 65_536: 200} if options.quick else {1024: 10_000, 65_536: 1_000}
    times = 3
    results: dict[str, Any] = {}
    for size, count in counts.items():
        bench = Bench(broker, size)
        await bench.fill("warm-up", 500)
        await bench.consume("warm-up", 500)
        for sending in (False, True):
            what = "sent, confirmed" if sending else "received and acknowledged"
            found = await compare(bench, count, times, sending=sending)
            print(show(f"{count:,} messages of {size:,} bytes {what}", found))
            results[f"{'send' if sending else 'receive'} {size}"] = found
    progress("a backlog")
    results["drain"] = drained = await drain(Bench(broker, 1024), 10_000 if options.quick else 100_000)
    print(
        f"\n{drained['messages']:,} queued messages of 1 KB drained in batches of 100: "
        f"{drained['messages_per_second']:,.0f} messages/s, memory grew by {drained['grown_mib']:.1f} MiB"
    )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a fifth of the messages")
    options = parser.parse_args()
    if not (HOME / "bin" / "activemq.jar").exists():
        print("ActiveMQ is not installed here; `make services` installs it where it may")
        return
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as folder:
        broker = ActiveMQBroker(Path(folder), sync=True)
        broker.start()
        try:
            results = asyncio.run(run(options, broker))
        finally:
            broker.kill()

    def draw(figure: Any) -> None:
        for axes, kind in zip(figure.subplots(1, 2), ("receive 1024", "send 1024"), strict=True):
            bars(axes, list(results[kind]), [each[1] for each in results[kind].values()], unit="CPU µs of a message")
            axes.set_title(f"{kind} bytes", fontsize=9)

    plot("activemq", draw, size=(11, 3))
    print("saved", save("activemq", results, "stompman", "stomp.py"))


if __name__ == "__main__":
    main()
