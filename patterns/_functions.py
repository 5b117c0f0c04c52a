"""Functions of a message as users hand them to patterns: plain or async, of the message or of its validated body."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeAlias

from eip.message import Message
from eip.runtime.handlers import validating

__all__ = ["Function", "function_of"]

Function: TypeAlias = Callable[[Message[Any]], Awaitable[Any]]


def function_of(function: Any) -> Function:
    """The function in one form: async, of the message; its annotation is respected as `eip.runtime.handlers` says.

    Raises `ConfigurationError` for what takes no single argument.
    """
    return validating(_awaited(function))


def _awaited(given: Any) -> Callable[[Any], Awaitable[Any]]:
    """The function as an async one, with its annotations."""
    function = given if inspect.isroutine(given) or isinstance(given, type) else getattr(given, "__call__", None)  # noqa: B004
    if inspect.iscoroutinefunction(function) or function is None:
        return given  # type: ignore[no-any-return]  # `validating` refuses anything but a function

    @wraps(function)
    async def awaited(message: Any) -> Any:
        result = function(message)
        return await result if inspect.isawaitable(result) else result

    return awaited
