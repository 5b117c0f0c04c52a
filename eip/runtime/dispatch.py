"""Dispatch by message type: one channel, several types of messages, a handler for each (pattern "Message Dispatcher").

    handlers = Handlers()

    @handlers.add
    async def placed(order: OrderPlaced) -> None: ...                 # messages of type "OrderPlaced"

    @handlers.on("OrderCancelled", "OrderRefused")
    async def ended(message: Message[Ended]) -> None: ...

    @handlers.on(lambda message: message.attributes.get("region") == "eu")
    async def european(message: Message) -> None: ...

    Consumer(queue, handlers)                                         # or lambda_handler(handlers), BatchConsumer(…)

A `Handlers` object is a handler, so middleware wraps it and every host runs it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_args, get_origin

from eip.channels import Filter
from eip.errors import ConfigurationError, Reject
from eip.matching.predicate import as_predicate
from eip.message import Message
from eip.runtime.handlers import AnyHandler, Handler, Result, body_type, handler_of

__all__ = ["Handlers", "OnUnknown", "message_type"]

OnUnknown: TypeAlias = Literal["dead_letter", "drop"]
_F = TypeVar("_F", bound=AnyHandler)
_PLAIN: Final = (Any, str, bytes, int, float, bool, dict, list, tuple, object)
"""Types of bodies that name no message type."""


def message_type(model: type) -> str:
    """The message type that a model stands for: its ``message_type`` attribute where it has one, or its name."""
    return str(getattr(model, "message_type", model.__name__))


class Handlers:
    """Calls the handler that is registered for a message's type, or the first whose predicate accepts the message.

    Types are looked up first, then predicates are tried in the order of their registration, then the `default`
    handler gets the message.

    Args:
        on_unknown: what becomes of a message that no handler takes: ``"dead_letter"`` rejects it, ``"drop"``
            acknowledges it.

    Raises:
        ConfigurationError: ``on_unknown`` is neither of the two.
    """

    def __init__(self, *, on_unknown: OnUnknown = "dead_letter") -> None:
        if on_unknown not in get_args(OnUnknown):
            raise ConfigurationError(f"on_unknown must be 'dead_letter' or 'drop', got {on_unknown!r}")
        self._on_unknown = on_unknown
        self._by_type: dict[str, Handler] = {}
        self._models: dict[str, Any] = {}
        self._by_predicate: list[tuple[Callable[[Message[Any]], bool], Handler]] = []
        self._default: Handler | None = None
        self.unknown = 0
        """How many messages no handler took."""

    @property
    def types(self) -> tuple[str, ...]:
        """The message types that have a handler, in the order of their registration."""
        return tuple(self._by_type)

    @property
    def models(self) -> Mapping[str, Any]:
        """By message type, what its handler asks the body to be; `Any` where it asks for nothing."""
        return self._models

    @property
    def functions(self) -> tuple[Handler, ...]:
        """The registered handlers, in their plain form."""
        default = () if self._default is None else (self._default,)
        return (*self._by_type.values(), *(handler for _, handler in self._by_predicate), *default)

    def add(self, function: _F) -> _F:
        """Register the handler of the model that its parameter is annotated with; use it as a decorator.

        Raises:
            ConfigurationError: an annotation that names no model, or whose type has a handler already.
        """
        return self._register((_model_of(function),), function)

    def on(self, *which: str | type | Filter) -> Callable[[_F], _F]:
        """Register the handler of message types, models or filters, any of which is enough; use it as a decorator.

        Args:
            which: message types, models that stand for one (see `message_type`), filters or predicates.

        Raises:
            ConfigurationError: nothing to register for, or a type that has a handler already.
        """
        if not which:
            raise ConfigurationError(
                "on() needs a message type, a model or a filter; add() takes it from the annotation"
            )
        return lambda function: self._register(which, function)

    def default(self, function: _F) -> _F:
        """Register the handler of all messages that no other handler takes; use it as a decorator."""
        if self._default is not None:
            raise ConfigurationError("default has a handler already; register one only")
        self._default = handler_of(function)
        return function

    def include(self, other: Handlers) -> None:
        """Add the handlers of another object, e.g. of another module; its ``on_unknown`` does not count here."""
        for name, handler in other._by_type.items():
            self._add_type(name, handler, other._models[name])
        self._by_predicate += other._by_predicate
        if other._default is not None:
            self.default(other._default)

    def __call__(self, message: Message[Any]) -> Awaitable[Result]:
        """Have the message handled; raises `Reject` where no handler takes it and ``on_unknown`` is dead_letter."""
        handler = self._by_type.get(message.type) if message.type is not None else None
        return (handler or self._find(message))(message)

    def _find(self, message: Message[Any]) -> Handler:
        for accepts, handler in self._by_predicate:
            if accepts(message):
                return handler
        return self._default or self._unknown

    async def _unknown(self, message: Message[Any]) -> None:
        self.unknown += 1
        if self._on_unknown == "dead_letter":
            known = ", ".join(self._by_type) or "no type"
            hint = "; send it with a type: Message(body, type=...)" if message.type is None else ""
            raise Reject(f"no handler for message type {message.type!r}; there are handlers for: {known}{hint}")

    def _register(self, which: tuple[str | type | Filter, ...], function: _F) -> _F:
        handler = handler_of(function)
        for each in which:
            if isinstance(each, (str, type)):
                name = each if isinstance(each, str) else message_type(each)
                self._add_type(name, handler, body_type(function))
            else:
                self._by_predicate.append((as_predicate(each), handler))
        return function

    def _add_type(self, name: str, handler: Handler, model: Any) -> None:
        if name in self._by_type:
            raise ConfigurationError(f"message type {name!r} has a handler already; give each type one handler")
        self._by_type[name] = handler
        self._models[name] = model

    def __repr__(self) -> str:
        return f"<Handlers {', '.join(self._by_type)} predicates={len(self._by_predicate)}>"


def _model_of(function: AnyHandler) -> type:
    model = body_type(function)
    if isinstance(model, type) and model not in _PLAIN and get_origin(model) is None:
        return model
    raise ConfigurationError(
        f"{function!r} names no message type; annotate its parameter with a model, or write on('TypeName')"
    )
