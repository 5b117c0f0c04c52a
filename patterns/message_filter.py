"""Message Filter (Hohpe & Woolf, chapter 7): only messages that pass reach the handler; the others are done.

Where the channel can filter, let it: give the filter to its subscription, which pushes it down as far as that is exact.
"""

from __future__ import annotations

from typing import Any

from eip.channels import Filter, Sender
from eip.matching import as_predicate
from eip.message import Message
from eip.patterns.diagram import condition_text, with_diagram
from eip.runtime.handlers import Handler, Middleware, Result, middleware

__all__ = ["message_filter"]


def message_filter(filter: Filter, *, rejected: Sender | None = None) -> Middleware:  # noqa: A002 - the library's term
    """Hand on only the messages that pass; the others are acknowledged unhandled.

    Args:
        filter: a `FilterPolicy`, an `EventPattern`, or a predicate on the message.
        rejected: where the messages that do not pass are sent; default: nowhere.
    """
    passes = as_predicate(filter)

    @middleware
    def wrap(handle: Handler) -> Handler:
        async def filtered(message: Message[Any]) -> Result:
            if passes(message):
                return await handle(message)
            if rejected is not None:
                await rejected.send(message)
            return None

        name = f"message_filter {condition_text(filter)}"
        return with_diagram(filtered, name, inside=handle, channels=[(rejected, "rejected")])

    return wrap
