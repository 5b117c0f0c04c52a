"""One filter, whatever it is written in, as a predicate on messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from eip.codec import load_json
from eip.errors import ConfigurationError, DecodeError
from eip.matching.event_pattern import EventPattern
from eip.matching.filter_policy import FilterPolicy
from eip.message import Message

__all__ = ["Predicate", "as_event", "as_predicate", "plain_body"]

Predicate: TypeAlias = Callable[[Message[Any]], bool]


def as_predicate(filter: FilterPolicy | EventPattern | Predicate) -> Predicate:  # noqa: A002 - the library's term
    """Whether a message passes a filter policy, an event pattern, or the predicate itself.

    A policy sees the message's attributes or its body, a pattern the message as an event (`as_event`).

    Raises:
        ConfigurationError: neither of them.
    """
    if isinstance(filter, FilterPolicy):
        return _of_policy(filter)
    if isinstance(filter, EventPattern):
        return lambda message: filter.matches(as_event(message))
    if callable(filter):
        return filter
    raise ConfigurationError(f"a filter is a FilterPolicy, an EventPattern or a predicate, not {type(filter).__name__}")


def as_event(message: Message[Any]) -> dict[str, Any]:
    """The message as EventBridge shows it to patterns: its type, source and id, and the body as detail.

    Of one that came from a bus also what the driver keeps in headers: account, region, time, resources.
    """
    headers = message.headers
    event: dict[str, Any] = {
        "id": headers.get("event-id", message.id),
        "detail-type": message.type,
        "source": message.source,
        **{name: headers.get(f"event-{name}") for name in ("account", "region", "time")},
        "resources": _readable(lambda: load_json(headers.get("event-resources", "null"))),
        "replay-name": message.replay_name,
        "detail": _readable(lambda: plain_body(message)),
    }
    return {name: value for name, value in event.items() if value is not None}


def _of_policy(policy: FilterPolicy) -> Predicate:
    if policy.scope == "MessageAttributes":
        return lambda message: policy.matches(attributes=message.attributes)

    def passes(message: Message[Any]) -> bool:
        try:
            return policy.matches(body=plain_body(message))
        except DecodeError:
            return False

    return passes


def _readable(read: Callable[[], Any]) -> Any:
    """What came from a stranger; None where it cannot be read: no pattern matches that."""
    try:
        return read()
    except DecodeError:
        return None


def plain_body(message: Message[Any]) -> Any:
    """The body as plain JSON values; raises `DecodeError` where it is not JSON."""
    body = message.body
    return (
        body
        if isinstance(body, (Mapping, list, str, int, float, type(None)))
        else message.codec.decode(message.encode())
    )
