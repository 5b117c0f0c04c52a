"""The intake: every event of the partner's bus, resolved, translated, filtered, enriched, and handed on to our bus."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import Any, Final

from eip import Backoff, Consumer, Message, Transport
from eip.errors import Reject, Retry
from eip.matching import EventPattern
from eip.patterns.claim_check import ClaimCheckSender, claim_checked
from eip.patterns.content_enricher import content_enricher
from eip.patterns.message_filter import message_filter
from eip.patterns.normalizer import Normalizer
from eip.patterns.pipeline import around, pipeline
from eip.runtime.handlers import Result
from eip.runtime.service import Runnable
from eip.stores.base import ABSENT
from eip.stores.objects import ObjectStore
from eip.topology import BusSpec, QueueSpec, RuleSpec, Topology
from examples.partner_events.journal import Journal
from examples.partner_events.model import MAX_EVENT_BYTES, MAX_INLINE_BYTES, Contract, Customer, Order
from examples.partner_events.orders import ORDERS_PREFIX, RULE, SALES, Tables
from examples.partner_events.salesforce import CONTRACT_EVENT, ORDER_EVENT, contract_of, order_of, unknown

__all__ = ["PARTNER_EVENTS", "PAYLOAD_URL", "Intake", "partner_topology"]

PARTNER_EVENTS: Final = "partner-events"
"""The queue of the rule that takes every event; what cannot be taken is in ``partner-events-dead``."""
PAYLOAD_URL: Final = "payload_url"
"""The member that has the object's URL where the payload is too large for an event."""
_MAX_RECEIVE_COUNT: Final = 20
_RETRY: Final = Backoff(base=0.5, cap=30.0)
"""With the receives above, some three minutes: for a contract that comes after its order, a store that is away."""


def partner_topology(event_source: str) -> Topology:
    """The partner's bus with the rule that takes every event, and our own bus with the order system's rule."""
    placed = EventPattern({"detail-type": ["OrderPlaced"]})
    return Topology(
        BusSpec(event_source=event_source),
        RuleSpec(event_source, "everything", queue=QueueSpec(PARTNER_EVENTS, max_receive_count=_MAX_RECEIVE_COUNT)),
        BusSpec(SALES),
        RuleSpec(SALES, RULE, placed),
    )


class Intake:
    """The services of the intake; run `services`.

    Args:
        transport: with the channels of `partner_topology`.
        partner_objects: where the partner's large payloads wait.
        objects: where our own large orders wait.
        tables: of customers and contracts.
        journal: notes what becomes of events.
        hosts: of the partner's object URLs, beside Amazon S3's own.
    """

    def __init__(
        self,
        transport: Transport,
        partner_objects: ObjectStore,
        objects: ObjectStore,
        tables: Tables,
        journal: Journal,
        *,
        hosts: Collection[str] = (),
    ) -> None:
        self._tables, self._journal = tables, journal
        sales = ClaimCheckSender(transport.bus(SALES), objects, threshold=MAX_INLINE_BYTES, prefix=ORDERS_PREFIX)
        resolve = claim_checked(partner_objects, url_key=PAYLOAD_URL, hosts=hosts, max_bytes=MAX_EVENT_BYTES)
        forms = (
            Normalizer(otherwise=unknown)
            .when(EventPattern({"detail-type": [CONTRACT_EVENT]}), contract_of)
            .when(EventPattern({"detail-type": [ORDER_EVENT]}), order_of)
        )
        self._orders = pipeline(
            around(message_filter(self._is_real)),
            content_enricher(self._customer, merge=_with_customer),
            content_enricher(self._discount, merge=_with_discount),
            self._sent_on,
        )
        handler = pipeline(around(resolve), forms, self._by_kind)
        self.services: list[Runnable] = [Consumer(transport.queue(PARTNER_EVENTS), handler, output=sales, retry=_RETRY)]

    async def _by_kind(self, message: Message[Any]) -> Result:
        if isinstance(message.body, Contract):
            return await self._keep(message)
        return await self._orders(message)

    async def _keep(self, message: Message[Contract]) -> Result:
        """Keep the contract, unless a later event on it was first: a bus keeps no order."""
        contract = message.body
        if not contract.activated:
            self._journal.note(message.id, "filtered", f"contract {contract.number} is not activated")
            return None
        while True:
            found = await self._tables.contracts.get(contract.number)
            if found is not None and Contract.model_validate_json(found.value).revision >= contract.revision:
                break
            version = ABSENT if found is None else found.version
            value = contract.model_dump_json().encode()
            if await self._tables.contracts.put(contract.number, value, version=version) is not None:
                break
        self._journal.note(message.id, "contract kept", f"contract {contract.number}")
        return message

    def _is_real(self, message: Message[Order]) -> bool:
        if message.body.test:
            self._journal.note(message.id, "filtered", f"order {message.body.number} is a test")
        return not message.body.test

    async def _customer(self, message: Message[Order]) -> Customer:
        found = await self._tables.customers.get(message.body.account)
        if found is None:
            raise Reject(f"no customer has the account {message.body.account!r}")
        return Customer.model_validate_json(found.value)

    async def _discount(self, message: Message[Order]) -> Decimal:
        """Of the order's contract, if it has one; raises `Retry` until that has come, as a bus keeps no order."""
        number = message.body.contract_number
        if number is None:
            return Decimal(0)
        found = await self._tables.contracts.get(number)
        if found is None:
            self._journal.note(message.id, "waiting", f"order {message.body.number} for its contract {number}")
            raise Retry(f"the contract {number!r} has not come")
        return Contract.model_validate_json(found.value).discount

    async def _sent_on(self, message: Message[Order]) -> Message[Order]:
        self._journal.note(message.id, "sent on", f"order {message.body.number}")
        return message


def _with_customer(order: Order, customer: Customer) -> Order:
    return order.model_copy(update={"customer": customer})


def _with_discount(order: Order, discount: Decimal) -> Order:
    return order.model_copy(update={"discount": discount})
