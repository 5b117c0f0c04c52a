"""The journal of an application, and an application that is only looked at."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eip import App, Message, QueueSpec, Reject, Topology
from eip.app import Journal
from eip.errors import ConfigurationError, StateError
from eip.stores import MemoryStore
from eip.transports.memory import MemoryTransport

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def make_app() -> App:
    app = App(MemoryTransport(), topology=Topology(QueueSpec("orders"), QueueSpec("bills")))

    @app.consumer("orders", output="bills")
    async def price(message: Message[Any]) -> Message[Any]:
        if message.body == "bad":
            raise Reject("it is bad")
        return message.derive("bill")

    return app


async def test_it_notes_what_is_sent_and_handled_by_conversation():
    app = make_app()
    orders = app.sender("orders")
    async with app:
        app.journal.keep(100)
        await orders.send(Message("order", id="one", traceparent=f"00-{TRACE}-00f067aa0ba902b7-01"))
        await orders.send(Message("bad", id="two"))
        await asyncio.sleep(1)
    found = app.journal.of("one")
    assert [(each.kind, each.channel, each.handler, each.error) for each in found] == [
        ("sent", "orders", None, None),
        ("handled", "orders", "make_app.<locals>.price", None),
        ("sent", "bills", "orders", None),
    ]
    assert [each.message_id for each in app.journal.of(TRACE)] == [each.message_id for each in found]
    failed = app.journal.of("two")[-1]
    assert (failed.kind, failed.error) == ("handled", "Reject: it is bad")
    assert app.journal.latest(1)[0].at >= found[-1].at
    assert app.journal.of("none") == []


async def test_it_keeps_nothing_unless_it_is_asked_to():
    app = make_app()
    orders = app.sender("orders")
    async with app:
        await orders.send(Message("order", id="one"))
        await asyncio.sleep(1)
    assert app.journal.size == 0
    assert app.journal.latest(10) == []


def test_it_is_bounded_and_so_are_its_texts():
    journal = Journal()
    journal.keep(3)
    for number in range(10):
        journal.sent([Message(1, id=str(number) * 1000, type="x" * 1000)], "q" * 10, 0.0, ValueError("y" * 1000))
    assert [each.message_id[:1] for each in journal.latest(10)] == ["9", "8", "7"]
    assert max(len(str(text)) for each in journal.latest(10) for text in each) == 200
    with pytest.raises(ConfigurationError, match="size must be"):
        journal.keep(-1)


async def test_an_application_that_is_looked_at_runs_nothing():
    app, entered = make_app(), []
    app.add(MemoryStore())

    @app.resource
    def pool() -> Any:
        entered.append("pool")
        return MemoryTransport()

    async with app.inspected() as same:
        assert same is app
        assert entered == ["pool"]
        await app.sender("orders").send(Message("order"))
        await asyncio.sleep(10)
        assert await app.transport.queue("orders").depth() == {"ready": 1, "delayed": 0, "leased": 0}
        assert (app.is_open, app.consumers, app.health().reason) == (False, (), "not running")
        assert not app.ready.is_set()
    for again in (app.inspected(), app):
        with pytest.raises(StateError, match="ran already"):
            async with again:
                pass
