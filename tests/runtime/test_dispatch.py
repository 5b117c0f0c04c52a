"""Dispatch by message type: the handler of the type, of the first filter that accepts, the default, or the policy."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest
from pydantic import BaseModel

from eip import Consumer, Message
from eip.errors import ConfigurationError, DecodeError, Reject
from eip.matching import FilterPolicy
from eip.runtime.dispatch import Handlers, message_type
from eip.transports.memory import MemoryTransport


class OrderPlaced(BaseModel):
    id: int


class OrderEnded(BaseModel):
    message_type: ClassVar[str] = "orders.ended"
    id: int


@pytest.fixture
def calls():
    return []


@pytest.fixture
def handlers(calls):
    handlers = Handlers()

    @handlers.add
    async def placed(order: OrderPlaced):
        calls.append(order)

    @handlers.on(OrderEnded, "orders.refused")
    async def ended(message: Message[OrderEnded]):
        calls.append((message.type, message.body))
        return message.reply("noted")

    @handlers.on(FilterPolicy({"region": ["eu"]}))
    async def european(message):
        calls.append("eu")

    return handlers


def test_a_model_stands_for_its_name_unless_it_names_another():
    assert (message_type(OrderPlaced), message_type(OrderEnded)) == ("OrderPlaced", "orders.ended")


async def test_the_handler_of_the_type_gets_the_validated_body(handlers, calls):
    await handlers(Message({"id": 7}, type="OrderPlaced"))
    answer = await handlers(Message({"id": 8}, type="orders.refused"))
    assert calls == [OrderPlaced(id=7), ("orders.refused", OrderEnded(id=8))]
    assert answer.body == "noted"
    with pytest.raises(DecodeError):
        await handlers(Message({"id": "seven"}, type="OrderPlaced"))


async def test_types_come_before_filters_and_filters_before_the_default(handlers, calls):
    @handlers.default
    async def rest(message):
        calls.append("rest")

    await handlers(Message({"id": 1}, type="OrderPlaced", attributes={"region": "eu"}))
    await handlers(Message(None, type="Other", attributes={"region": "eu"}))
    await handlers(Message(None))
    assert calls == [OrderPlaced(id=1), "eu", "rest"]


async def test_an_unknown_type_is_rejected_with_the_types_that_are_known(handlers):
    with pytest.raises(Reject, match=r"no handler for message type 'Odd'; there are handlers for: OrderPlaced, orders"):
        await handlers(Message(None, type="Odd"))
    assert handlers.unknown == 1


async def test_an_unknown_type_can_be_dropped():
    handlers = Handlers(on_unknown="drop")
    assert await handlers(Message(None, type="Odd")) is None
    assert handlers.unknown == 1


def test_each_type_has_one_handler(handlers):
    with pytest.raises(ConfigurationError, match="'OrderPlaced' has a handler already"):
        handlers.on("OrderPlaced")(lambda message: None)
    with pytest.raises(ConfigurationError, match="default has a handler already"):
        handlers.default(handlers.default(lambda message: None))


@pytest.mark.parametrize("annotation", [None, str, dict, list[int], Message])
def test_a_handler_without_a_model_cannot_be_added(annotation):
    async def handle(message): ...

    if annotation is not None:
        handle.__annotations__["message"] = annotation
    with pytest.raises(ConfigurationError, match="names no message type"):
        Handlers().add(handle)


def test_wrong_uses_are_refused_at_once():
    with pytest.raises(ConfigurationError, match="on_unknown must be 'dead_letter' or 'drop', got 'ignore'"):
        Handlers(on_unknown="ignore")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="a message type, a model or a filter"):
        Handlers().on()
    with pytest.raises(ConfigurationError):
        Handlers().on("Odd")(lambda: None)  # type: ignore[type-var]


async def test_the_handlers_of_several_modules_become_one(handlers, calls):
    app = Handlers()
    app.include(handlers)
    await app(Message({"id": 7}, type="OrderPlaced"))
    assert calls == [OrderPlaced(id=7)]
    assert app.types == ("OrderPlaced", "orders.ended", "orders.refused")
    with pytest.raises(ConfigurationError, match="has a handler already"):
        app.include(handlers)


async def test_a_consumer_runs_them_and_dead_letters_what_no_handler_takes(handlers, calls):
    async with MemoryTransport() as memory:
        queue, dead = memory.queue("orders"), memory.queue("dead")
        await queue.send(Message({"id": 7}, type="OrderPlaced"), Message(None, type="Odd"))
        consumer = Consumer(queue, handlers, concurrency=1, dead_letters=dead)
        running = asyncio.create_task(consumer.run())
        async with dead.receiver() as receiver:
            (odd,) = await receiver.receive(1, wait=5)
        await consumer.stop()
        await running
        assert calls == [OrderPlaced(id=7)]
        assert "no handler for message type 'Odd'" in odd.message.headers["dead-letter-reason"]
        assert len(queue) == 0
