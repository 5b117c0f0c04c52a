"""Wire Tap (Hohpe & Woolf, chapter 11): a copy of each message that passes, for whoever wants to look."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from eip._logging import get_logger
from eip.channels import Sender
from eip.clock import Duration, seconds
from eip.message import Message
from eip.patterns.diagram import with_diagram
from eip.runtime.handlers import Handler, Middleware, Result, middleware

__all__ = ["wire_tap"]

_log = get_logger("eip.wire_tap")


def _without_return_address(message: Message[Any]) -> Message[Any]:
    return message.replace(return_address=None)


def wire_tap(
    tap: Sender,
    *,
    copy: Callable[[Message[Any]], Message[Any] | None] = _without_return_address,
    required: bool = False,
    timeout: Duration = 1.0,
) -> Middleware:
    """Send a copy of each message to ``tap`` before it is handled.

    A tap that fails or is slow never stops the message: the failure is logged and the message goes on, so a copy may be
    missing. A message that is delivered twice is copied twice, with the same id.

    Args:
        tap: where copies go.
        copy: makes the copy, e.g. without what nobody may see; None: none of this message. Default: the message
            without its return address, so that nobody answers it twice.
        required: no message is handled without its copy: where the tap fails, the message fails and is retried.
        timeout: seconds that the tap may take before it has failed.
    """
    limit = seconds(timeout)

    async def send(message: Message[Any]) -> None:
        made = copy(message)
        if made is not None:
            async with asyncio.timeout(limit):
                await tap.send(made)

    @middleware
    def wrap(handle: Handler) -> Handler:
        async def tapped(message: Message[Any]) -> Result:
            try:
                await send(message)
            except Exception as error:
                if required:
                    raise
                _log.warning("tap_failed", channel=tap.name, message_id=message.id, error=repr(error))
            return await handle(message)

        return with_diagram(tapped, "wire_tap", inside=handle, channels=[(tap, "copy")])

    return wrap
