"""One request of a scatter-gather under way, and how its callers wait for what it brings."""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Generator
from types import CodeType
from typing import Any, Protocol

from eip import clock
from eip.channels import Sender
from eip.message import REQUEST_ID, Message
from eip.patterns._asking import (
    REPLY_CODEC,
    Conditions,
    Predicate,
    ReplyChannel,
    asked,
    check_deadline,
    check_function,
    check_reply_channel,
)
from eip.patterns._gathered import CompletedBy, Gathered, GatheredInMemory, ReplyCounts

__all__ = [
    "REPLY_CODEC",
    "CompletedBy",
    "Conditions",
    "Gathered",
    "Gathering",
    "Predicate",
    "ReplyChannel",
    "ReplyCounts",
    "asked",
    "check_deadline",
    "check_function",
    "check_reply_channel",
]


class Owner(Protocol):
    """What a gathering asks of its scatter-gather."""

    async def send(self, gathering: Gathering) -> None:
        """Send its request, and gather from now on."""
        ...

    def abandon(self, gathering: Gathering) -> None:
        """Nobody waits for it any more."""
        ...

    async def result(self, key: str) -> Gathered:
        """What the request of that id has brought, once it is complete."""
        ...

    def watch(self, key: str) -> AsyncGenerator[Message[Any], None]:
        """The replies to the request of that id."""
        ...


class Gathering:
    """A request under way: await it for the `Gathered` result, or iterate over the replies as they arrive.

    Nothing is sent before the first of the two, or before `start`. Unless it was started by `start`, the request ends
    when all its waiters are cancelled.
    """

    __slots__ = (
        *(
            "_count",
            "_error",
            "_ended",
            "_growing",
            "_ids",
            "_made_in",
            "_made_at",
            "_names",
            "_owner",
            "_started",
            "_until",
            "_waiters",
        ),
        *("_watching", "conditions", "interrupted", "kept", "replies", "request", "result", "sending", "to", "when"),
    )

    def __init__(
        self,
        owner: Owner,
        request: Message[Any],
        *,
        conditions: Conditions,
        until: Predicate | None,
        when: float,
        to: Sender,
        replies: ReplyChannel,
    ) -> None:
        self._started = False
        self._owner, self.conditions, self._until = owner, conditions, until
        self.request, self.to, self.replies = request, to, replies
        self._count = conditions.count
        self._names = None if conditions.names is None else set(conditions.names)
        self.when = when
        """When it ends, by the event loop's clock."""
        self._growing = GatheredInMemory(request.header(REQUEST_ID) or request.id, request, conditions)
        self.result: Gathered = self._growing
        self.kept = False
        """Whether it goes on without anyone waiting for it."""
        self.sending: asyncio.Task[Any] | None = None
        """The task that sends it now, ..."""
        self.interrupted: int | None = None
        """... and, once that was stopped because the request is over, the cancellations it had before."""
        self._error: BaseException | None = None
        self._waiters = 0
        self._ids: dict[str, None] | None = None
        """Of the replies so far; half the size of a set."""
        self._watching: list[asyncio.Future[None]] | None = None
        """To be woken at each reply, by iterators, ..."""
        self._ended: asyncio.Future[None] | None = None
        """... and at the end only, by the first who awaits the result: a wake-up per reply costs more than a reply."""
        caller = sys._getframe(2)  # noqa: SLF001 - for `__del__`; the line number would cost a search, so the offset
        self._made_in: CodeType = caller.f_code
        self._made_at = caller.f_lasti

    def __del__(self) -> None:
        """Warn of a request that was never sent, as Python does of a coroutine that was never awaited."""
        if getattr(self, "_started", True):
            return
        warnings.warn_explicit(
            f"request to {self.to.name!r} in {self._made_in.co_qualname} was never awaited, iterated or started: "
            "nothing was sent",
            RuntimeWarning,
            self._made_in.co_filename,
            _line(self._made_in, self._made_at),
            source=self,
        )

    @property
    def id(self) -> str:
        """The request's own id."""
        return self.result.id

    @property
    def done(self) -> bool:
        """Whether it is over."""
        return self.result.completed_by is not None or self._error is not None

    def __await__(self) -> Generator[Any, None, Gathered]:
        self._waiters += 1
        try:
            if not self._started:
                yield from self._start().__await__()
            while self.result.completed_by is None and self._error is None:
                if self._ended is None or self._ended.done():
                    self._ended = asyncio.get_running_loop().create_future()
                    yield from self._ended
                else:
                    yield from self._news()
        finally:
            self._leave()
        self._raise()
        return self.result

    async def start(self) -> str:
        """Send the request, and return its id once the channel has accepted it; the request goes on by itself."""
        self.kept = True
        if not self._started:
            await self._start()
        return self.result.id

    async def __aiter__(self) -> AsyncIterator[Message[Any]]:
        """The replies as they arrive, until the request is complete; then `result` holds them all."""
        given = 0
        self._waiters += 1
        try:
            if not self._started:
                await self._start()
            while True:
                while given < len(self.result.replies):
                    given += 1
                    yield self.result.replies[given - 1]
                if self.done:
                    break
                await self._news()
        finally:
            self._leave()
        self._raise()

    def _start(self) -> Awaitable[None]:
        self._started = True
        return self._owner.send(self)

    def _leave(self) -> None:
        self._waiters -= 1
        if self.result.completed_by is None and not (self._waiters or self.kept or self.done):
            self._owner.abandon(self)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def take(self, reply: Message[Any], *, failed: bool) -> bool:
        """Note a reply, once; whether it completes the request."""
        ids, result, identity = self._ids, self._growing, reply.id
        if ids is None:
            ids = self._ids = {}
        elif identity in ids:
            return False
        ids[identity] = None
        result.add(reply, failed=failed)
        completed: CompletedBy | None = None
        if self._names is None:
            if len(ids) == result.expected:
                completed = "expected"
        elif reply.source is not None:
            self._names.discard(reply.source)
            completed = None if self._names else "expected"
        if completed is None and self._count is not None and len(ids) - len(result.errors) == self._count:
            completed = "count"
        if completed is None and self._until is not None and self._until(result.replies):
            completed = "predicate"
        if completed is not None:
            self.complete(completed)
        elif self._watching:
            self._wake_watching()
        return completed is not None

    def complete(self, by: CompletedBy) -> None:
        """End the request."""
        self.result.completed_by, self.result.completed_at = by, clock.now()
        if self._names:
            self.result.missing = frozenset(self._names)
        self._wake_all()

    def fail(self, error: BaseException) -> None:
        """End the request with an error, which all who wait for it get."""
        self._started = True
        self._error = error
        self._wake_all()

    def interrupt(self) -> None:
        """Stop sending: the request is over."""
        if self.sending is not None:
            self.interrupted = self.sending.cancelling()
            self.sending.cancel()

    def withdraw_interruption(self) -> bool:
        """Sending has ended: whether the task was cancelled by `interrupt` alone, which is undone."""
        task, self.sending = self.sending, None
        return task is not None and self.interrupted is not None and task.uncancel() <= self.interrupted

    def _news(self) -> asyncio.Future[None]:
        """What is done at the next reply, or the end."""
        news = asyncio.get_running_loop().create_future()
        if self._watching is None:
            self._watching = []
        self._watching.append(news)
        return news

    def _wake_watching(self) -> None:
        watching, self._watching = self._watching, None
        for news in watching or ():
            if not news.done():
                news.set_result(None)

    def _wake_all(self) -> None:
        self._wake_watching()
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)


def _line(code: CodeType, offset: int) -> int:
    """The line of an instruction."""
    return next((line for start, end, line in code.co_lines() if start <= offset < end and line), code.co_firstlineno)
