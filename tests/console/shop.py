"""A small application for the console: orders that are priced and billed, some of which fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from eip import App, Backoff, Message, QueueSpec, Reject, SubscriptionSpec, TopicSpec, Topology
from eip.transports.memory import MemoryTransport

ORDERS, DEAD = "orders", "orders-dead"


def make_shop(*, fails: bool = True) -> App:
    """Orders whose number is divisible by three have no price, those divisible by five are not paid."""
    topology = Topology(
        QueueSpec(ORDERS, max_receive_count=1),
        QueueSpec("bills"),
        TopicSpec("news"),
        SubscriptionSpec("news", "mail"),
    )
    app = App(MemoryTransport(), name="shop", topology=topology)
    app.sender(ORDERS)

    @app.consumer(ORDERS, output="bills", retry=Backoff(base=0.01, max_attempts=1))
    async def price(message: Message[Any]) -> Message[Any]:
        if fails and message.body["n"] % 3 == 0:
            raise ValueError(f"order {message.body['n']} has no price")
        return message.derive({"bill": message.body["n"]})

    @app.consumer("bills")
    async def bill(message: Message[Any]) -> None:
        if message.body["bill"] % 5 == 0:
            raise Reject("customer 'acme' does not pay")

    @app.consumer("news", subscription="mail")
    async def mail(_: Message[Any]) -> None: ...

    return app


def order(number: int, **envelope: Any) -> Message[Any]:
    return Message({"n": number, "card": {"card_number": "4111"}}, type="OrderPlaced", **envelope)


async def fill(app: App, count: int, *, dead: str = DEAD) -> None:
    """Dead letters as if that many orders had failed."""
    queue = app.transport.queue(dead)
    headers = {"dead-letter-source": ORDERS, "dead-letter-count": "1"}
    for number in range(count):
        why = {"dead-letter-reason": f"ValueError: order {number} has no price", **headers}
        await queue.send(order(number, id=f"m{number}", headers=why, attributes={"country": "de", "token": "t0ps"}))


@asynccontextmanager
async def looked_at(app: App | None = None) -> AsyncIterator[App]:
    """The application, open and not run, with its topology made: what is in its queues stays there."""
    app = app or make_shop()
    async with app.inspected():
        await app.topology.apply(app.transport)
        yield app


async def until(condition: Any, *, timeout: float = 20) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


def keys(console: Any, *ids: str, queue: str = DEAD) -> list[str]:
    """The keys of the letters with those ids that the last look found."""
    return [each.key for each in console.view.letters.letters(queue) if each.id in ids]
