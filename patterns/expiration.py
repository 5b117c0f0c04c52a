"""Message Expiration (Hohpe & Woolf, chapter 5): a message that comes too late is not worth handling.

A consumer drops what has expired by itself (its ``on_expired``); here is what lies before and beyond that: giving
messages an expiry, keeping those that came too late elsewhere, and ending the work on what expires meanwhile.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from typing_extensions import override

from eip import clock
from eip._checks import check_duration
from eip._logging import get_logger
from eip.channels import Sender, SenderDecorator
from eip.clock import Duration, seconds
from eip.errors import ConfigurationError
from eip.message import Message
from eip.patterns._late import OnLate, check_late, turn_away
from eip.patterns.diagram import with_diagram
from eip.runtime.handlers import Handler, Middleware, Result, middleware

__all__ = ["Expiring", "expiration"]

_log = get_logger("eip.expiration")


class Expiring(SenderDecorator):
    """A sender that gives messages an expiry ``after`` seconds from when they are sent; one that they have stays."""

    def __init__(self, sender: Sender, *, after: Duration) -> None:
        super().__init__(sender)
        self._after = seconds(after)
        if self._after <= 0:
            raise ConfigurationError(f"after must be > 0, got {after!r}")

    @override
    async def send(self, *messages: Message[Any], **options: Any) -> None:
        """Send the messages with an expiry; ``options`` (a queue's ``delay``) are passed on."""
        at = clock.now() + self._after
        timed = (each if each.expires_at is not None else each.replace(expires_at=at) for each in messages)
        await self._sender.send(*timed, **options)


def expiration(
    *,
    on_expired: Literal["drop", "dead_letter"] | Sender = "drop",
    max_age: Duration | None = None,
    margin: Duration = 0.0,
    cancel: bool = False,
) -> Middleware:
    """Hand on only the messages that are in time; the others are acknowledged unhandled, and logged.

    Args:
        on_expired: what becomes of those that came too late: ``"drop"``, ``"dead_letter"``, or they are sent to
            another channel. Let the consumer have ``on_expired="handle"``, or it drops them before.
        max_age: seconds after its creation at which a message expires that has no expiry, or a later one.
        margin: seconds that a message must have left for it to be worth handling.
        cancel: end the handler when its message expires meanwhile; the message then is one that came too late.
    """
    check_late("on_expired", on_expired)
    oldest = None if max_age is None else check_duration("max_age", max_age, positive=True)
    left = check_duration("margin", margin)

    aside = on_expired if isinstance(on_expired, Sender) else None

    @middleware
    def wrap(handle: Handler) -> Handler:
        async def timely(message: Message[Any]) -> Result:
            remaining = _remaining(message, oldest)
            if remaining is not None and remaining <= left:
                await _turn_away(message, on_expired, "message_expired")
                return None
            limit = asyncio.timeout(remaining if cancel else None)
            try:
                async with limit:
                    return await handle(message)
            except TimeoutError:
                if not limit.expired():
                    raise
            await _turn_away(message, on_expired, "message_expired_while_handled")
            return None

        return with_diagram(timely, "expiration", inside=handle, channels=[(aside, "too late")])

    return wrap


def _remaining(message: Message[Any], oldest: float | None) -> float | None:
    """Seconds until the message expires, of itself or by its age; None: it never does."""
    by_age = None if oldest is None else message.created_at + oldest
    end = min((each for each in (message.expires_at, by_age) if each is not None), default=None)
    return None if end is None else end - clock.now()


async def _turn_away(message: Message[Any], on_expired: OnLate, why: str) -> None:
    _log.info(why, message_id=message.id, age=round(clock.now() - message.created_at, 3))
    await turn_away(message.replace(expires_at=None), on_expired, "the message has expired")
