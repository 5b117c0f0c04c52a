"""Middlewares keep the type of the handler that they wrap, whoever wrote them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable

import pytest
from pydantic import BaseModel

from eip import Consumer, Message, Middleware, middleware
from eip.errors import ConfigurationError, DecodeError
from eip.patterns.circuit_breaker import CircuitBreaker
from eip.patterns.claim_check import claim_checked
from eip.patterns.cloud_events import cloud_events
from eip.patterns.content_enricher import content_enricher
from eip.patterns.diagram import diagram
from eip.patterns.expiration import expiration
from eip.patterns.idempotent_receiver import idempotent
from eip.patterns.message_filter import message_filter
from eip.patterns.message_history import message_history
from eip.patterns.pipeline import around, pipeline
from eip.patterns.throttle import limited_by, throttle
from eip.patterns.wire_tap import wire_tap
from eip.runtime.dispatch import Handlers
from eip.runtime.handlers import AnyHandler, Handler, Result, body_type, name_of
from eip.stores import MemoryStore
from eip.stores.objects import MemoryObjects
from eip.telemetry.traces import traced
from eip.transports.memory import MemoryTransport


class Order(BaseModel):
    number: int


RAW = b'{"number": "7"}'
"""Valid only once it was validated: a number as text."""


def observed(seen: list) -> Middleware:
    """A user's own middleware."""

    @middleware
    def wrap(handle: Handler) -> Handler:
        async def observe(message: Message) -> Result:
            seen.append(message.id)
            return await handle(message)

        return observe

    return wrap


OURS: dict[str, Callable[[], Middleware]] = {
    "idempotent": lambda: idempotent(MemoryStore()),
    "circuit_breaker": CircuitBreaker,
    "claim_checked": lambda: claim_checked(MemoryObjects()),
    "cloud_events": cloud_events,
    "expiration": expiration,
    "message_filter": lambda: message_filter(lambda _: True),
    "message_history": lambda: message_history("here"),
    "throttle": lambda: throttle(1000),
    "limited_by": lambda: limited_by(asyncio.Semaphore(1)),
    "wire_tap": lambda: wire_tap(MemoryTransport().queue("tap")),
    "traced": traced,
    "observed": lambda: observed([]),
}


@pytest.fixture(params=OURS)
def wrapper(request) -> Middleware:
    return OURS[request.param]()


@pytest.mark.parametrize("kind", ["async", "def", "message", "object", "partial"])
async def test_a_wrapped_handler_gets_what_its_annotation_asks_for(wrapper, kind):
    """Fault 31: with a middleware of one's own bodies were dicts, never validated."""
    got: list[object] = []

    async def asynchronous(order: Order) -> None:
        got.append(order)

    def blocking(order: Order) -> None:
        got.append(order)

    async def of_message(message: Message[Order]) -> None:
        got.append(message.body)

    async def of_two(order: Order, *, more: int) -> None:
        got.append(order)

    class Object:
        async def __call__(self, order: Order) -> None:
            got.append(order)

    handlers: dict[str, AnyHandler] = {
        "async": asynchronous,
        "def": blocking,
        "message": of_message,
        "object": Object(),
        "partial": functools.partial(of_two, more=1),
    }
    wrapped = wrapper(handlers[kind])
    await wrapped(Message.received(RAW))
    assert got == [Order(number=7)]
    assert body_type(wrapped) is Order
    assert name_of(wrapped) == name_of(handlers[kind])
    with pytest.raises(DecodeError):
        await wrapped(Message.received(b'{"number": "seven"}', id="m2"))


def test_a_middleware_without_its_handler_is_refused_when_the_consumer_is_made(wrapper):
    """Fault 28: found at the first message, and retried."""
    with pytest.raises(ConfigurationError, match="wraps handlers"):
        Consumer(MemoryTransport().queue("orders"), wrapper)


async def test_middlewares_compose_and_dispatch_by_the_type_inside():
    seen: list[str] = []
    got: list[object] = []

    async def book(order: Order) -> None:
        got.append(order)

    handlers = Handlers()
    handlers.add(observed(seen)(observed(seen)(idempotent(MemoryStore())(book))))
    async with MemoryTransport() as transport, Consumer(queue := transport.queue("orders"), handlers):
        await queue.send(Message({"number": 7}, type="Order", id="m"))
        while not got:
            await asyncio.sleep(0.01)
    assert got == [Order(number=7)]
    assert seen == ["m", "m"]


async def test_it_wraps_the_steps_of_a_pipeline_and_shows_in_none_of_their_names():
    seen: list[str] = []
    handler = pipeline(around(observed(seen)), handler_of_orders)
    assert "observed" not in str(diagram(observed(seen)(pipeline(lambda message: message))))
    with pytest.raises(DecodeError):
        await observed(seen)(handler_of_orders)(Message.received(b"[]", id="a"))
    assert seen == ["a"]
    await handler(Message.received(RAW, id="b"))
    assert seen == ["a", "b"]


async def handler_of_orders(order: Order) -> None: ...


@pytest.mark.parametrize("wrong", [handler_of_orders, None, "wrap"])
def test_what_is_no_middleware_is_refused(wrong):
    with pytest.raises(ConfigurationError, match="wrap must be a function"):
        middleware(wrong)


def test_a_middleware_that_gives_no_handler_is_refused_when_it_wraps():
    """Fault 31: a forgotten ``return``."""
    with pytest.raises(ConfigurationError, match="handler must be a function"):
        middleware(lambda handle: None)(  # type: ignore[arg-type, return-value]
            handler_of_orders
        )


def test_handlers_that_take_no_attributes_are_wrapped_too():
    class Bound:
        async def handle(self, message: Message) -> None: ...

    wrapped = middleware(lambda handle: Bound().handle)(handler_of_orders)
    assert name_of(wrapped) == "handler_of_orders"


def test_a_handler_is_not_a_middleware_of_a_handler():
    enricher = content_enricher(lambda body: body)
    assert diagram(idempotent(MemoryStore())(enricher)).steps[0].name.startswith("content_enricher")
