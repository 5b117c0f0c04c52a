"""What the signature of a handler says: what it takes, what it returns, and whether it is a handler at all."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from eip.errors import ConfigurationError
from eip.message import Message
from eip.runtime._handler_types import AnyHandler
from eip.runtime._wrapping import innermost, name_of

__all__ = ["annotations_of", "body_type", "check_is_handler", "is_async", "result_type", "returns_messages"]

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def annotations_of(function: AnyHandler) -> tuple[Any, Any]:
    """The annotations of the one parameter and of the result, `Any` where there are none."""
    if not callable(function):
        raise ConfigurationError(f"handler must be a function of one message, got {function!r}")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{function!r} is not a handler: {error}") from error
    required = [each for each in parameters if each.default is each.empty and each.kind not in _VARIADIC]
    if not parameters or len(required) > 1 or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
        raise ConfigurationError(f"{name_of(function)} must take one argument, the message")
    inner = _unwrapped(function)
    target = inner if inspect.isroutine(inner) else type(inner).__call__
    try:
        hints = get_type_hints(target)
    except NameError as error:
        raise ConfigurationError(f"the annotations of {name_of(function)} cannot be read: {error}") from error
    return hints.get(parameters[0].name, Any), hints.get("return", Any)


def _unwrapped(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def check_is_handler(function: AnyHandler, annotation: Any, returned: Any) -> None:
    """Refuse what would only fail at the first message."""
    name, inner = name_of(function), _unwrapped(function)
    if isinstance(inner, type):
        raise ConfigurationError(f"{name} is a class: pass an instance of it, or a function")
    if inspect.isasyncgenfunction(inner) or inspect.isasyncgenfunction(type(inner).__call__):
        raise ConfigurationError(f"{name} yields, which a handler cannot: return a list of messages")
    if any(get_origin(each) is Callable for each in _arms(annotation)):
        raise ConfigurationError(f"{name} wraps handlers: call it with one, as in idempotent(store)(handler)")
    wrong = [each for each in _arms(returned) if not _may_be_result(each)]
    if wrong:
        raise ConfigurationError(f"{name} returns {wrong[0]!r}: a handler returns None, a Message or several")


def is_async(function: AnyHandler, returned: Any) -> bool:
    """Whether a call returns something to await: otherwise it is made in a thread."""
    inner = _unwrapped(function)
    if inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(type(inner).__call__):
        return True
    origin = get_origin(returned) or returned
    return isinstance(origin, type) and issubclass(origin, Awaitable)


def _arms(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, of what a call gives once awaited."""
    if isinstance(get_origin(annotation), type) and issubclass(get_origin(annotation), Awaitable):
        arguments = get_args(annotation)
        annotation = arguments[2 if issubclass(get_origin(annotation), Coroutine) else 0] if arguments else Any
    if get_origin(annotation) in (Union, UnionType):
        return tuple(each for arm in get_args(annotation) for each in _arms(arm))
    return (annotation,)


def _is_messages(annotation: Any) -> bool:
    origin = get_origin(annotation) or annotation
    if origin is Message:
        return True
    if not isinstance(origin, type) or not issubclass(origin, Iterable) or issubclass(origin, (str, bytes, Mapping)):
        return False
    items = get_args(annotation)
    return bool(items) and any(_is_messages(each) for each in _arms(items[0]))


def _may_be_result(annotation: Any) -> bool:
    """Whether a call that returns this may return messages, or None."""
    origin = get_origin(annotation) or annotation
    if origin in (Any, object, type(None)) or not isinstance(origin, type) or issubclass(origin, Message):
        return True  # `Any`, a type variable, `NoReturn`, …: nothing is known
    if not issubclass(origin, Iterable) or issubclass(origin, (str, bytes, bytearray, Mapping)):
        return False
    return all(
        _may_be_result(each) and each is not type(None) for item in get_args(annotation)[:1] for each in _arms(item)
    )


def returns_messages(function: AnyHandler) -> bool:
    """Whether the function returns messages each time, by its annotation."""
    _, returned = annotations_of(function)
    arms = _arms(returned)
    return bool(arms) and all(_is_messages(each) for each in arms)


def body_type(function: AnyHandler) -> Any:
    """The type that a handler's annotation asks the body to be; `Any` where it asks for nothing."""
    annotation, _ = annotations_of(innermost(function))
    if get_origin(annotation) is Message:
        return get_args(annotation)[0]
    return Any if annotation is Message else annotation


def result_type(function: AnyHandler) -> Any:
    """The type that a handler's annotation states for its result; `Any` where it states none."""
    return annotations_of(innermost(function))[1]
