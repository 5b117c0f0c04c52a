"""What handlers may look like, and what they may return."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel

from eip import Message
from eip.codec import JSON, TextCodec
from eip.errors import ConfigurationError, DecodeError, InvalidMessage
from eip.runtime.handlers import handler_of, messages_of


class Order(BaseModel):
    number: int


async def plain(message: Message) -> None:
    assert isinstance(message, Message)


async def untyped(message):
    assert isinstance(message, Message)


async def typed(message: Message[Order]) -> None:
    assert isinstance(message.body, Order)


async def body(order: Order) -> None:
    assert isinstance(order, Order)


async def numbers(several: list[int]) -> None:
    assert several == [1]


class Callable:
    async def __call__(self, message: Message[Order]) -> None:
        assert isinstance(message.body, Order)

    async def method(self, order: Order) -> None:
        assert isinstance(order, Order)


@pytest.mark.parametrize("function", [plain, untyped, typed, body, Callable(), Callable().method, partial(untyped)])
async def test_the_forms_of_a_handler(function):
    await handler_of(function)(Message.received(b'{"number":1}'))
    await handler_of(function)(Message({"number": 1}))


async def test_any_type_that_pydantic_knows():
    await handler_of(numbers)(Message.received(b"[1]"))


@pytest.mark.parametrize("raw", [b"{}", b'{"number":"x"}', b"{", b"[]", b"\xff"])
@pytest.mark.parametrize("function", [typed, body])
async def test_a_body_that_is_not_what_was_asked_for_is_a_decode_error(function, raw):
    with pytest.raises(DecodeError):
        await handler_of(function)(Message.received(raw))


async def test_a_typed_message_keeps_its_envelope():
    async def handle(message: Message[Order]) -> None:
        assert (message.id, message.group_id) == ("m", "g")

    await handler_of(handle)(Message({"number": 1}, id="m", group_id="g"))


async def nothing() -> None: ...


async def two(first: Message, second: Message) -> None: ...


async def keyword(*, message: Message) -> None: ...


async def impossible(message: Message[SyntaxError]) -> None: ...


@pytest.mark.parametrize("wrong", [nothing, two, keyword, impossible])
def test_what_is_no_handler_is_refused(wrong):
    with pytest.raises(ConfigurationError):
        handler_of(wrong)


def test_results():
    first, second = Message(1), Message(2)
    assert messages_of(None) == []
    assert messages_of(first) == [first]
    assert messages_of(each for each in (first, second)) == [first, second]
    for wrong in (1, "text", b"bytes", [first, 2], {"a": 1}):
        with pytest.raises(TypeError):
            messages_of(wrong)


def test_a_handler_without_annotation_gets_the_message_as_it_is():
    assert handler_of(untyped) is untyped
    any_handler: Any = plain
    assert handler_of(any_handler) is plain


# Plain text and bytes, from whatever producer.

TEXTS = [
    (b"Message at 12:00", "Message at 12:00"),
    (b'"Message at 12:00"', "Message at 12:00"),
    (b"42", "42"),
    (b'{"a": 1.10}', '{"a": 1.10}'),
    (b'"cut off', '"cut off'),
    (b"", ""),
    ("Müller".encode(), "Müller"),
]


async def same_text(text: str):
    return [Message(text)]


async def message_of_text(message: Message[str]):
    return [message]


@pytest.mark.parametrize("codec", [JSON, TextCodec()])
@pytest.mark.parametrize(("raw", "text"), TEXTS)
async def test_a_handler_of_text_gets_it_from_any_producer(raw, text, codec):
    """Fault 6: plain text, as the articles' own examples send it."""
    expected = text if codec is JSON else raw.decode()
    (made,) = messages_of(await handler_of(same_text)(Message.received(raw, codec=codec)))
    (passed,) = messages_of(await handler_of(message_of_text)(Message.received(raw, codec=codec)))
    assert made.body == passed.body == expected
    assert passed.encode() == raw
    assert passed.codec.content_type == codec.content_type


async def test_handlers_of_text_and_bytes_take_what_this_library_sent():
    async def raw(body: bytes):
        return [Message(body)]

    async def raw_message(message: Message[bytes]):
        return [message]

    assert messages_of(await handler_of(same_text)(Message("x")))[0].body == "x"
    for function in (raw, raw_message):
        for sent, expected in (
            (Message(b"\xff\0"), b"\xff\0"),
            (Message("x"), b'"x"'),
            (Message({"a": 1}), b'{"a":1}'),
        ):
            for message in (sent, sent.sealed()):
                (given,) = messages_of(await handler_of(function)(message))
                assert given.body == expected


@pytest.mark.parametrize("function", [same_text, message_of_text])
async def test_bytes_that_are_no_text_are_a_decode_error_for_a_handler_of_text(function):
    with pytest.raises(DecodeError):
        await handler_of(function)(Message.received(b"\xff"))


async def test_a_message_that_a_handler_passes_on_unchanged_is_the_same_bytes():
    """Fault 12: long decimals, doubled keys, 1e400, fields that the model does not know."""
    raw = b'{"number": 1, "exact": 1.10000000000000000001, "far": 1e400, "a": 1, "a": 2}'

    async def look(message: Message):
        return [message] if message.body["number"] == 1 else []

    async def same(message: Message[Order]):
        return [message]

    async def change(message: Message[Order]):
        message.body.number += 1
        return [message]

    async def change_plain(message: Message):
        message.body["number"] = True
        return [message]

    async def run(function):
        (made,) = messages_of(await handler_of(function)(Message.received(raw)))
        return made.sealed().encode()

    assert await run(look) == raw
    assert await run(same) == raw
    assert await run(change) == b'{"number":2}'
    with pytest.raises(InvalidMessage, match="far is inf"):
        await run(change_plain)


def blocking(order: Order) -> Message:
    return Message(order.number)


def lazy(message: Message):
    yield Message(1)
    yield Message(2)


def stops(message: Message) -> None:
    raise StopIteration


async def test_plain_functions_are_handlers_with_all_that_handlers_have():
    """Fault 25."""
    result = await handler_of(blocking)(Message.received(b'{"number":1}'))
    assert [each.body for each in messages_of(result)] == [1]
    assert [each.body for each in messages_of(await handler_of(lazy)(Message(0)))] == [1, 2]
    with pytest.raises(DecodeError):
        await handler_of(blocking)(Message.received(b"[]"))
    with pytest.raises(RuntimeError, match="StopIteration"):
        await handler_of(stops)(Message(0))
    assert messages_of(await handler_of(lambda message: plain(message))(Message(0))) == []  # noqa: PLW0108 - a plain function
