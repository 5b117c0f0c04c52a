"""Splitter: parts with their place, the same ids whenever a message comes again."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from eip import Consumer, Message, SequenceInfo
from eip.errors import ConnectionLost
from eip.patterns.splitter import part_id, splitter
from eip.runtime.handlers import messages_of
from eip.transports.memory import MemoryTransport
from tests.runtime.scripted import Outbox, running, until


class Order(BaseModel):
    lines: list[str]


ORDER = Message({"lines": ["a", "b"]}, id="o1", group_id="g", expires_at=2e9, attributes={"k": 1}, headers={"h": "1"})


async def parts(message=ORDER, **options) -> list[Message]:
    return messages_of(await splitter(lambda message: message.body["lines"], **options)(message))


async def test_parts_know_their_place():
    assert [(each.body, each.sequence) for each in await parts()] == [
        ("a", SequenceInfo("o1", 0, 2)),
        ("b", SequenceInfo("o1", 1, 2)),
    ]


async def test_parts_carry_what_belongs_to_the_whole():
    (first, _) = await parts(type="Line")
    assert first.correlation_id == "o1"
    assert (first.group_id, first.expires_at, first.type) == ("g", 2e9, "Line")
    assert (first.attributes, first.headers) == ({"k": 1}, {"h": "1"})


async def test_ids_are_the_same_each_time_and_differ_among_parts_splitters_and_wholes():
    assert (
        [each.id for each in await parts()] == [each.id for each in await parts()] == [part_id("o1", n) for n in (0, 1)]
    )
    other = [*await parts(name="audit"), *await parts(ORDER.replace(id="o2")), *await parts()]
    assert len({each.id for each in other}) == 6


async def test_a_part_that_is_a_message_keeps_what_it_sets():
    split = splitter(lambda message: [Message("x", type="T", group_id="own", correlation_id="c", attributes={"k": 2})])
    (part,) = messages_of(await split(ORDER))
    assert (part.id, part.type, part.group_id, part.correlation_id) == (part_id("o1", 0), "T", "own", "c")
    assert part.attributes == {"k": 2}


async def test_the_function_may_be_async_and_of_the_validated_body():
    async def lines(order: Order) -> list[str]:
        return order.lines

    assert [each.body for each in messages_of(await splitter(lines)(ORDER))] == ["a", "b"]


async def test_a_message_without_parts_is_done():
    assert await parts(Message({"lines": []})) == []


@pytest.mark.parametrize("wrong", ["text", b"bytes", {"a": 1}, None, 3, Message(1)])
async def test_what_is_no_list_of_parts_is_refused(wrong):
    with pytest.raises(TypeError):
        await splitter(lambda message: wrong)(ORDER)


async def test_parts_sent_again_after_a_failure_have_the_same_ids():
    class Fickle(Outbox):
        """Accepts the first part, then fails, once."""

        async def send(self, *messages: Message) -> None:
            if not self.sent:
                self.sent.append(messages[0])
                raise ConnectionLost("gone")
            await super().send(*messages)

    out = Fickle()
    async with MemoryTransport() as transport:
        queue = transport.queue("in")
        await queue.send(ORDER)
        async with running(Consumer(queue, splitter(lambda message: message.body["lines"]), output=out)):
            await until(lambda: len(queue) == 0)
    assert [each.body for each in out.sent] == ["a", "a", "b"]
    assert len({each.id for each in out.sent}) == 2
