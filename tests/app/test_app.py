"""The application: declared by name, open in order, closed in the opposite one; made twice in a test."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import BaseModel

from eip import App, Backoff, Handlers, Message, QueueSpec, Service, SubscriptionSpec, TopicSpec, Topology
from eip.app import ChannelInfo
from eip.errors import ConfigurationError, StateError, TransportError
from eip.matching import FilterPolicy
from eip.patterns import RequestReply
from eip.stores import MemoryStore
from eip.transports.memory import MemoryTransport


class Order(BaseModel):
    id: int


class Bill(BaseModel):
    order: int


TOPOLOGY = Topology(
    QueueSpec("orders"),
    QueueSpec("bills"),
    TopicSpec("events"),
    SubscriptionSpec("events", "german", filter=FilterPolicy({"country": ["de"]})),
    SubscriptionSpec("events", "own", filter=lambda message: message.body == 2, queue=QueueSpec("own-queue")),
)


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


def make_app(seen: list[Any]) -> App:
    app = App(MemoryTransport(), topology=TOPOLOGY, name="shop")

    @app.consumer("orders", output="bills", concurrency=2)
    async def bill(order: Order) -> Message[Bill]:
        return Message(Bill(order=order.id))

    @app.consumer("bills")
    async def print_bill(bill: Bill) -> None:
        seen.append(bill.order)

    return app


async def test_an_app_is_made_by_a_function_and_can_be_made_twice():
    first: list[int] = []
    second: list[int] = []
    one, other = make_app(first), make_app(second)
    async with one, other:
        await one.sender("orders").send(Message(Order(id=1)))
        await other.sender("orders").send(Message(Order(id=2)))
        await until(lambda: first and second)
    assert (first, second) == ([1], [2])


async def test_it_tells_what_it_is_made_of_before_it_is_open():
    app = make_app([])
    app.sender("events", Order)
    assert [(each.name.rpartition(".")[2], each.channel, each.output) for each in app.handlers] == [
        ("bill", ChannelInfo("queue", "orders"), "bills"),
        ("print_bill", ChannelInfo("queue", "bills"), None),
    ]
    assert app.handlers[0].message_types == {"Order": Order}
    assert app.handlers[0].options == {"concurrency": 2}
    assert [(str(each.channel), dict(each.message_types)) for each in app.publications] == [
        ("queue bills", {"Bill": Bill}),
        ("topic events", {"Order": Order}),
    ]
    assert [str(each) for each in app.channels] == ["queue orders", "queue bills", "topic events"]
    assert app.consumers == app.services == ()


async def test_handlers_by_message_type_are_introspectable():
    app, handlers = App(MemoryTransport()), Handlers()

    @handlers.add
    async def placed(order: Order) -> None: ...

    @handlers.on("OrderCancelled")
    async def cancelled(message: Message) -> None: ...

    app.consumer("orders")(handlers)
    (info,) = app.handlers
    assert info.message_types == {"Order": Order, "OrderCancelled": Any}


async def test_subscriptions_have_the_filters_that_the_topology_declares():
    german, own = [], []
    app = App(MemoryTransport(), topology=TOPOLOGY)

    @app.consumer("events", subscription="german")
    async def on_german(message: Message) -> None:
        german.append(message.body)

    @app.consumer("events", subscription="own")
    async def on_own(message: Message) -> None:
        own.append(message.body)

    async with app:
        events = app.sender("events")
        for number, country in enumerate(["de", "fr", "it"]):
            await events.send(Message(number, attributes={"country": country}))
        await until(lambda: german and own)
        await app.stop()
    assert (german, own) == ([0], [2])


async def test_a_second_consumer_of_a_channel_is_refused():
    app = make_app([])
    with pytest.raises(ConfigurationError, match="queue orders has a consumer already"):
        app.consumer("orders")(print)


@pytest.mark.parametrize(
    ("declare", "text"),
    [
        (lambda app: app.consumer("events")(print), "give the consumer subscription="),
        (lambda app: app.consumer("orders", subscription="x"), "subscription is for topics"),
        (lambda app: app.consumer(7), "a channel must be a name"),
        (lambda app: app.add(7), "part must be a service"),
        (lambda app: app.add(MemoryStore), "part must be a service"),
    ],
)
async def test_what_cannot_be_declared_is_refused_at_once(declare, text):
    with pytest.raises((ConfigurationError, TypeError), match=text):
        declare(App(MemoryTransport(), topology=TOPOLOGY))


class Part(Service):
    """A service that notes its life."""

    def __init__(self, name: str, life: list[str], fails: asyncio.Event | None = None) -> None:
        self.name, self._life, self._fails = name, life, fails
        self.ready, self._stopped = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        self._life.append(f"{self.name} runs")
        self.ready.set()
        try:
            if self._fails is not None:
                await self._fails.wait()
                raise ZeroDivisionError
            await self._stopped.wait()
        finally:
            self._life.append(f"{self.name} ended")
            self.ready.clear()

    async def stop(self, *, grace: Any = None) -> None:
        self._stopped.set()


async def test_it_opens_in_order_and_closes_in_the_opposite_one():
    life: list[str] = []
    app = App(MemoryTransport())
    store = app.add(MemoryStore())
    app.add(Part("first", life))

    @app.resource
    @asynccontextmanager
    async def pool():
        life.append("pool opened")
        yield "the pool"
        life.append("pool closed")

    @app.service
    def second() -> Part:
        return Part(f"second with {pool()}", life)

    with pytest.raises(StateError, match="pool"):
        pool()
    async with app as entered:
        assert entered is app
        assert store is not None
        assert pool() == "the pool"
        assert list(app.parts()) == ["event loop", "transport", "service first", "service second with the pool"]
        assert app.health().ok
    assert life == [
        "pool opened",
        "first runs",
        "second with the pool runs",
        "second with the pool ended",
        "first ended",
        "pool closed",
    ]
    with pytest.raises(StateError, match="pool"):
        pool()


async def test_a_service_that_fails_ends_the_app_with_its_error_and_consumers_drain():
    life: list[str] = []
    fails, handling, done = asyncio.Event(), asyncio.Event(), []
    app = App(MemoryTransport())
    app.add(Part("broken", life, fails))

    @app.consumer("orders")
    async def slow(message: Message) -> None:
        handling.set()
        await asyncio.sleep(5)
        done.append(message.body)

    async def use() -> None:
        async with app:
            await app.sender("orders").send(Message(1))
            await handling.wait()
            fails.set()
            await asyncio.sleep(60)

    with pytest.raises(ZeroDivisionError):
        await use()
    assert done == [1]
    assert app.health().reason == "not running"


async def test_it_runs_once():
    app = make_app([])
    async with app:
        with pytest.raises(ConfigurationError, match="before the application is open"):
            app.consumer("more")
    with pytest.raises(StateError, match="runs once"):
        await app.run()


async def test_a_declared_sender_sends_only_while_the_app_is_open():
    app = make_app([])
    orders = app.sender("orders")
    with pytest.raises(StateError, match="orders: the application is not open"):
        await orders.send(Message(1))
    async with app:
        assert orders.address == "memory:queue/orders"
        assert app.sender("orders") is orders
    with pytest.raises(StateError, match="orders: the application is not open"):
        await orders.send(Message(1))


async def test_the_topology_is_applied_checked_or_left_alone():
    async with App(MemoryTransport(), topology=TOPOLOGY) as app:
        assert (await app.topology.plan(app.transport)).in_force
    with pytest.raises(ConfigurationError, match=r"(?s)run `eip topology apply`.*create .*orders"):
        async with App(MemoryTransport(), topology=TOPOLOGY, provision="check"):
            pass
    async with App(MemoryTransport(), topology=TOPOLOGY, provision="skip") as app:
        assert not (await app.topology.plan(app.transport)).in_force


async def test_requests_are_answered_to_the_queues_that_are_allowed():
    app = App(MemoryTransport())

    @app.consumer("prices", reply_to="answers")
    async def price(message: Message) -> Message:
        return message.reply(message.body * 2)

    @app.service
    def asking() -> RequestReply:
        return RequestReply(app.transport.queue("prices"), app.transport.queue("answers"))

    async with app:
        answer = await asking().request(Message(21), timeout=5)
        assert answer.body == 42


async def test_stop_ends_an_app_that_is_still_opening():
    class Hangs(MemoryTransport):
        async def open(self) -> None:
            await asyncio.Event().wait()

    app = App(Hangs())
    running = asyncio.create_task(app.run())
    await asyncio.sleep(1)
    assert app.health().reason == "starting"
    await app.stop()
    await running


async def test_a_transport_that_does_not_open_fails_the_start_and_nothing_runs():
    class Away(MemoryTransport):
        async def open(self) -> None:
            raise TransportError("away")

    app = App(Away())
    life: list[str] = []
    app.add(Part("never", life))
    with pytest.raises(TransportError, match="away"):
        await app.run()
    assert life == []


async def test_health_names_the_part_that_is_not_well():
    app = App(MemoryTransport())
    attempts = []

    @app.consumer("orders", retry=Backoff(base=0.1))
    async def handle(message: Message) -> None:
        attempts.append(message.body)

    async with app:
        (consumer,) = app.consumers
        consumer._health.failed("the queue is gone")
        assert app.health().reason == "consumer orders: the queue is gone"
        assert app.parts()["transport"].ok
        consumer._health.polled()
        assert app.health().ok
