"""Content enricher and normalizer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from eip import Consumer, Message
from eip.errors import ConfigurationError, ConnectionLost, Reject, Retry
from eip.matching import EventPattern, FilterPolicy
from eip.patterns.content_enricher import content_enricher
from eip.patterns.diagram import diagram
from eip.patterns.normalizer import Normalizer
from eip.patterns.translator import translator
from eip.runtime.handlers import messages_of
from eip.transports.memory import MemoryTransport
from tests.runtime.scripted import Outbox, running, until

ORDER = Message({"customer": 7}, id="o1", attributes={"k": 1})
CUSTOMERS = {7: {"name": "Ann"}}


class Order(BaseModel):
    customer: int


def customer(message: Message) -> dict | None:
    return CUSTOMERS.get(message.body["customer"])


async def one(handler, message=ORDER) -> Message:
    (made,) = messages_of(await handler(message))
    return made


@pytest.mark.parametrize(
    ("options", "body"),
    [
        ({}, {"customer": 7, "name": "Ann"}),
        ({"into": "customer"}, {"customer": {"name": "Ann"}}),
        ({"merge": lambda body, found: [body["customer"], found["name"]]}, [7, "Ann"]),
    ],
)
async def test_what_is_found_is_added_to_the_body(options, body):
    assert await one(content_enricher(customer, **options)) == ORDER.with_body(body)
    assert ORDER.body == {"customer": 7}


async def test_async_look_ups_of_the_validated_body_will_do():
    async def look_up(order: Order) -> int:
        return order.customer + 1

    assert (await one(content_enricher(look_up, into="next"))).body == {"customer": 7, "next": 8}


@pytest.mark.parametrize(("missing", "error"), [("dead_letter", Reject), ("retry", Retry)])
async def test_a_message_that_nothing_is_found_for_fails(missing, error):
    with pytest.raises(error):
        await content_enricher(customer, on_missing=missing)(Message({"customer": 8}))


async def test_or_it_passes_as_it_is():
    other = Message({"customer": 8})
    assert await one(content_enricher(customer, on_missing="handle"), other) is other


@pytest.mark.parametrize("options", [{"on_missing": "ignore"}, {"into": "a", "merge": lambda body, found: body}])
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(ConfigurationError):
        content_enricher(customer, **options)


@pytest.mark.parametrize("body", ["text", ["a"]])
async def test_only_mappings_are_merged_by_themselves(body):
    with pytest.raises(TypeError, match="merge="):
        await content_enricher(lambda message: {"a": 1})(Message(body))


async def test_a_slow_look_up_fails_and_the_message_is_tried_again():
    delays = [10.0, 0.0]

    async def slow(message: Message) -> dict[str, Any]:
        await asyncio.sleep(delays.pop(0))
        return {"found": True}

    out = Outbox()
    async with MemoryTransport() as transport:
        queue = transport.queue("in")
        await queue.send(ORDER)
        async with running(Consumer(queue, content_enricher(slow, timeout=2), output=out)) as consumer:
            await until(lambda: len(queue) == 0)
        assert consumer.stats.retried == 1
    assert [each.body for each in out.sent] == [{"customer": 7, "found": True}]


async def test_an_enricher_that_fails_sends_nothing_half_made():
    failures = [ConnectionLost("gone")]

    def fragile(message: Message) -> dict:
        if failures:
            raise failures.pop()
        return {"found": True}

    with pytest.raises(ConnectionLost):
        await content_enricher(fragile)(ORDER)
    assert (await one(content_enricher(fragile))).body["found"] is True


def normalizer(**options) -> Normalizer:
    formats: list[Any] = [
        (FilterPolicy({"v": [1]}), lambda message: {"n": message.body["no"]}),
        (EventPattern({"detail": {"v": [2]}}), translator(lambda message: {"n": message.body["number"]})),
    ]
    return Normalizer(formats, **options).when(lambda message: message.body == 3, lambda message: {"n": 3})


MESSAGES: list[Message] = [Message({"no": 1}, attributes={"v": 1}), Message({"v": 2, "number": 2}), Message(3)]


@pytest.mark.parametrize(("message", "number"), [(each, n) for n, each in enumerate(MESSAGES, 1)])
async def test_each_format_has_its_translator(message, number):
    made = await one(normalizer(type="Normal"), message)
    assert made == message.with_body({"n": number}).replace(type="Normal")


async def test_an_unknown_format_is_rejected_or_translated_otherwise():
    unknown = Message({"v": 9})
    with pytest.raises(Reject):
        await normalizer()(unknown)
    assert (await one(normalizer(otherwise=lambda message: {"n": 0}), unknown)).body == {"n": 0}


def test_a_normalizer_tells_its_formats():
    def is_csv(message: Message) -> bool:
        return True

    assert str(diagram(Normalizer(otherwise=customer).when(is_csv, customer))) == "normalizer is_csv, otherwise"


async def test_messages_of_unknown_format_are_kept_as_dead_letters():
    out, dead = Outbox(), Outbox()
    async with MemoryTransport() as transport:
        queue = transport.queue("in")
        await queue.send(*MESSAGES, Message("?"))
        async with running(Consumer(queue, normalizer(), output=out, dead_letters=dead)):
            await until(lambda: len(queue) == 0)
    assert sorted(each.body["n"] for each in out.sent) == [1, 2, 3]
    assert [each.body for each in dead.sent] == ["?"]
