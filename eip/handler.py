"""Handlers: what users write, and how the runtime calls it.

A handler is an async function of one message. What it wants is read off its first parameter's annotation, once:

    async def handle(message: Message) -> None: ...          the envelope, with the body as decoded JSON
    async def handle(message: Message[Order]) -> None: ...   the envelope, with the body validated by pydantic
    async def handle(order: Order) -> None: ...              only the validated body

It returns None, one message, or several; those are sent before the received one is acknowledged. Patterns that wrap a
handler are handlers themselves, so they compose by call.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError

from eip.codec import validate_json, validate_value
from eip.errors import ConfigurationError
from eip.message import Message

__all__ = ["AnyHandler", "Handler", "Middleware", "Result", "body_type", "handler_of", "messages_of"]

Result: TypeAlias = Message[Any] | Iterable[Message[Any]] | None
"""What a handler returns: messages to send, or None."""

Handler: TypeAlias = Callable[[Message[Any]], Awaitable[Result]]
"""A handler in its plain form: takes the message."""

AnyHandler: TypeAlias = Callable[[Any], Awaitable[Result]]
"""A handler as users write it: takes a `Message`, a ``Message[T]``, or just a ``T``."""

Middleware: TypeAlias = Callable[[AnyHandler], Handler]
"""What wraps a handler and is one: ``idempotent(store)``, ``wire_tap(sender)``."""


def handler_of(function: AnyHandler) -> Handler:
    """The function in its plain form, validating the body as its annotation asks.

    The plain form raises `DecodeError` where a body is not what the annotation says. Raises `ConfigurationError` for a
    function that takes no single message, or whose annotation no validator can be made of.
    """
    wanted = _annotation(function)
    if wanted is Any or wanted is Message:
        return function
    if get_origin(wanted) is Message:
        (body,) = get_args(wanted)
        return function if body is Any else _with_validated_message(function, _adapter(function, body))
    return _with_validated_body(function, _adapter(function, wanted))


def body_type(function: AnyHandler) -> Any:
    """The type that a handler's annotation asks the body to be; `Any` where it asks for nothing."""
    wanted = _annotation(function)
    if get_origin(wanted) is Message:
        return get_args(wanted)[0]
    return Any if wanted is Message else wanted


def _with_validated_message(function: AnyHandler, adapter: TypeAdapter[Any]) -> Handler:
    async def handle(message: Message[Any]) -> Result:
        return await function(message.with_body(_validated(message, adapter)))

    return handle


def _with_validated_body(function: AnyHandler, adapter: TypeAdapter[Any]) -> Handler:
    def handle(message: Message[Any]) -> Awaitable[Result]:
        return function(_validated(message, adapter))

    return handle


def _validated(message: Message[Any], adapter: TypeAdapter[Any]) -> Any:
    if not message.decoded and message.codec.content_type == "application/json":
        return validate_json(adapter, message.encode())  # one pass over the bytes
    return validate_value(adapter, message.body)


def _annotation(function: AnyHandler) -> Any:
    """The annotation of the one parameter, `Any` where there is none."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{function!r} is not a handler: {error}") from error
    required = [each for each in parameters if each.default is each.empty and each.kind not in _VARIADIC]
    if not parameters or len(required) > 1 or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
        raise ConfigurationError(f"{_name(function)} must take one argument, the message")
    target = function if inspect.isroutine(function) else type(function).__call__
    try:
        hints = get_type_hints(target)
    except NameError as error:
        raise ConfigurationError(f"the annotations of {_name(function)} cannot be read: {error}") from error
    return hints.get(parameters[0].name, Any)


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _adapter(function: AnyHandler, wanted: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(wanted)
    except PydanticSchemaGenerationError as error:
        raise ConfigurationError(f"{_name(function)}: no validator for {wanted!r}: {error.message}") from error


def _name(function: AnyHandler) -> str:
    return getattr(function, "__qualname__", repr(function))


def messages_of(result: object) -> list[Message[Any]]:
    """What a handler returned, as a list; raises `TypeError` for anything that is not messages."""
    if result is None:
        return []
    if isinstance(result, Message):
        return [result]
    if isinstance(result, Iterable) and not isinstance(result, (str, bytes)):
        messages = list(result)
        if all(isinstance(each, Message) for each in messages):
            return messages
    raise TypeError(f"a handler returns None, a Message or several, not {type(result).__name__}")
