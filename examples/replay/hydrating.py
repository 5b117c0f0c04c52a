"""A test environment gets production's past: by a replay to one rule, which sends replayed events to another bus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eip import Consumer, Transport, clock, running
from eip.patterns.replay import start_replay
from eip.topology import RuleSpec
from eip.topology.archives import ReplayStatus
from examples.replay.bookshop import ARCHIVE, BUS, REPLAY_RULE, TEST_BUS, OrderBook, Shop, topology

__all__ = ["Hydrated", "hydrate"]

_MARGIN_S = 2.0
"""The service's windows are whole seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hydrated:
    """Of one run."""

    events: int
    orders: int
    before: int
    """Orders that the test environment knew before the replay."""
    status: ReplayStatus
    same: bool
    """Whether the test environment has the orders that production has."""
    seen_by_production: int
    """Replayed events that production handled."""
    invoices: int
    """Written by production, in all."""


async def hydrate(transport: Transport, orders: int, *, rules: Sequence[str] = (REPLAY_RULE,)) -> Hydrated:
    """Let production have a past, and a test environment get it.

    Args:
        transport: open.
        orders: of the past.
        rules: those that get the replay; none: all of them, production's too.
    """
    await topology(RuleSpec(TEST_BUS, "orders")).apply(transport, delete=True)
    shop, test = Shop(transport), OrderBook()
    listening = Consumer(transport.bus(TEST_BUS).subscription("orders"), test.take)
    async with running(*shop.services, listening):
        events = await shop.sell(orders)
        before = len(test.orders)
        replay = await start_replay(
            transport.bus(BUS),
            ARCHIVE,
            start=shop.opened_at - _MARGIN_S,
            end=clock.now() + _MARGIN_S,
            rules=rules,
            description="Hydrate the test environment",
        )
        status = await replay.wait(interval=0.1)
        await test.until(events)
    return Hydrated(
        events=events,
        orders=len(shop.book.orders),
        before=before,
        status=status,
        same=test.orders == shop.book.orders,
        seen_by_production=shop.book.replayed,
        invoices=len(shop.invoices),
    )
