"""Dynamic Router (Hohpe & Woolf, chapter 7): recipients say themselves what they want, over a control channel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field

from eip import clock
from eip._logging import get_logger
from eip.channels import Sender
from eip.errors import ConfigurationError, InvalidPattern, Reject, Retry
from eip.matching import EventPattern, FilterPolicy, as_predicate
from eip.message import Message
from eip.patterns._fan_out import send_to_all
from eip.patterns.diagram import Channel, Diagram
from eip.runtime.handlers import Handler, Result, handler_of

__all__ = ["Announcement", "DynamicRouter"]

_log = get_logger("eip.dynamic_router")
_MAX_LASTS_S: Final = 7 * 24 * 3600.0

_MAX_FILTER: Final = 32 * 1024
"""Characters of a recipient's policy or pattern: eight times what EventBridge allows."""
_TURN: Final = 10
"""Recipients looked at before other tasks have their turn."""

_Name = Annotated[str, Field(min_length=1, max_length=256)]


class Announcement(BaseModel):
    """The message of a recipient to the control channel. A later one replaces it, and keeps the recipient known."""

    recipient: _Name
    """Its name, unique among the recipients."""
    address: Annotated[str, Field(max_length=2048)] | None = None
    """Where its messages go; None: it wants none any more."""
    policy: dict[str, Any] | None = None
    """A filter policy on the attributes of the messages that it wants; default: all."""
    pattern: dict[str, Any] | None = None
    """Or an event pattern on type, source and body."""
    priority: int = 0
    """Of the recipients that want a message, the highest gets it; of the same priority, the first by name."""
    lasts: Annotated[float, Field(gt=0, le=_MAX_LASTS_S)] = 3600.0
    """Seconds until it is forgotten, unless announced again."""


class _Rule:
    def __init__(self, announcement: Announcement, sender: Sender) -> None:
        if announcement.policy is not None and announcement.pattern is not None:
            raise InvalidPattern("an announcement has either a policy or a pattern")
        wanted = (
            FilterPolicy(announcement.policy or {})
            if announcement.pattern is None
            else EventPattern(announcement.pattern)
        )
        if len(wanted.text) > _MAX_FILTER:
            raise InvalidPattern(f"{len(wanted.text):,} characters; at most {_MAX_FILTER:,} are supported")
        self.wants, self.sender = as_predicate(wanted), sender
        self.order = (-announcement.priority, announcement.recipient)
        self.until = clock.now() + announcement.lasts


class DynamicRouter:
    """A handler that sends each message to the recipients that announced that they want it.

        router = DynamicRouter(resolve=ReturnAddresses(aws, prefix="workers-").resolve)
        await run(Consumer(jobs, router), Consumer(announcements.subscription(instance), router.control))

    What was announced lives in this process: announce on a topic that every router subscribes to, and again before an
    announcement ends, so that a restarted router knows the recipients soon. A message that none wants yet is tried
    again later.

    Args:
        resolve: turns an address into a sender. Announcements come from strangers: it must refuse what is not allowed,
            as `ReturnAddresses.resolve` does.
        to: ``"first"`` sends a message to one recipient, ``"all"`` to every one that wants it.
        otherwise: where messages go that none wants.
        unwanted: without ``otherwise``: ``"retry"`` tries them again later, ``"reject"`` dead-letters them.
        capacity: recipients that may announce themselves; further ones are refused.
    """

    def __init__(
        self,
        resolve: Callable[[str], Sender],
        *,
        to: Literal["first", "all"] = "first",
        otherwise: Sender | None = None,
        unwanted: Literal["retry", "reject"] = "retry",
        capacity: int = 1000,
    ) -> None:
        if to not in ("first", "all") or unwanted not in ("retry", "reject") or capacity < 1:
            raise ConfigurationError("to is 'first' or 'all', unwanted is 'retry' or 'reject', capacity at least 1")
        self._resolve, self._to, self._otherwise = resolve, to, otherwise
        self._unwanted, self._capacity = unwanted, capacity
        self._rules: dict[str, _Rule] = {}
        self._in_order: list[_Rule] = []
        self.control: Handler = handler_of(self._announced)
        """The handler of the control channel: takes `Announcement`; refused ones are dead-lettered."""

    @property
    def recipients(self) -> dict[str, str]:
        """The names of the recipients and their channels."""
        self._forget()
        return {name: rule.sender.name for name, rule in sorted(self._rules.items())}

    def diagram(self) -> Diagram:
        """The recipients known now."""
        channels = [Channel(rule.sender.name, name) for name, rule in sorted(self._rules.items())]
        otherwise = [] if self._otherwise is None else [Channel(self._otherwise.name, "otherwise")]
        return Diagram(name="dynamic_router", channels=(*channels, *otherwise))

    def route(self, message: Message[Any]) -> list[Sender]:
        """Where the message goes; nowhere, where none wants it and there is no other channel."""
        self._forget()
        wanting = (rule.sender for rule in self._in_order if rule.wants(message))
        found = list(wanting) if self._to == "all" else list(islice(wanting, 1))
        return found or ([] if self._otherwise is None else [self._otherwise])

    async def _route(self, message: Message[Any]) -> list[Sender]:
        """The same as `route`, but others have their turn: what recipients announce may be costly to evaluate."""
        self._forget()
        wanting: list[Sender] = []
        for number, rule in enumerate(self._in_order, 1):
            if rule.wants(message):
                wanting.append(rule.sender)
                if self._to == "first":
                    break
            if number % _TURN == 0:
                await asyncio.sleep(0)
        return wanting or ([] if self._otherwise is None else [self._otherwise])

    async def __call__(self, message: Message[Any]) -> Result:
        """Send the message on; it is acknowledged once all recipients have accepted it.

        Raises `Retry` or `Reject` where none wants it; where some channels fail, the error that decides whether it is
        tried again: one that may pass, or where all are permanent, one of these.
        """
        senders = await self._route(message)
        if not senders:
            raise (Retry if self._unwanted == "retry" else Reject)("no recipient wants this message")
        await send_to_all(senders, message)
        return None

    async def _announced(self, announcement: Announcement) -> None:
        self._forget()
        if announcement.address is None:
            self._rules.pop(announcement.recipient, None)
        else:
            if announcement.recipient not in self._rules and len(self._rules) >= self._capacity:
                raise Reject(f"{self._capacity:,} recipients are known already")
            try:
                self._rules[announcement.recipient] = _Rule(announcement, self._resolve(announcement.address))
            except InvalidPattern as error:
                raise Reject(f"the announcement cannot be understood: {error}") from error
        self._in_order = sorted(self._rules.values(), key=lambda rule: rule.order)
        _log.info("recipient_announced", recipient=announcement.recipient, known=len(self._rules))

    def _forget(self) -> None:
        """Drop the recipients whose announcements have ended."""
        now = clock.now()
        ended = [name for name, rule in self._rules.items() if rule.until <= now]
        for name in ended:
            del self._rules[name]
            _log.warning("recipient_forgotten", recipient=name)
        if ended:
            self._in_order = sorted(self._rules.values(), key=lambda rule: rule.order)
