"""The order system: takes orders from our bus, and keeps each once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from eip import Consumer, Message, Transport
from eip.codec import dump_json
from eip.errors import Reject
from eip.patterns.claim_check import claim_checked
from eip.runtime.service import Runnable
from eip.stores.base import ABSENT, Store
from eip.stores.objects import ObjectStore
from examples.partner_events.journal import Journal
from examples.partner_events.model import Order

__all__ = ["ORDERS_PREFIX", "RULE", "SALES", "OrderSystem", "Tables"]

SALES: Final = "sales"
"""Our own bus."""
RULE: Final = "order-system"
ORDERS_PREFIX: Final = "orders/"
"""Of the objects in which large orders wait."""


@dataclass(frozen=True, slots=True)
class Tables:
    """What is kept."""

    customers: Store
    contracts: Store
    orders: Store
    sent: Store
    """The simulated partner's own: what it sent."""


class OrderSystem:
    """The services of the order system; run `services`.

    Args:
        transport: with our bus.
        objects: where large orders wait.
        tables: of orders.
        journal: notes what becomes of events.
    """

    def __init__(self, transport: Transport, objects: ObjectStore, tables: Tables, journal: Journal) -> None:
        self._orders, self._journal = tables.orders, journal
        # An order may come twice, so its object stays, until the storage lets it expire.
        resolve = claim_checked(objects, prefix=ORDERS_PREFIX)
        self.services: list[Runnable] = [Consumer(transport.bus(SALES).subscription(RULE), resolve(self._place))]

    async def _place(self, message: Message[Any]) -> None:
        """Keep the order under its number; the first counts, and one that comes again changes nothing."""
        try:
            order = Order.model_validate(message.body)
        except ValidationError:
            raise Reject("not an order") from None
        lines = f"{len(order.lines):,} lines, {order.total}"
        item = {
            "number": order.number,
            "customer": order.customer.name if order.customer else order.account,
            "lines": len(order.lines),
            "discount": str(order.discount),
            "total": str(order.total),
        }
        await self._orders.put(order.number, dump_json(item), version=ABSENT)
        self._journal.note(message.id, "placed", f"order {order.number}: {lines}")
