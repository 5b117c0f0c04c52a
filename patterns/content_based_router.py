"""Content-Based Router (Hohpe & Woolf, chapter 7): each message goes to the first channel whose condition it meets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

from eip.channels import Filter, Sender
from eip.errors import Reject
from eip.matching import as_predicate
from eip.message import Message
from eip.patterns.diagram import Channel, Diagram, condition_text
from eip.runtime.handlers import Result

__all__ = ["ContentBasedRouter"]


class ContentBasedRouter:
    """A handler that sends each message, unchanged, to the channel of the first route that it meets.

        router = ContentBasedRouter(otherwise=review).when(FilterPolicy({"score": [{"numeric": [">", 90]}]}), approved)
        Consumer(scored, router)

    Args:
        routes: conditions (a `FilterPolicy`, an `EventPattern`, or a predicate on the message) and their channels.
        otherwise: where messages go that meet none; without it they are rejected, that is, dead-lettered.
    """

    def __init__(self, routes: Sequence[tuple[Filter, Sender]] = (), *, otherwise: Sender | None = None) -> None:
        self._routes: list[tuple[Callable[[Message[Any]], bool], Sender]] = []
        self._diagram: list[Channel] = []
        self._otherwise = otherwise
        for condition, sender in routes:
            self.when(condition, sender)

    def when(self, condition: Filter, sender: Sender) -> Self:
        """Add a route, behind those that are there."""
        self._routes.append((as_predicate(condition), sender))
        self._diagram.append(Channel(sender.name, condition_text(condition)))
        return self

    def route(self, message: Message[Any]) -> Sender | None:
        """The channel of a message, or None."""
        return next((sender for meets, sender in self._routes if meets(message)), self._otherwise)

    def diagram(self) -> Diagram:
        """The routes."""
        otherwise = [] if self._otherwise is None else [Channel(self._otherwise.name, "otherwise")]
        return Diagram(name="content_based_router", channels=(*self._diagram, *otherwise))

    async def __call__(self, message: Message[Any]) -> Result:
        """Send the message on; raises `Reject` where no route wants it."""
        sender = self.route(message)
        if sender is None:
            raise Reject("no route wants this message")
        await sender.send(message)
        return None
