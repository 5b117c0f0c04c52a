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

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextvars import ContextVar, copy_context
from itertools import islice
from types import UnionType
from typing import Any, Final, NamedTuple, TypeAlias, Union, cast, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError

from eip.codec import JSON, TEXT, Codec, is_json, validate_json, validate_value, writer_of
from eip.errors import ConfigurationError, DecodeError, InvalidResult
from eip.message import Message

__all__ = [
    "AnyHandler",
    "BatchForm",
    "Handler",
    "Middleware",
    "Result",
    "batch_handler_of",
    "body_type",
    "element_reader_of",
    "handler_of",
    "inside_of",
    "messages_of",
    "middleware",
    "name_of",
    "reader_of",
    "returns_messages",
    "text_of",
    "threads",
    "validating",
]

Result: TypeAlias = Message[Any] | Iterable[Message[Any]] | None
"""What a handler returns: messages to send, or None."""

Handler: TypeAlias = Callable[[Message[Any]], Awaitable[Result]]
"""A handler in its plain form: takes the message."""

AnyHandler: TypeAlias = Callable[[Any], Awaitable[Result] | Result]
"""A handler as users write it, ``async def`` or ``def``: takes a `Message`, a ``Message[T]``, or just a ``T``."""

Middleware: TypeAlias = Callable[[AnyHandler], Handler]
"""What wraps a handler and is one: ``idempotent(store)``, ``wire_tap(sender)``."""


threads: ContextVar[Executor | None] = ContextVar("eip_handler_threads", default=None)
"""The threads of the running consumer, for handlers that are plain functions; None: the loop's own."""

_MAX_RESULTS: Final = 100_000
"""Messages that one call may return."""


def handler_of(function: AnyHandler) -> Handler:
    """The function in its plain form: async, and validating the body as its annotation asks.

    The plain form raises `DecodeError` where a body is not what the annotation says.

    Args:
        function: ``async def`` or ``def``, of one message.

    Raises:
        ConfigurationError: no function of a single message, one whose annotation no validator can be made of, or that
            returns no messages by its annotation.
    """
    annotation, returned = _annotations(function)
    _check_is_handler(function, annotation, returned)
    return _validating(function, cast("Handler", function) if _is_async(function, returned) else _threaded(function))


def validating(function: Callable[[Any], Awaitable[Any]]) -> Callable[[Message[Any]], Awaitable[Any]]:
    """An async function of a message with whatever result, validating the body as `handler_of` does."""
    return _validating(function, function)


def _validating(function: AnyHandler, plain: Handler) -> Handler:
    annotation, _ = _annotations(function)
    read = reader_of(annotation, name=name_of(function))
    if read is None:
        return plain

    async def handle(message: Message[Any]) -> Result:
        return await plain(read(message))

    return _wrapping(handle, function)


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
        return _wrapping(handler_of(wrap(handler_of(handler))), handler)

    wrapped.__qualname__ = wrapped.__name__ = name_of(wrap)
    return wrapped


def _wrapping(outer: Handler, inner: AnyHandler) -> Handler:
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


def returns_messages(function: AnyHandler) -> bool:
    """Whether the function returns messages each time, by its annotation."""
    _, returned = _annotations(function)
    arms = _arms(returned)
    return bool(arms) and all(_is_messages(each) for each in arms)


def name_of(function: Callable[..., Any]) -> str:
    """What logs and errors call a handler; for a wrapped one, the function inside."""
    inner = _innermost(function)
    if isinstance(inner, functools.partial):
        return name_of(inner.func)
    return str(getattr(inner, "__qualname__", None) or type(inner).__qualname__)


def _innermost(function: Any) -> Any:
    """The function that the user wrote, inside of whatever wraps it."""
    while (inside := inside_of(function)) is not None:
        function = inside
    return function


def body_type(function: AnyHandler) -> Any:
    """The type that a handler's annotation asks the body to be; `Any` where it asks for nothing."""
    annotation, _ = _annotations(_innermost(function))
    if get_origin(annotation) is Message:
        return get_args(annotation)[0]
    return Any if annotation is Message else annotation


def reader_of(annotation: Any, *, name: str) -> Callable[[Message[Any]], Any] | None:
    """What makes of a message what an annotation asks for; None where that is the message as it is.

    Args:
        annotation: `Message`, ``Message[T]`` or ``T``. A ``str`` is the body's text, as it came or, of a JSON string,
            its content; ``bytes`` are the body's bytes.
        name: of the handler, for errors.

    Raises:
        ConfigurationError: an annotation that no validator can be made of.
    """
    if annotation is Any or annotation is Message:
        return None
    if get_origin(annotation) is not Message:
        return _Bodies(annotation, name).value
    (body,) = get_args(annotation)
    return None if body is Any else _Bodies(body, name).message


def element_reader_of(function: Callable[[Any], Any]) -> Callable[[Message[Any]], Any] | None:
    """What makes of each message what a handler of many asks for, ``list[Order]`` or ``Sequence[Message[str]]``.

    None where that is the messages as they are. Raises `ConfigurationError` as `reader_of` does.
    """
    annotation, _ = _annotations(function)
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
    annotation, returned = _annotations(function)
    _check_is_handler(function, annotation, returned)
    kind = get_origin(annotation) or annotation
    if kind not in (Any, object) and isinstance(kind, type) and not _holds_many(kind):
        raise ConfigurationError(
            f"{name_of(function)} takes one {kind.__name__} by its annotation: give it to a Consumer, or annotate "
            "list[...]"
        )
    call = cast("Handler", function) if _is_async(function, returned) else _threaded(function)
    return BatchForm(cast("Callable[[list[Any]], Awaitable[Result]]", call), element_reader_of(function))


def _holds_many(kind: type) -> bool:
    return issubclass(list, kind) or (issubclass(kind, Iterable) and not issubclass(kind, (str, bytes, Mapping)))


class _Bodies:
    """Reads the bodies of messages as one type."""

    def __init__(self, annotation: Any, name: str) -> None:
        self._adapter = _adapter(annotation, name)
        self._plain = {str: text_of, bytes: _bytes_of}.get(annotation)

    def value(self, message: Message[Any]) -> Any:
        if self._plain is None:
            if message.decoded:
                return validate_value(self._adapter, message.body)
            if message.codec is JSON and (raw := message.raw) is not None:  # what nearly every message is
                return validate_json(self._adapter, raw)
        return self._read(writer_of(message.codec), message.encode())

    def message(self, message: Message[Any]) -> Message[Any]:
        if message.raw is None and self._plain is None:
            return message.with_body(validate_value(self._adapter, message.body))
        return message.read_as(functools.partial(self._read, writer_of(message.codec)))

    def _read(self, codec: Codec, raw: bytes) -> Any:
        if self._plain is not None:
            return self._plain(codec, raw)
        if is_json(codec):
            return validate_json(self._adapter, raw)  # one pass over the bytes
        return validate_value(self._adapter, codec.decode(raw))


def text_of(codec: Codec, raw: bytes) -> str:
    """The text that bytes are: the content of a JSON string, or anything else as it came; raises `DecodeError`."""
    if not is_json(codec) or raw.lstrip()[:1] == b'"':
        try:
            value = codec.decode(raw)
        except DecodeError:
            value = None
        if isinstance(value, str):
            return value
    return str(TEXT.decode(raw))


def _bytes_of(_: Codec, raw: bytes) -> bytes:
    return raw


def _threaded(function: AnyHandler) -> Handler:
    async def handle(argument: Any) -> Result:
        loop, context = asyncio.get_running_loop(), copy_context()
        running = loop.run_in_executor(threads.get(), lambda: context.run(_call, function, argument))
        stopped: asyncio.CancelledError | None = None
        while not running.done():
            try:
                await asyncio.wait((running,))
            except asyncio.CancelledError as error:
                stopped = error  # a thread cannot be stopped: this slot is taken until it ends
        if stopped is not None:
            running.exception()  # looked at, or asyncio reports that nobody did
            raise stopped
        result = running.result()
        return await result if inspect.isawaitable(result) else result

    return _wrapping(handle, function)


def _call(function: AnyHandler, argument: Any) -> Awaitable[Result] | Result:
    """Call the function, in its thread; what it returns lazily is made there too."""
    try:
        result: Any = function(argument)
        return messages_of(result) if isinstance(result, Iterator) and not inspect.isawaitable(result) else result
    except StopIteration as error:  # a future cannot carry it
        raise RuntimeError("the handler raised StopIteration") from error


def _annotations(function: AnyHandler) -> tuple[Any, Any]:
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


def _check_is_handler(function: AnyHandler, annotation: Any, returned: Any) -> None:
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


def _is_async(function: AnyHandler, returned: Any) -> bool:
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


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _adapter(annotation: Any, name: str) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation)
    except PydanticSchemaGenerationError as error:
        raise ConfigurationError(f"{name}: no validator for {annotation!r}: {error.message}") from error


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
