"""Pipelines: steps in their order, what they say of themselves, what happens when one fails."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from eip import Consumer, Message
from eip.errors import ConfigurationError, ConnectionLost, DecodeError
from eip.matching import FilterPolicy
from eip.patterns.content_based_router import ContentBasedRouter
from eip.patterns.diagram import diagram, mermaid
from eip.patterns.message_filter import message_filter
from eip.patterns.pipeline import around, pipeline
from eip.patterns.recipient_list import fan_out
from eip.transports.memory import MemoryTransport
from tests.runtime.scripted import Outbox, running, until


class Order(BaseModel):
    lines: list[int]


def split(message: Message[Order]) -> list[Message]:
    return [message.derive(line) for line in message.body.lines]


async def double(message: Message) -> Message:
    return message.with_body(message.body * 2)


def odd(message: Message) -> Message | None:
    return message if message.body % 2 else None


def is_odd(message: Message) -> bool:
    return bool(message.body % 2)


def bodies(result) -> list:
    return [each.body for each in result]


async def test_each_step_gets_what_the_one_before_returned():
    run = pipeline(split, odd, double)
    assert bodies(await run(Message({"lines": [1, 2, 3]}))) == [2, 6]


async def test_a_step_that_returns_nothing_ends_the_message():
    seen = []

    async def see(message: Message) -> None:
        seen.append(message.body)

    run = pipeline(odd, see)
    assert not await run(Message(2))
    assert not await run(Message(3))
    assert seen == [3]


async def test_a_step_gets_the_body_that_its_annotation_asks_for():
    with pytest.raises(DecodeError, match="lines"):
        await pipeline(split, double)(Message({"lines": "none"}))


async def test_pipelines_and_callable_objects_are_steps():
    class Add:
        def __call__(self, message: Message[int]) -> Message:
            return message.with_body(message.body + 1)

    assert bodies(await pipeline(pipeline(split, double), Add())(Message({"lines": [1, 2]}))) == [3, 5]


async def test_around_wraps_the_steps_that_follow():
    log = []

    def logged(handler):
        async def handle(message):
            log.append(("before", message.body))
            result = await handler(message)
            log.append(("after", bodies(result)))
            return result

        return handle

    steps = pipeline(double, around(logged), double, double)
    await steps(Message(1))
    assert str(steps.diagram()).splitlines() == ["pipeline", "  double", "  logged", "  double", "  double"]
    assert log == [("before", 2), ("after", [8])]


async def test_a_filter_around_the_last_steps_lets_through_what_passes():
    run = pipeline(split, around(message_filter(lambda message: message.body > 1)))
    assert bodies(await run(Message({"lines": [1, 2, 3]}))) == [2, 3]


@pytest.mark.parametrize("steps", [(), (lambda: None,), (1,), (double, "x")])
def test_what_cannot_be_a_step_is_refused(steps):
    with pytest.raises(ConfigurationError):
        pipeline(*steps)


async def test_a_step_that_returns_no_message_is_an_error():
    with pytest.raises(TypeError, match="not int"):
        await pipeline(lambda message: message.body, double)(Message(1))


async def test_a_failed_step_brings_the_message_back_and_nothing_is_sent_before():
    failures = [ConnectionLost("gone")]

    def fragile(message: Message) -> Message:
        if message.body == 3 and failures:
            raise failures.pop()
        return message

    out = Outbox()
    async with MemoryTransport() as transport:
        queue = transport.queue("in")
        await queue.send(Message({"lines": [1, 3]}))
        async with running(Consumer(queue, pipeline(split, fragile), output=out)) as consumer:
            await until(lambda: len(queue) == 0)
        assert consumer.stats.retried == 1
    assert bodies(out.sent) == [1, 3]


def wiring():
    router = ContentBasedRouter(otherwise=Outbox("review")).when(FilterPolicy({"n": [1]}), Outbox("approved"))
    small = message_filter(is_odd, rejected=Outbox("dropped"))
    return pipeline(split, around(small), double, router)


def test_a_pipeline_tells_its_steps_and_channels():
    assert str(wiring().diagram()).splitlines() == [
        "pipeline",
        "  split",
        "  message_filter is_odd",
        "    -> dropped (rejected)",
        "  double",
        "  content_based_router",
        '    -> approved ({"n": [1]})',
        "    -> review (otherwise)",
    ]


def test_a_pipeline_is_shown_as_a_flowchart():
    assert wiring().mermaid().splitlines() == [
        "flowchart LR",
        '  c1[("dropped")]',
        '  c2[("approved")]',
        '  c3[("review")]',
        '  subgraph s1["pipeline"]',
        '  s2["split"]',
        '  s3["message_filter is_odd"]',
        '  s4["double"]',
        '  s5["content_based_router"]',
        "  end",
        '  s3 -- "rejected" --> c1',
        '  s5 -- "{#quot;n#quot;: [1]}" --> c2',
        '  s5 -- "otherwise" --> c3',
        "  s2 --> s3",
        "  s3 --> s4",
        "  s4 --> s5",
    ]


async def test_a_service_is_shown_with_the_channels_between_its_consumers():
    async with MemoryTransport() as transport:
        orders, lines, copy = transport.queue("orders"), transport.queue("lines"), transport.queue("copy")
        chart = mermaid(Consumer(orders, double, output=lines), Consumer(lines, fan_out(copy)))
    assert chart.splitlines() == [
        "flowchart LR",
        '  c1[("orders")]',
        '  c2[("lines")]',
        '  c3[("copy")]',
        '  s1["double"]',
        '  s2["fan_out"]',
        "  c1 --> s1",
        "  s1 --> c2",
        "  s2 --> c3",
        "  c2 --> s2",
    ]


def test_a_wrapped_handler_shows_what_is_inside():
    assert str(diagram(message_filter(is_odd)(double))) == "message_filter is_odd\n  double"
