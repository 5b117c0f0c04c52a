"""Handlers inside of handlers: what wraps one knows it, for its name and the type of its body."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, cast

from eip.runtime._handler_types import AnyHandler, Handler

__all__ = ["innermost", "inside_of", "name_of", "replies_itself", "replying", "wrapping"]


def wrapping(outer: Handler, inner: AnyHandler) -> Handler:
    """The outer handler, which knows the one inside: for its name and the type of its body."""
    if outer is inner:
        return outer
    takes_attributes = hasattr(outer, "__dict__") and not inspect.ismethod(outer)
    made: Any = outer if takes_attributes else functools.partial(outer)
    made.__eip_inside__ = inner  # not `__wrapped__`: `inspect` and `typing` would take the inner one's annotations
    return cast("Handler", made)


def inside_of(function: Any) -> Any:
    """The function that another one wraps; None: it wraps none."""
    inside = getattr(function, "__eip_inside__", None)
    return getattr(function, "__wrapped__", None) if inside is None else inside


def name_of(function: Callable[..., Any]) -> str:
    """What logs and errors call a handler; for a wrapped one, the function inside."""
    inner = innermost(function)
    if isinstance(inner, functools.partial):
        return name_of(inner.func)
    return str(getattr(inner, "__qualname__", None) or type(inner).__qualname__)


def innermost(function: Any) -> Any:
    """The function that the user wrote, inside of whatever wraps it."""
    *_, last = _layers(function)
    return last


def _layers(function: Any) -> Iterator[Any]:
    """The function, and those inside of it, from the outside in."""
    while function is not None:
        yield function
        function = inside_of(function)


def replying(handler: Handler) -> Handler:
    """Mark a handler that sends its results to the return addresses of requests by itself, for exports."""
    handler.__eip_replies__ = True  # type: ignore[attr-defined]  # functions take attributes
    return handler


def replies_itself(function: AnyHandler) -> bool:
    """Whether a handler, or one inside of it, is marked by `replying`."""
    return any(getattr(each, "__eip_replies__", False) for each in _layers(function))
