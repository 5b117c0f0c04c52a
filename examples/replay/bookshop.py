"""The bookshop in production: its events, who listens, what its archive keeps, and the rule for replays alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from eip import Consumer, Message, Transport, clock
from eip.matching import EventPattern
from eip.topology import ArchiveSpec, BusSpec, RuleSpec, TargetSpec, Topology

__all__ = ["ARCHIVE", "BUS", "REPLAY_RULE", "TEST_BUS", "OrderBook", "Shop", "topology"]

BUS: Final = "bookshop"
TEST_BUS: Final = "bookshop-test"
ARCHIVE: Final = "bookshop-orders"
REPLAY_RULE: Final = "to-test"

_REPLAYED: Final = EventPattern({"replay-name": [{"exists": True}]})
_STATES: Final = ("OrderPlaced", "OrderPaid", "OrderShipped")
"""In their order: a replay keeps none within a minute, so that an order is in the last state that was heard of."""


def topology(*test_rules: RuleSpec) -> Topology:
    """Production, and a test environment behind the rule that lets replayed events through and nothing else.

    Args:
        test_rules: rules of the test environment's bus.
    """
    return Topology(
        BusSpec(BUS),
        BusSpec(TEST_BUS),
        RuleSpec(BUS, "orders"),
        RuleSpec(BUS, "billing", EventPattern({"detail-type": ["OrderPlaced"]})),
        RuleSpec(BUS, REPLAY_RULE, _REPLAYED, (TargetSpec(bus=TEST_BUS),)),
        ArchiveSpec(ARCHIVE, BUS, retention=timedelta(days=30), description="All events of the bookshop"),
        *test_rules,
    )


class OrderBook:
    """The orders as the events tell of them; a duplicate or another order of events leaves the same."""

    def __init__(self) -> None:
        self.orders: dict[int, dict[str, Any]] = {}
        self.replayed = 0
        """Replayed events among those that came."""
        self._seen: set[str] = set()
        self._changed = asyncio.Condition()

    async def take(self, message: Message[Any]) -> None:
        """Note what an event tells of its order."""
        order = self.orders.setdefault(message.body["order"], {"state": _STATES[0]})
        order |= {name: value for name, value in message.body.items() if name in {"customer", "total"}}
        order["state"] = max(order["state"], message.type or "", key=_STATES.index)
        self.replayed += message.replay_name is not None
        self._seen.add(message.id)
        async with self._changed:
            self._changed.notify_all()

    async def until(self, events: int) -> None:
        """Return when so many different events have come."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._seen) >= events)


class Shop:
    """Production: an order book, and a billing department that nobody wants to write an invoice twice.

    Args:
        transport: open; `topology` is applied to it.
    """

    def __init__(self, transport: Transport) -> None:
        self._bus = transport.bus(BUS)
        self.book = OrderBook()
        self.invoices: list[str] = []
        """Ids of the events that an invoice was written for."""
        self.opened_at = clock.now()
        self.services = (
            Consumer(self._bus.subscription("orders"), self.book.take),
            Consumer(self._bus.subscription("billing"), self._bill),
        )

    async def sell(self, orders: int) -> int:
        """Let the events of so many orders happen; returns how many events that are."""
        events = list(_history(orders))
        await self._bus.send(*events)
        await self.book.until(len(events))
        return len(events)

    async def _bill(self, message: Message[Any]) -> None:
        self.invoices.append(message.id)


def _history(orders: int) -> Iterator[Message[Any]]:
    """Events of orders; each third is paid only, each fifth is placed only."""
    for number in range(orders):
        states = _STATES[: 1 if number % 5 == 4 else 2 if number % 3 == 2 else 3]
        for state in states:
            body = {"order": number, "customer": f"c{number % 97}", "total": 10 + number * 7 % 490}
            yield Message(body, type=state, source="com.example.bookshop")
