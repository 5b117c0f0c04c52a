"""A shop: orders are written and published together, billed once, declared at customs, priced and shipped.

    eip run examples.shop.app:make_app --health-port 8080       # consumers and relay, with probes and metrics
    uvicorn --factory examples.shop.app:make_web                # the same behind an API: POST /orders {...}

The environment configures it: EIP_TRANSPORT=memory | aws | activemq (then EIP_BROKER_URL), EIP_DATABASE. Where a tracer
provider is set (`opentelemetry-instrument eip run ...`), each order is one trace from the API to its last consumer.
"""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import asdict

from fastapi import FastAPI, Request
from pydantic import BaseModel

from eip import (
    App,
    AppSettings,
    FilterPolicy,
    Message,
    QueueSpec,
    Reject,
    ReturnAddresses,
    SubscriptionSpec,
    TopicSpec,
    Topology,
)
from eip.patterns import Inbox, OutboxRelay, RequestReply, ScatterGather, redrive
from eip.stores.inbox import SqliteInbox
from eip.stores.outbox import SqliteOutbox

# Configuration, and the channels.


class ShopSettings(AppSettings):
    """EIP_DATABASE, and what every application has: EIP_TRANSPORT, EIP_ENDPOINT_URL, ..."""

    database: str = "shop.sqlite"


TOPOLOGY = Topology(
    TopicSpec("orders.fifo"),
    SubscriptionSpec("orders.fifo", "billing"),
    SubscriptionSpec("orders.fifo", "customs", filter=FilterPolicy({"country": [{"anything-but": ["de", "fr"]}]})),
    QueueSpec("stock"),
    TopicSpec("freight"),
    SubscriptionSpec("freight", "road"),
    SubscriptionSpec("freight", "rail"),
)
SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, customer TEXT, article TEXT, country TEXT, cents INTEGER);
CREATE TABLE IF NOT EXISTS bills (id TEXT PRIMARY KEY, cents INTEGER);
CREATE TABLE IF NOT EXISTS declarations (id TEXT PRIMARY KEY, country TEXT);
"""

# Message types.


class OrderPlaced(BaseModel):
    id: str
    customer: str
    article: str
    country: str
    cents: int


class Availability(BaseModel):
    article: str
    pieces: int = 0


class Freight(BaseModel):
    country: str
    carrier: str = ""
    cents: int = 0


class NewOrder(BaseModel):
    customer: str
    article: str
    country: str = "de"
    cents: int


class Shop(App):
    """The application with what its API calls."""

    def __init__(self, settings: ShopSettings) -> None:
        super().__init__(
            settings.make_transport(), topology=TOPOLOGY, name="shop", provision=settings.provision, depth_interval=15
        )
        self.database = settings.database
        self.outbox = self.add(SqliteOutbox(self.database))
        handled = self.add(SqliteInbox(self.database))
        self.inbox = Inbox(handled, handled.connect)
        orders = self.sender("orders.fifo", OrderPlaced)
        self.relay = self.add(OutboxRelay(self.outbox, {"orders": orders}, poll=5.0))
        self.stock = self.service(
            lambda: RequestReply(self.sender("stock", Availability), self.transport.temporary_queue("shop-stock"))
        )
        self.freight = self.service(
            lambda: ScatterGather(self.sender("freight", Freight), self.transport.temporary_queue("shop-freight"))
        )
        with closing(sqlite3.connect(self.database)) as db:
            db.executescript(SCHEMA)

    def write(self, order: OrderPlaced) -> None:
        """Write an order, and the event that it is, in one transaction."""
        event = Message(order, type="OrderPlaced", group_id=order.customer, attributes={"country": order.country})
        with closing(sqlite3.connect(self.database, timeout=10)) as db, db:
            db.execute("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", tuple(order.model_dump().values()))
            self.outbox.add(db, "orders", event)

    def count(self, table: str) -> int:
        with closing(sqlite3.connect(self.database, timeout=10)) as db:
            return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    async def redrive_bills(self) -> int:
        """Have the bills that failed tried again."""
        dead, queue = self.transport.queue("orders-billing-dead.fifo"), self.transport.queue("orders-billing.fifo")
        return (await redrive(dead, queue)).moved


# Handlers.


def make_app(settings: ShopSettings | None = None) -> Shop:
    app = Shop(settings or ShopSettings())
    answered = ReturnAddresses(app.transport, prefix="shop-", allow="activemq:temp-queue/*")

    @app.consumer("orders.fifo", subscription="billing", concurrency=20)
    @app.inbox.handler("billing")  # the bill and the note that it was written are one transaction
    def bill(order: OrderPlaced, db: sqlite3.Connection) -> None:  # it blocks, so it runs in a thread
        if order.cents <= 0:
            raise Reject(f"order {order.id} costs nothing")  # to the dead letters, at once
        db.execute("INSERT INTO bills VALUES (?, ?)", (order.id, order.cents))

    @app.consumer("orders.fifo", subscription="customs")  # the topic sends it what leaves the union only
    @app.inbox.handler("customs")
    def declare(order: OrderPlaced, db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO declarations VALUES (?, ?)", (order.id, order.country))

    @app.consumer("stock", reply_to=answered)
    async def count_pieces(message: Message[Availability]) -> Message[Availability]:
        return message.reply(Availability(article=message.body.article, pieces=len(message.body.article)))

    for carrier, rate in (("road", 900), ("rail", 700)):
        app.consumer("freight", subscription=carrier, reply_to=answered, name=carrier)(offer(carrier, rate))
    return app


def offer(carrier: str, rate: int) -> Callable[[Message[Freight]], Awaitable[Message[Freight]]]:
    async def quote(message: Message[Freight]) -> Message[Freight]:
        return message.reply(Freight(country=message.body.country, carrier=carrier, cents=rate))

    return quote


# The API.


def make_web(settings: ShopSettings | None = None) -> FastAPI:
    shop = make_app(settings)
    web = FastAPI(title="shop", lifespan=shop.lifespan)

    @web.post("/orders", status_code=202)
    async def place(order: NewOrder) -> dict[str, str]:
        placed = OrderPlaced(id=uuid.uuid4().hex, **order.model_dump())
        await asyncio.to_thread(shop.write, placed)
        shop.relay.wake()
        return {"id": placed.id}

    @web.get("/stock/{article}")
    async def stock(article: str) -> Availability:
        answer = await shop.stock().request(Availability(article=article), timeout=5)  # or RequestTimeout
        return Availability.model_validate(answer.body)

    @web.get("/freight/{country}")
    async def freight(country: str) -> list[Freight]:
        offers = await shop.freight().request(Freight(country=country), expected=2, deadline=2)
        return sorted((Freight.model_validate(each.body) for each in offers.replies), key=lambda each: each.cents)

    @web.post("/bills/redrive")
    async def redrive_bills() -> int:
        return await shop.redrive_bills()

    @web.get("/health")
    async def health(request: Request) -> dict[str, object]:
        return {name: asdict(each) for name, each in request.state.eip.parts().items()}

    return web
