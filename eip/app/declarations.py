"""The declarations of an application as plain values that exports, consoles and health are built on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypedDict, TypeGuard, get_args, get_origin

from eip.clock import Duration
from eip.message import Message
from eip.retry import Backoff
from eip.runtime.dispatch import Handlers, message_type
from eip.runtime.handlers import AnyHandler, body_type, innermost, name_of, replies_itself, result_type

__all__ = [
    "ChannelInfo",
    "ChannelKind",
    "ConsumerOptions",
    "HandlerInfo",
    "PublicationInfo",
    "message_types_of",
    "name_of_handler",
    "names_type",
    "replying_handlers",
    "results_of",
]

ChannelKind: TypeAlias = Literal["queue", "topic", "bus", "stream"]


class ConsumerOptions(TypedDict, total=False):
    """The options of `eip.Consumer` that `App.consumer` passes on as they are."""

    concurrency: int
    retry: Backoff | None
    on_group_failure: Literal["block", "dead_letter_and_continue", "park_group"]
    local_retries: int
    on_expired: Literal["drop", "dead_letter", "handle"]
    max_processing: Duration
    grace: Duration
    name: str | None


@dataclass(frozen=True, slots=True)
class ChannelInfo:
    """A channel of the application's transport."""

    kind: ChannelKind
    name: str
    subscription: str | None = None
    """Of a topic, bus or stream: whose messages a consumer reads. None: the channel itself."""

    def __str__(self) -> str:
        return (
            f"{self.kind} {self.name}" if self.subscription is None else f"{self.kind} {self.name}/{self.subscription}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerInfo:
    """A declared consumer."""

    name: str
    """The name of its handler function; for `Handlers`, the names of all."""
    channel: ChannelInfo | None
    """Where its messages come from; None: a source that is not the application's transport's."""
    message_types: Mapping[str, Any]
    """The model of each message type that it takes; empty: it takes any message."""
    body: Any
    """The type of the body by the handler's annotation; `Any` where it has none."""
    output: str | None
    """The channel that its results go to."""
    options: ConsumerOptions = field(repr=False)
    dead_letters: str | None = None
    """The channel that what can never be handled goes to; None: its channel's own dead-letter queue."""
    results: tuple[Any, ...] = ()
    """The types of the bodies of what it returns, by its annotation; empty: it states none."""
    replies: bool = False
    """Whether its results, or those of one of its handlers, go to the return address of a request that has one."""
    reply_types: tuple[Any, ...] = ()
    """The types of the bodies of those results, by their annotations; empty: they state none."""


@dataclass(frozen=True, slots=True)
class PublicationInfo:
    """A channel that the application sends to, and what it sends there."""

    channel: ChannelInfo
    message_types: Mapping[str, Any]
    """The model of each message type that is declared there or returned by a handler; empty: none is known."""


_PLAIN = (str, bytes, int, float, bool, dict, list, tuple, object)
"""Types of bodies that name no message type."""


def name_of_handler(handler: AnyHandler) -> str:
    """The name of a handler's function; for a `Handlers` object, those of its functions."""
    if isinstance(inner := innermost(handler), Handlers):
        return ", ".join(dict.fromkeys(map(name_of, inner.functions))) or name_of(handler)
    return name_of(handler)


def message_types_of(handler: AnyHandler) -> dict[str, Any]:
    """The model of each message type that a handler takes; empty where its annotation names none."""
    if isinstance(inner := innermost(handler), Handlers):
        return dict(inner.models)
    body = body_type(handler)
    return {message_type(body): body} if names_type(body) else {}


def names_type(body: Any) -> TypeGuard[type]:
    """Whether a type of bodies stands for a message type."""
    return isinstance(body, type) and body not in _PLAIN


def results_of(handler: AnyHandler) -> tuple[Any, ...]:
    """The types of the bodies of the messages that a handler returns, by its annotation, each once."""
    if isinstance(inner := innermost(handler), Handlers):
        return tuple(dict.fromkeys(each for function in inner.functions for each in results_of(function)))
    return tuple(dict.fromkeys(_bodies(result_type(handler))))


def replying_handlers(handler: AnyHandler) -> tuple[AnyHandler, ...]:
    """The handlers that send their results to return addresses by themselves: this one, or some of a `Handlers`."""
    functions = inner.functions if isinstance(inner := innermost(handler), Handlers) else (handler,)
    return tuple(each for each in functions if replies_itself(each))


def _bodies(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Message:
        yield get_args(annotation)[0]
    elif annotation is not Message:
        for each in get_args(annotation):
            yield from _bodies(each)
