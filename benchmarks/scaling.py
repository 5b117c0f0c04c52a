"""Does an operation cost more, the more there is? CPU per operation over depth, leases, groups, rules and so on.

    python -m benchmarks.scaling [--quick] [--docs]

Each curve measures one operation on the embedded transport or the matcher, with so much around it that it does not
concern. A flat curve is what the library promises (tests count operations to hold it); CPU time, the median of several
repetitions, in one process. ``--docs`` renews the picture of the documentation.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any, Self

from benchmarks._report import plot, progress, save, table
from eip import FilterPolicy, Message
from eip.matching import RuleSet
from eip.patterns.aggregator import Aggregator
from eip.stores import MemoryStore
from eip.transports.memory import MemoryTransport

SIZES = (100, 1_000, 10_000, 100_000)
FEWER = SIZES[:3]
"""For rules, which take some 5 KB each, and subscriptions."""
GROUPS = (100, 1_000, 9_000)
"""A group has at most 10,000 inputs."""
OPERATIONS = 200
EVENT: dict[str, Any] = {"source": "shop", "detail": {"n": 77.5, "text": "v77-x", "ip": "10.0.77.9", "end": "x-v77"}}

Curve = Callable[[int], Awaitable[float]]
"""Microseconds of CPU for one operation, with so much around it."""


class Cpu:
    """Microseconds of CPU of a block, divided by a number of operations."""

    def __init__(self, operations: int = OPERATIONS) -> None:
        self._operations = operations
        self.each = 0.0

    def __enter__(self) -> Self:
        gc.collect()
        gc.disable()  # how often it runs depends on everything else in the process
        self._began = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.each = (time.process_time() - self._began) / self._operations * 1e6
        gc.enable()


async def depth(size: int) -> float:
    """Send, receive and acknowledge one message, behind so many."""
    async with MemoryTransport(capacity=2 * size) as transport:
        queue = transport.queue("deep")
        await queue.send(*(Message(number) for number in range(size)))
        async with queue.receiver(capacity=1) as receiver:
            with Cpu() as cpu:
                for _ in range(OPERATIONS):
                    await queue.send(Message(7))
                    await receiver.ack(receiver.receive_nowait(1))
    return cpu.each


async def leases(size: int) -> float:
    """Receive a message once its delay is over, while so many are on lease."""
    async with MemoryTransport(capacity=2 * size + OPERATIONS) as transport:
        queue = transport.queue("leased")
        await queue.send(*(Message(number) for number in range(size)))
        async with queue.receiver(capacity=size) as receiver:
            receiver.receive_nowait(size)
            for number in range(OPERATIONS):
                await queue.send(Message(number), delay=0.001 + number * 0.0005)
            with Cpu() as cpu:
                for _ in range(OPERATIONS):
                    await receiver.ack(await receiver.receive(1))
    return cpu.each


async def given_back(size: int) -> float:
    """Give one of so many leased messages back, in random order, and receive it again."""
    async with MemoryTransport(capacity=2 * size) as transport:
        queue = transport.queue("back")
        await queue.send(*(Message(number) for number in range(size)))
        async with queue.receiver(capacity=size) as receiver:
            taken = list(receiver.receive_nowait(size))
            random.Random(7).shuffle(taken)
            await receiver.nack(taken[: size // 2])
            with Cpu(min(OPERATIONS, size // 4)) as cpu:
                for delivery in taken[-min(OPERATIONS, size // 4) :]:
                    await receiver.nack((delivery,))
                    receiver.receive_nowait(1)
    return cpu.each


async def groups(size: int) -> float:
    """Receive and acknowledge the next message of a FIFO queue with so many message groups."""
    async with MemoryTransport(capacity=2 * size) as transport:
        queue = transport.queue("groups.fifo")
        await queue.send(*(Message(number, group_id=str(number)) for number in range(size)))
        count = min(OPERATIONS, size // 2)
        async with queue.receiver(capacity=1) as receiver:
            with Cpu(count) as cpu:
                for _ in range(count):
                    await receiver.ack(receiver.receive_nowait(1))
    return cpu.each


def _rules(pattern: Callable[[int], dict[str, Any]]) -> Curve:
    async def match(size: int) -> float:
        rules = RuleSet()
        for number in range(size):
            rules.add(str(number), {"detail": pattern(number)})
        assert rules.match(EVENT) == {"77"}
        with Cpu() as cpu:
            for _ in range(OPERATIONS):
                rules.match(EVENT)
        return cpu.each

    return match


async def subscriptions(size: int) -> float:
    """Publish to a topic with so many subscriptions, of which one accepts the message by its filter policy."""
    async with MemoryTransport() as transport:
        topic = transport.topic("orders")
        for number in range(size):
            level = [{"numeric": [">=", number, "<", number + 1]}]
            topic.subscription(str(number), filter=FilterPolicy({"level": level}))
        message = Message({"n": 7}, attributes={"level": 77.5})
        with Cpu() as cpu:
            for _ in range(OPERATIONS):
                await topic.send(message)
        assert len(topic.subscriptions["77"]) == OPERATIONS
    return cpu.each


async def group_size(size: int) -> float:
    """Take one more input of an aggregator's group that has so many."""
    async with MemoryTransport() as transport:
        aggregator = Aggregator(MemoryStore(), output=transport.queue("totals"), key=lambda _: "all", size=10_000)
        async with aggregator:
            for number in range(size):
                await aggregator(Message(number))
            with Cpu() as cpu:
                for number in range(OPERATIONS):
                    await aggregator(Message(number))
    return cpu.each


CURVES: dict[str, tuple[Curve, tuple[int, ...]]] = {
    "queue: send, receive, ack, by depth": (depth, SIZES),
    "queue: delay over, by leases held": (leases, SIZES),
    "queue: give back at random, by leases": (given_back, SIZES),
    "FIFO queue: receive, ack, by groups": (groups, SIZES),
    "rules: exact": (_rules(lambda n: {"text": [f"v{n}-x"]}), FEWER),
    "rules: prefix": (_rules(lambda n: {"text": [{"prefix": f"v{n}-"}]}), FEWER),
    "rules: suffix": (_rules(lambda n: {"end": [{"suffix": f"-v{n}"}]}), FEWER),
    "rules: wildcard": (_rules(lambda n: {"end": [{"wildcard": f"*-v{n}"}]}), FEWER),
    "rules: numeric range": (_rules(lambda n: {"n": [{"numeric": [">=", n, "<", n + 1]}]}), FEWER),
    "rules: cidr": (_rules(lambda n: {"ip": [{"cidr": f"10.{n // 256}.{n % 256}.0/24"}]}), FEWER),
    "topic: publish, by subscriptions": (subscriptions, FEWER),
    "aggregator: one input, by group size": (group_size, GROUPS),
}


def measure(most: int, rounds: int) -> dict[str, dict[int, list[float]]]:
    """By curve and size, each repetition; repetitions are interleaved, so that noise hits all sizes alike."""
    found: dict[str, dict[int, list[float]]] = {}
    for name, (curve, sizes) in CURVES.items():
        progress(name)
        found[name] = {size: [] for size in sizes if size <= most}
        for _ in range(rounds):
            for size in found[name]:
                found[name][size].append(asyncio.run(curve(size)))  # type: ignore[arg-type]
    return found


def draw(axes: Any, medians: dict[str, dict[int, float]]) -> None:
    """All curves, log by log: what is flat does not grow."""
    for number, (name, by_size) in enumerate(medians.items()):
        style = "-" if number < 10 else "--"  # there are ten colours
        axes.plot(list(by_size), list(by_size.values()), style, marker="o", markersize=3, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(1, 1000)
    axes.set_xlabel("messages, leases, groups, rules or subscriptions around it")
    axes.set_ylabel("CPU µs for one operation")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, ncols=2, loc="upper left")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="up to 10,000, two repetitions")
    parser.add_argument("--docs", action="store_true", help="renew the picture of the documentation")
    options = parser.parse_args()
    most = 10_000 if options.quick else SIZES[-1]
    found = measure(most, 2 if options.quick else 3)
    medians = {name: {size: statistics.median(runs) for size, runs in each.items()} for name, each in found.items()}
    rows = []
    for name, each in medians.items():
        costs = list(each.values())
        rows.append((name, *costs, *[""] * (len(SIZES) - len(costs)), f"{max(each):,}", costs[-1] / costs[0]))
    columns = ("operation", "100", "1,000", "10,000 (aggregator: 9,000)", "100,000", "last", "last ÷ first")
    print(table("CPU µs of one operation, by how much there is around it", columns, rows))
    spreads = {name: {size: [min(runs), max(runs)] for size, runs in each.items()} for name, each in found.items()}
    plot("scaling", lambda figure: draw(figure.subplots(), medians), docs=options.docs)
    print("\nsaved", save("scaling", {"cpu_microseconds": medians, "spread": spreads}))


if __name__ == "__main__":
    main()
