"""Translator: another body in the same envelope; what cannot be translated is dead-lettered."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from pydantic import BaseModel

from eip import Consumer, Message
from eip.codec import TextCodec
from eip.errors import ConfigurationError, DecodeError, Reject
from eip.patterns.pipeline import pipeline
from eip.patterns.translator import translator
from eip.runtime.handlers import messages_of
from eip.transports.memory import MemoryTransport
from tests.runtime.scripted import Outbox, running, until


class Order(BaseModel):
    number: int


@dataclass
class Line:
    number: int


OLD = Message({"no": "7"}, id="o1", type="Old", correlation_id="c", attributes={"k": 1})


async def one(handler, message=OLD) -> Message:
    (made,) = messages_of(await handler(message))
    return made


def modern(message: Message) -> dict:
    return {"number": int(message.body["no"])}


async def test_the_body_changes_and_the_envelope_stays():
    made = await one(translator(modern))
    assert made == OLD.with_body({"number": 7})
    assert OLD.body == {"no": "7"}


async def test_a_new_type_and_codec_can_be_given():
    made = await one(translator(lambda message: message.body["no"], type="New", codec=TextCodec()))
    assert (made.type, made.encode()) == ("New", b"7")


async def test_async_functions_and_functions_of_the_body_will_do():
    async def older(order: Order) -> Message:
        return Message({"no": str(order.number)}, id="own")

    made = await one(translator(older), Message({"number": 7}))
    assert (made.id, made.body) == ("own", {"no": "7"})


@pytest.mark.parametrize(
    ("wanted", "body", "made"),
    [
        (Order, {"number": "7"}, Order(number=7)),
        (Line, {"number": 7}, Line(7)),
        (list[Order], [{"number": 1}], [Order(number=1)]),
        (int, "7", 7),
    ],
)
async def test_a_type_validates(wanted, body, made):
    assert (await one(translator(wanted), Message(body))).body == made


async def test_what_is_not_of_the_type_is_a_decode_error_without_the_body_in_it():
    with pytest.raises(DecodeError) as raised:
        await translator(Order)(Message({"number": "secret"}))
    assert "number" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_type_without_a_validator_is_refused():
    class Odd:
        pass

    with pytest.raises(ConfigurationError):
        translator(Odd)


async def test_a_forgotten_return_is_an_error():
    with pytest.raises(TypeError, match="message_filter"):
        await translator(lambda message: None)(OLD)


async def test_named_errors_reject_and_others_pass_through():
    with pytest.raises(Reject):
        await translator(modern, reject=(KeyError, ValueError))(Message({}))
    with pytest.raises(KeyError):
        await translator(modern)(Message({}))


async def test_what_cannot_be_translated_is_dead_lettered_and_the_rest_goes_on():
    out, dead = Outbox(), Outbox()
    async with MemoryTransport() as transport:
        queue = transport.queue("in")
        await queue.send(Message({"no": "x"}), Message({"no": "8"}))
        handler = pipeline(translator(modern, reject=(ValueError,)), translator(Order))
        async with running(Consumer(queue, handler, output=out, dead_letters=dead)):
            await until(lambda: len(queue) == 0)
    assert [each.body for each in out.sent] == [Order(number=8)]
    assert [each.body for each in dead.sent] == [{"no": "x"}]
