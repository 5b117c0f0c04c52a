"""Senders that wrap a sender: one base for those that change, check or delay messages on their way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Self

from typing_extensions import override

from eip.channels._kinds import Queue
from eip.channels._receiving import Receiver
from eip.channels._sending import Sender
from eip.message import Message

__all__ = ["SenderDecorator"]


class SenderDecorator(Sender):
    """A sender that passes messages on to another one, under its name, address and limits.

    Override `send`, and pass ``options`` on: a queue's ``delay``. Around a `Queue` the decorator is a `Queue` too,
    whose consumers receive what the inner one holds.

    Args:
        sender: where messages go.
    """

    def __new__(cls, sender: Sender, *arguments: Any, **options: Any) -> Self:
        """An instance that is a `Queue` where ``sender`` is one, so that code which asks for a queue takes it."""
        del arguments, options
        made: type[Self] = _queue_class(cls) if isinstance(sender, Queue) else cls
        return super().__new__(made)

    def __init__(self, sender: Sender) -> None:
        self.name, self.address, self.limits = sender.name, sender.address, sender.limits
        self.system = sender.system
        self._sender = sender

    @override
    async def send(self, *messages: Message[Any], **options: Any) -> None:
        await self._sender.send(*messages, **options)


class _DecoratedQueue(Queue):
    """The receiving side of a decorated queue."""

    _sender: Queue

    @override
    def receiver(self, *, capacity: int = 10) -> Receiver:
        return self._sender.receiver(capacity=capacity)

    @override
    async def depth(self) -> Mapping[str, int] | None:
        return await self._sender.depth()

    @override
    async def peek(self, limit: int = 10, *, max_bytes: int | None = None) -> Sequence[Message[Any]]:
        return await self._sender.peek(limit, max_bytes=max_bytes)

    @override
    async def purge(self) -> int | None:
        return await self._sender.purge()


@cache
def _queue_class(cls: type[Any]) -> Any:
    """The decorator's class with the receiving side of a queue added."""
    body = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (cls, _DecoratedQueue), body)
