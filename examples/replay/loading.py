"""A new feature is put under load from history: how much of it is enough to keep up, before a customer sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eip import Consumer, Message, Transport, clock, running
from eip.channels import Queue
from eip.matching import EventPattern
from eip.patterns.replay import start_replay
from eip.topology import RuleSpec
from eip.topology.names import rule_queue
from examples.replay.bookshop import ARCHIVE, BUS, REPLAY_RULE, TEST_BUS, Shop, topology

__all__ = ["Load", "load"]

_PLACED = EventPattern({"detail-type": ["OrderPlaced"]})
_LOOKUP_S = 0.005
"""What the feature waits for another service, each time."""
_MARGIN_S = 2.0
"""Seconds before and after the history: the service's windows are whole seconds."""
_SAMPLE_S = 0.02
"""Seconds between looks at the queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Of one replay."""

    concurrency: int
    orders: int
    seconds: float
    """From the start of the replay until the last order was scored."""
    backlog: int
    """Orders that waited, at most."""
    seen_by_production: int

    @property
    def rate(self) -> float:
        """Orders a second."""
        return self.orders / self.seconds


class Scoring:
    """The new feature: scores a customer by what was ordered, after asking another service."""

    def __init__(self) -> None:
        self.scores: dict[str, int] = {}
        self._scored: set[str] = set()
        self.done = asyncio.Event()
        self.expected = 0

    async def score(self, message: Message[Any]) -> None:
        """Score an order; one that comes twice counts once."""
        await asyncio.sleep(_LOOKUP_S)
        if message.id not in self._scored:
            customer = message.body["customer"]
            self.scores[customer] = self.scores.get(customer, 0) + message.body["total"]
            self._scored.add(message.id)
        if len(self._scored) >= self.expected:
            self.done.set()


async def load(transport: Transport, orders: int, concurrencies: Sequence[int] = (1, 4, 16)) -> list[Load]:
    """Replay the same history once for each concurrency of the feature.

    Args:
        transport: open.
        orders: of the past.
        concurrencies: orders that the feature scores at once.
    """
    await topology().apply(transport, delete=True)
    shop = Shop(transport)
    async with running(*shop.services):
        await shop.sell(orders)
        sold = clock.now() + _MARGIN_S
        return [await _one(transport, shop, orders, each, sold) for each in concurrencies]


async def _one(transport: Transport, shop: Shop, orders: int, concurrency: int, end: float) -> Load:
    """Score the history behind a rule of its own, so that nothing of another replay waits there."""
    rule, feature = f"scoring-{concurrency}", Scoring()
    await topology(RuleSpec(TEST_BUS, rule, _PLACED)).apply(transport, delete=True)
    consumer = Consumer(transport.bus(TEST_BUS).subscription(rule), feature.score, concurrency=concurrency)
    feature.expected, seen = orders, shop.book.replayed
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with running(consumer), asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(_deepest(transport.queue(rule_queue(TEST_BUS, rule)), feature.done))
        await start_replay(
            transport.bus(BUS),
            ARCHIVE,
            start=shop.opened_at - _MARGIN_S,
            end=end,
            rules=[REPLAY_RULE],
            description=f"Load for the scoring, {concurrency} at once",
        )
        await feature.done.wait()
        seconds = loop.time() - began
    return Load(
        concurrency=concurrency,
        orders=orders,
        seconds=seconds,
        backlog=looking.result(),
        seen_by_production=shop.book.replayed - seen,
    )


async def _deepest(queue: Queue, done: asyncio.Event) -> int:
    """The most messages that were seen waiting, until it is done."""
    most = 0
    while not done.is_set():
        depth = await queue.depth() or {}
        most = max(most, depth.get("ready", 0))
        await asyncio.sleep(_SAMPLE_S)
    return most
