"""Handlers: what users write, and how the runtime calls it.

A handler is an async function of one message. What it wants is read off its first parameter's annotation, once:

    async def handle(message: Message) -> None: ...          the envelope, with the body as decoded JSON
    async def handle(message: Message[Order]) -> None: ...   the envelope, with the body validated by pydantic
    async def handle(order: Order) -> None: ...              only the validated body
    async def handle(text: str) -> None: ...                 the body's text, whether it is JSON or not
    async def handle(raw: bytes) -> None: ...                the body's bytes

It returns None, one message, or several; those are sent before the received one is acknowledged. A `middleware` wraps a
handler and is one itself, so middlewares compose by call.

A plain ``def`` function runs in a worker thread, so that it may block: at most as many at once as the consumer's
``concurrency``, each with the context (`eip.current_delivery`) of its message. A thread cannot be cancelled: where the
lease is lost or ``max_processing`` is over, the function runs to its end, its result is dropped, and its slot is taken
until then.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple, cast, get_args, get_origin

from eip.errors import ConfigurationError
from eip.message import Message
from eip.runtime._bodies import reader_of, text_of
from eip.runtime._handler_types import AnyHandler, Handler, Middleware, Result, messages_of
from eip.runtime._signatures import annotations_of, body_type, check_is_handler, is_async, result_type, returns_messages
from eip.runtime._threads import threaded, threads
from eip.runtime._wrapping import innermost, inside_of, name_of, replies_itself, replying, wrapping

__all__ = [
    "AnyHandler",
    "BatchForm",
    "Handler",
    "Middleware",
    "Result",
    "TransactionForm",
    "batch_handler_of",
    "body_type",
    "element_reader_of",
    "handler_of",
    "innermost",
    "inside_of",
    "messages_of",
    "middleware",
    "name_of",
    "reader_of",
    "replies_itself",
    "replying",
    "result_type",
    "returns_messages",
    "text_of",
    "threads",
    "transaction_handler_of",
    "validating",
    "wrapping",
]


def handler_of(function: AnyHandler) -> Handler:
    """The function in its plain form: async, and validating the body as its annotation asks.

    The plain form raises `DecodeError` where a body is not what the annotation says.

    Args:
        function: ``async def`` or ``def``, of one message.

    Raises:
        ConfigurationError: no function of a single message, one whose annotation no validator can be made of, or that
            returns no messages by its annotation.
    """
    annotation, returned = annotations_of(function)
    check_is_handler(function, annotation, returned)
    return _validating(function, cast("Handler", function) if is_async(function, returned) else threaded(function))


def validating(function: Callable[[Any], Awaitable[Any]]) -> Callable[[Message[Any]], Awaitable[Any]]:
    """An async function of a message with whatever result, validating the body as `handler_of` does."""
    return _validating(function, function)


def _validating(function: AnyHandler, plain: Handler) -> Handler:
    annotation, _ = annotations_of(function)
    read = reader_of(annotation, name=name_of(function))
    if read is None:
        return plain

    async def handle(message: Message[Any]) -> Result:
        return await plain(read(message))

    return wrapping(handle, function)


def middleware(wrap: Callable[[Handler], Handler]) -> Middleware:
    """Make a middleware of a function that takes a handler and returns one; use it as a decorator.

        def observed(name: str) -> Middleware:
            @middleware
            def wrap(handle: Handler) -> Handler:
                async def observe(message: Message) -> Result:
                    with timer(name):
                        return await handle(message)

                return observe

            return wrap

        Consumer(orders, observed("orders")(book))    # book(order: Order) gets a validated Order

    The handler keeps its type: ``wrap`` gets it in its plain form, which takes the message, validates the body as the
    annotation of the user's function asks, and runs a ``def`` function in a thread.

    Args:
        wrap: called once for each handler that is wrapped.

    Raises:
        ConfigurationError: ``wrap`` is an async function: it is not called for each message.
    """
    if inspect.iscoroutinefunction(wrap) or not callable(wrap):
        raise ConfigurationError(f"wrap must be a function that takes a handler and returns one, got {wrap!r}")

    def wrapped(handler: AnyHandler) -> Handler:
        return wrapping(handler_of(wrap(handler_of(handler))), handler)

    wrapped.__qualname__ = wrapped.__name__ = name_of(wrap)
    return wrapped


def element_reader_of(function: Callable[[Any], Any]) -> Callable[[Message[Any]], Any] | None:
    """What makes of each message what a handler of many asks for, ``list[Order]`` or ``Sequence[Message[str]]``.

    None where that is the messages as they are. Raises `ConfigurationError` as `reader_of` does.
    """
    annotation, _ = annotations_of(function)
    element, *_ = get_args(annotation) or (Any,)
    return reader_of(element, name=name_of(function))


class BatchForm(NamedTuple):
    """A handler of many messages in its plain form."""

    call: Callable[[list[Any]], Awaitable[Result]]
    read: Callable[[Message[Any]], Any] | None
    """What makes of each message what the handler asks for; None: nothing."""


def batch_handler_of(function: Callable[[Any], Any]) -> BatchForm:
    """The handler of many messages in its plain form: async, with what reads each element as its annotation asks.

    Args:
        function: ``async def`` or ``def``, of a list of messages: ``list[Order]``, ``Sequence[Message[Order]]``, ...

    Raises:
        ConfigurationError: as `handler_of`; or a function of one message by its annotation.
    """
    annotation, returned = annotations_of(function)
    check_is_handler(function, annotation, returned)
    kind = get_origin(annotation) or annotation
    if kind not in (Any, object) and isinstance(kind, type) and not _holds_many(kind):
        raise ConfigurationError(
            f"{name_of(function)} takes one {kind.__name__} by its annotation: give it to a Consumer, or annotate "
            "list[...]"
        )
    call = cast("Handler", function) if is_async(function, returned) else threaded(function)
    return BatchForm(cast("Callable[[list[Any]], Awaitable[Result]]", call), element_reader_of(function))


def _holds_many(kind: type) -> bool:
    return issubclass(list, kind) or (issubclass(kind, Iterable) and not issubclass(kind, (str, bytes, Mapping)))


class TransactionForm(NamedTuple):
    """A handler of a message and of the transaction that it works in."""

    call: Callable[[Message[Any], Any], Any]
    """Reads the message as the handler's annotation asks, and calls it."""
    plain: AnyHandler
    """Stands for it as a handler of the message alone: for its name and the type of its body."""
    is_async: bool
    name: str


def transaction_handler_of(function: Callable[[Any, Any], Any]) -> TransactionForm:
    """The form of a handler whose second argument is a transaction.

    Args:
        function: ``async def`` or ``def``, of a message, as other handlers take it, and of a connection or session.

    Raises:
        ConfigurationError: no function of two arguments, or no handler apart from the second.
    """
    name = name_of(function)
    try:
        _, second = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        raise ConfigurationError(f"{name} must take two arguments, the message and its transaction") from None
    plain = functools.partial(function, **{second.name: None})
    annotation, returned = annotations_of(plain)
    check_is_handler(plain, annotation, returned)
    read = reader_of(annotation, name=name)

    def call(message: Message[Any], transaction: Any) -> Any:
        return function(message if read is None else read(message), transaction)

    return TransactionForm(call, plain, is_async(plain, returned), name)
