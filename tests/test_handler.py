"""What handlers may look like, and what they may return."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel

from eip import Message
from eip.errors import ConfigurationError, DecodeError
from eip.handler import handler_of, messages_of


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
