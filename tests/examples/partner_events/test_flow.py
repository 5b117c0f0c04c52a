"""Partner events in virtual time: each ends as an order, filtered, or as a dead letter with the reason."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from eip import Message, running
from eip._ids import new_uuid
from eip.codec import load_json
from eip.errors import StoreError
from eip.stores import MemoryStore
from eip.stores.objects import MemoryObjects
from eip.testing import FaultPlan, run
from eip.transports.memory import MemoryTransport
from examples.partner_events.intake import PARTNER_EVENTS, Intake, partner_topology
from examples.partner_events.journal import Journal
from examples.partner_events.model import CUSTOMERS
from examples.partner_events.orders import SALES, OrderSystem, Tables
from examples.partner_events.partner import KINDS, Partner
from examples.partner_events.salesforce import CONTRACT_EVENT, ORDER_EVENT
from examples.partner_events.wiring import EVENT_SOURCE
from tests.examples.killing import live_and_die

LINES = '[{"sku": "a", "qty": 2, "price": "10.00"}]'


class World:
    """What outlives the services: channels, objects and tables."""

    def __init__(self, memory: MemoryTransport) -> None:
        self.memory, self.journal = memory, Journal()
        self.payloads, self.own = MemoryObjects("partner-payloads"), MemoryObjects("sales-payloads")
        self.tables = Tables(*(MemoryStore() for _ in range(4)))
        self.numbers = 0
        self.partner = Partner(self.put, self.payloads, lambda bucket, key: f"s3://{bucket}/{key}", self.tables.sent)

    async def put(self, kind: str, detail: dict[str, Any]) -> None:
        event = {"id": new_uuid(), "source": EVENT_SOURCE, "detail-type": kind, "detail": detail}
        await self.memory.bus(EVENT_SOURCE).put_event(event)

    async def send(self, kind: str, /, **fields: Any) -> str:
        """An event with these fields beside those of every event; its id."""
        self.numbers += 1
        event = {"EventUuid": f"e{self.numbers}", "ReplayId": self.numbers}
        if kind == ORDER_EVENT:
            event |= {"OrderNumber__c": f"o{self.numbers}", "AccountId__c": "001A", "Lines__c": LINES}
        if kind == CONTRACT_EVENT:
            event |= {"AccountId__c": "001A", "Status__c": "Activated", "StartDate__c": "2026-01-01"}
        await self.put(kind, event | fields)
        return f"e{self.numbers}"

    def services(self, transport: Any = None) -> list[Any]:
        transport = transport or self.memory
        intake = Intake(transport, self.payloads, self.own, self.tables, self.journal)
        return [*intake.services, *OrderSystem(transport, self.own, self.tables, self.journal).services]

    async def order(self, number: str) -> dict[str, Any]:
        async with asyncio.timeout(3600):
            while (found := await self.tables.orders.get(number)) is None:
                await asyncio.sleep(1)
        item: dict[str, Any] = load_json(found.value)
        return item

    async def dead(self) -> list[Message]:
        return list(await self.memory.queue(f"{PARTNER_EVENTS}-dead").peek(100))


async def a_world(memory: MemoryTransport) -> World:
    world = World(memory)
    await partner_topology(EVENT_SOURCE).apply(memory)
    for customer in CUSTOMERS:
        await world.tables.customers.put(customer.id, customer.model_dump_json().encode())
    return world


def within(scenario: Callable[[World], Awaitable[Any]]) -> Any:
    """Run a scenario while the services run, in virtual time."""

    async def main() -> Any:
        async with MemoryTransport() as memory:
            world = await a_world(memory)
            async with running(*world.services()):
                return await scenario(world)

    return run(main())


def reasons(dead: list[Message]) -> dict[str, str]:
    return {each.body.get("EventUuid", "?"): each.headers["dead-letter-reason"] for each in dead}


def test_an_order_gets_its_customer_and_the_discount_of_its_contract():
    async def scenario(world: World) -> None:
        await world.send(CONTRACT_EVENT, ContractNumber__c="c", DiscountPercent__c="12.5")
        await world.send(ORDER_EVENT, OrderNumber__c="with", ContractNumber__c="c")
        await world.send(ORDER_EVENT, OrderNumber__c="without")
        customer = {"customer": "Alder Coffee", "lines": 1}
        assert await world.order("with") == {**customer, "number": "with", "discount": "12.5", "total": "17.50"}
        assert await world.order("without") == {**customer, "number": "without", "discount": "0", "total": "20.00"}
        assert await world.dead() == []

    within(scenario)


def test_a_large_order_travels_by_url_on_both_buses():
    async def scenario(world: World) -> None:
        await world.partner.send("large order")
        (key,) = world.payloads.objects
        payload = load_json(world.payloads.objects[key])
        assert len(world.payloads.objects[key]) > 256 * 1024
        order = await world.order(payload["OrderNumber__c"])
        assert order["lines"] == 6000
        assert [each.startswith("orders/") for each in world.own.objects] == [True]

    within(scenario)


OUTCOMES = {
    "contract": ("contract kept", None),
    "order": ("placed", None),
    "large order": ("placed", None),
    "early order": ("placed", None),
    "draft contract": ("filtered", None),
    "test order": ("filtered", None),
    "unknown type": (None, "unknown type of event: 'Quote_Event__e'"),
    "invalid order": (None, "not valid: lines.0.sku: String should have at least 1 character; lines.0.price"),
    "unknown customer": (None, "no customer has the account '001?'"),
    "order without its contract": (None, "the contract 'C-never' has not come"),
    "foreign bucket": (None, "claim refused: 'secret.json' in 'somebody-elses' is not in the allow-list"),
    "object gone": (None, "the body it claims is gone: gone.json in partner-payloads"),
    "oversize": (None, "the body it claims has more than 4,194,304 bytes: payloads/"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_event_has_its_outcome(kind):
    async def scenario(world: World) -> None:
        await world.partner.send(kind)
        await asyncio.sleep(3000)
        status, reason = OUTCOMES[kind]
        counts, dead = world.journal.counts(), await world.dead()
        if status is not None:
            assert (counts[status], dead) == (1, [])
        else:
            (letter,) = dead
            assert reason is not None
            assert reason in letter.headers["dead-letter-reason"]
            assert counts.keys() <= {"waiting"}

    within(scenario)


def test_events_of_strangers_stop_no_others():
    async def scenario(world: World) -> None:
        odd: list[tuple[str, dict[str, Any]]] = [
            (ORDER_EVENT, {}),
            (ORDER_EVENT, {"EventUuid": 7, "payload_url": 7}),
            (ORDER_EVENT, {"EventUuid": "x" * 10**5}),
            (ORDER_EVENT, {"payload_url": "http://169.254.169.254/latest"}),
            (ORDER_EVENT, {"eip": {"id": 1, "at": "x"}}),
            ("<script>", {"EventUuid": "e", "ReplayId": 1}),
            (CONTRACT_EVENT, {"EventUuid": "e", "ReplayId": 1, "Lines__c": None}),
        ]
        for kind, detail in odd:
            await world.put(kind, detail)
        bad = (
            "[",
            "{}",
            "[]",
            "null",
            "[1]",
            '[{"sku":"a","qty":1e9,"price":"1"}]',
            '[{"sku":"a","qty":1,"price":"NaN"}]',
        )
        for lines in bad:
            await world.send(ORDER_EVENT, Lines__c=lines)
        await world.send(ORDER_EVENT, Lines__c="[" * 200_000)
        await world.payloads.put("text", b"no json")
        await world.put(ORDER_EVENT, {"payload_url": "s3://partner-payloads/text"})
        await world.send(ORDER_EVENT, OrderNumber__c="good")
        assert (await world.order("good"))["total"] == "20.00"
        await asyncio.sleep(3000)
        dead = await world.dead()
        assert len(dead) == len(odd) + len(bad) + 2, [each.headers for each in dead]

    within(scenario)


def test_an_order_that_comes_before_its_contract_waits_for_it():
    async def scenario(world: World) -> None:
        await world.send(ORDER_EVENT, OrderNumber__c="early", ContractNumber__c="late")
        await asyncio.sleep(5)
        await world.send(CONTRACT_EVENT, ContractNumber__c="late", DiscountPercent__c=50)
        assert (await world.order("early"))["total"] == "10.00"
        assert await world.dead() == []

    within(scenario)


def test_of_two_events_on_a_contract_the_later_counts_in_whatever_order_they_come():
    async def scenario(world: World) -> None:
        await world.send(CONTRACT_EVENT, ContractNumber__c="c", DiscountPercent__c=20, ReplayId=8)
        await world.send(CONTRACT_EVENT, ContractNumber__c="c", DiscountPercent__c=10, ReplayId=7)
        await asyncio.sleep(5)
        await world.send(ORDER_EVENT, OrderNumber__c="o", ContractNumber__c="c")
        assert (await world.order("o"))["discount"] == "20"

    within(scenario)


def test_an_order_that_comes_twice_is_placed_once():
    async def scenario(world: World) -> None:
        await world.send(ORDER_EVENT, OrderNumber__c="o")
        first = await world.order("o")
        await world.send(ORDER_EVENT, OrderNumber__c="o", AccountId__c="001B")
        await world.partner.replay()
        await asyncio.sleep(60)
        assert await world.order("o") == first

    within(scenario)


def test_a_store_that_is_away_for_a_while_loses_no_order():
    async def scenario(world: World) -> None:
        get, until = world.payloads.get, asyncio.get_running_loop().time() + 30

        async def failing(bucket: str, key: str, *, limit: int) -> bytes | None:
            if asyncio.get_running_loop().time() < until:
                raise StoreError("away")
            return await get(bucket, key, limit=limit)

        world.payloads.get = failing
        await world.partner.send("large order")
        await asyncio.sleep(3000)
        assert world.journal.counts() == {"placed": 1}

    within(scenario)


@pytest.mark.parametrize("seed", range(6))
def test_under_faults_and_kills_every_event_has_its_outcome(seed):
    """The services are killed three times; events and acknowledgements are lost or come twice."""
    plan = FaultPlan(seed=seed, duplicates=0.2, reordering=0.3, delays=0.2, lost_acks=0.1, send_failures=0.1)

    async def main() -> None:
        async with MemoryTransport() as memory:
            world = await a_world(memory)
            for _ in range(2):
                for kind in KINDS:
                    await world.partner.send(kind)
            await live_and_die(plan, memory, world.services, seconds=3)
            counts = world.journal.counts()
            assert {name: counts[name] for name in ("placed", "contract kept", "filtered")} == {
                "placed": 6,
                "contract kept": 4,
                "filtered": 4,
            }
            dead, wrong = await world.dead(), [reason for _, reason in OUTCOMES.values() if reason is not None]
            assert len({each.id for each in dead}) == 2 * len(wrong)
            found = [each.headers["dead-letter-reason"] for each in dead]
            assert [reason for reason in wrong if not any(reason in each for each in found)] == []
            assert await memory.queue("sales-order-system-dead").peek(10) == []

    run(main())


def test_what_is_on_our_bus_and_no_order_is_a_dead_letter():
    async def scenario(world: World) -> None:
        await world.memory.bus(SALES).send(Message({"no": "order"}, type="OrderPlaced", source="somebody"))
        await asyncio.sleep(60)
        (letter,) = await world.memory.queue("sales-order-system-dead").peek(10)
        assert letter.headers["dead-letter-reason"] == "Reject: not an order"

    within(scenario)
