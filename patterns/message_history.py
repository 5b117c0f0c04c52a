"""Message History (Hohpe & Woolf, chapter 11): a message carries the names of the components that it came through."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from eip import clock
from eip._checks import check_integer
from eip.codec import dump_json, load_json
from eip.errors import DecodeError, Reject
from eip.message import Message
from eip.patterns.diagram import with_diagram
from eip.runtime.handlers import Handler, Middleware, Result, messages_of, middleware

__all__ = ["Hop", "history_of", "message_history"]

_HEADER: Final = "history"
_MAX_HOPS: Final = 100
"""Hops that are kept, the latest ones: some 5 KB of headers."""


class Hop(NamedTuple):
    """A component that handled the message, and when."""

    name: str
    at: float
    """Seconds since the epoch."""


def history_of(message: Message[Any]) -> tuple[Hop, ...]:
    """The components that the message came through, the first one first; () where it carries no readable history."""
    try:
        hops = load_json(message.headers.get(_HEADER, "[]"))
        return tuple(Hop(str(name), float(at)) for name, at in hops)
    except (DecodeError, TypeError, ValueError):
        return ()


def message_history(name: str, *, max_visits: int | None = None) -> Middleware:
    """Note in each message, and in what is made of it, that it came through the component ``name``.

    The handler sees the message with this hop in its history; what it returns carries the whole of it. What it sends by
    itself does so where it passes the message on, not where it makes a new one. The latest 100 hops are kept. A
    redelivery does not count as a further visit.

    Args:
        name: of this component, unique in the system.
        max_visits: a message that came here more often than that is going in circles and is rejected; default: never.
    """
    if max_visits is not None:
        check_integer("max_visits", max_visits, least=1)

    @middleware
    def wrap(handle: Handler) -> Handler:
        async def noted(message: Message[Any]) -> Result:
            hops = (*history_of(message), Hop(name, clock.now()))[-_MAX_HOPS:]
            if max_visits is not None and sum(hop.name == name for hop in hops) > max_visits:
                raise Reject(f"the message came to {name} more than {max_visits} times: it is going in circles")
            result = await handle(_with(message, hops))
            return [_after(hops, each) for each in messages_of(result)]

        return with_diagram(noted, f"message_history {name}", inside=handle)

    return wrap


def _after(hops: tuple[Hop, ...], message: Message[Any]) -> Message[Any]:
    """The message with ``hops`` before its own: it is either the one that came, or was made of it further on."""
    own = history_of(message)
    return message if own[: len(hops)] == hops else _with(message, (*hops, *own))


def _with(message: Message[Any], hops: Iterable[Hop]) -> Message[Any]:
    text = dump_json(list(hops)[-_MAX_HOPS:]).decode()
    return message.replace(headers={**message.headers, _HEADER: text})
