"""The types of handlers, and of what they return."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import islice
from typing import Any, Final, TypeAlias

from eip.errors import InvalidResult
from eip.message import Message

__all__ = ["AnyHandler", "Handler", "Middleware", "Result", "messages_of"]

Result: TypeAlias = Message[Any] | Iterable[Message[Any]] | None
"""What a handler returns: messages to send, or None."""

Handler: TypeAlias = Callable[[Message[Any]], Awaitable[Result]]
"""A handler in its plain form: takes the message."""

AnyHandler: TypeAlias = Callable[[Any], Awaitable[Result] | Result]
"""A handler as users write it, ``async def`` or ``def``: takes a `Message`, a ``Message[T]``, or just a ``T``."""

Middleware: TypeAlias = Callable[[AnyHandler], Handler]
"""What wraps a handler and is one: ``idempotent(store)``, ``wire_tap(sender)``."""

_MAX_RESULTS: Final = 100_000
"""Messages that one call may return."""


def messages_of(result: object) -> list[Message[Any]]:
    """What a handler returned, as a list; raises `InvalidResult`, a TypeError, for anything that is not messages."""
    if result is None:
        return []
    if isinstance(result, Message):
        return [result]
    if not isinstance(result, Iterable) or isinstance(result, (str, bytes, Mapping)):
        raise InvalidResult(f"a handler returns None, a Message or several, not {type(result).__name__}")
    messages = list(islice(result, _MAX_RESULTS + 1))
    if len(messages) > _MAX_RESULTS:
        raise InvalidResult(f"a handler returns at most {_MAX_RESULTS:,} messages; it returned more")
    for each in messages:
        if not isinstance(each, Message):
            raise InvalidResult(f"a handler returns messages: one of several is of type {type(each).__name__}")
    return messages
