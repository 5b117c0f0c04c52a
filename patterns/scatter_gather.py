"""Scatter-Gather (Hohpe & Woolf, chapter 8): ask many, gather their answers until there are enough or it is too late.

Each request carries a correlation id, the address its replies go to, and its deadline as expiry, so that responders
drop what nobody waits for any more. Replies find their request by the correlation id; one reply channel serves any
number of requests. What is gathered lives in this process; where it must outlive it, let an `Aggregator` gather.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self, TypeAlias, cast

from eip import clock
from eip._ids import new_id
from eip.channels import Receiver, Sender, Source
from eip.clock import Duration, seconds
from eip.consumer import Consumer
from eip.errors import ConfigurationError
from eip.message import Message

__all__ = ["CompletedBy", "Gathered", "Gathering", "ReplyChannel", "ScatterGather"]

CompletedBy: TypeAlias = Literal["expected", "count", "predicate", "deadline"]

_REMEMBERED: Final = 10_000
"""Completed requests whose late replies are still told from unknown ones."""


_SPARE: Final = 1000
"""Deadlines of requests that are over, kept until they are worth a sweep."""


class ReplyChannel(Protocol):
    """What replies come in on: a queue, with an address that responders can answer to."""

    name: str
    address: str

    def receiver(self, *, capacity: int = 10) -> Receiver:
        """See `eip.Source.receiver`."""
        ...


@dataclass(slots=True, kw_only=True)
class Gathered:
    """What a request brought."""

    correlation_id: str
    replies: list[Message[Any]] = field(default_factory=list)
    """The answers, in the order of their arrival, each once."""
    errors: list[Message[Any]] = field(default_factory=list)
    """The answers that say that a responder failed."""
    expected: int | None = None
    missing: frozenset[str] = frozenset()
    """Of the responders expected by name (a reply's ``source``), those that did not answer."""
    completed_by: CompletedBy | None = None
    """What completed it; None while it is running."""
    late: int = 0
    """Replies that came after completion; grows while the request is remembered."""

    @property
    def answered(self) -> int:
        """How many responders answered, those that failed included."""
        return len(self.replies) + len(self.errors)


class Gathering:
    """A request under way: await it for the `Gathered` result, or iterate over the replies as they arrive.

    Nothing is sent before the first of the two. Cancelling either ends the request.
    """

    __slots__ = (
        *("_count", "_ended", "_ids", "_names", "_owner", "_sent", "_until", "_watching"),
        *("replies", "request", "result", "to", "when"),
    )

    def __init__(
        self,
        owner: ScatterGather,
        request: Message[Any],
        *,
        expected: int | Iterable[str] | None,
        count: int | None,
        until: Callable[[Sequence[Message[Any]]], bool] | None,
        when: float,
        to: Sender,
        replies: ReplyChannel,
    ) -> None:
        self._owner, self._count, self._until = owner, count, until
        self.request, self.to, self.replies = request, to, replies
        self._names: set[str] | None = None
        number: int | None
        if expected is None or isinstance(expected, int):
            number = expected
        else:
            self._names = set(expected)
            number = len(self._names)
        self.when = when
        """When it ends, by the event loop's clock."""
        self.result = Gathered(correlation_id=request.correlation_id or request.id, expected=number)
        self._ids: dict[str, None] = {}
        """Of the replies so far; half the size of a set."""
        self._sent = False
        self._watching: list[asyncio.Future[None]] = []
        """To be woken at each reply, by iterators, ..."""
        self._ended: list[asyncio.Future[None]] = []
        """... and at the end only, by those that await the result: a wake-up per reply costs more than the reply."""

    @property
    def done(self) -> bool:
        """Whether it is complete."""
        return self.result.completed_by is not None

    def __await__(self) -> Generator[Any, None, Gathered]:
        return self._gather().__await__()

    async def __aiter__(self) -> AsyncIterator[Message[Any]]:
        """The replies as they arrive, until the request is complete; then `result` holds them all."""
        if not self._sent:
            await self._start()
        given = 0
        try:
            while True:
                while given < len(self.result.replies):
                    given += 1
                    yield self.result.replies[given - 1]
                if self.done:
                    return
                await _news(self._watching)
        finally:
            self._owner._forget(self)  # noqa: SLF001 - a gathering is a part of its owner

    async def _gather(self) -> Gathered:
        if not self._sent:
            await self._start()
        result = self.result
        try:
            while result.completed_by is None:
                await _news(self._ended)
        finally:
            self._owner._forget(self)  # noqa: SLF001
        return result

    def _start(self) -> Awaitable[None]:
        self._sent = True
        return self._owner._send(self)  # noqa: SLF001

    def take(self, reply: Message[Any], *, failed: bool) -> bool:
        """Note a reply, once; whether it completes the request."""
        ids, result, identity = self._ids, self.result, reply.id
        if identity in ids:
            return False
        ids[identity] = None
        (result.errors if failed else result.replies).append(reply)
        completed: CompletedBy | None = None
        if self._names is None:
            if len(ids) == result.expected:
                completed = "expected"
        elif reply.source is not None:
            self._names.discard(reply.source)
            completed = None if self._names else "expected"
        if completed is None and self._count is not None and len(result.replies) == self._count:
            completed = "count"
        if completed is None and self._until is not None and self._until(result.replies):
            completed = "predicate"
        if completed is not None:
            self.complete(completed)
        elif self._watching:
            _wake(self._watching)
        return completed is not None

    def complete(self, by: CompletedBy) -> None:
        """End the request."""
        self.result.completed_by = by
        self.result.missing = frozenset(self._names or ())
        _wake(self._watching)
        _wake(self._ended)


def _news(waiting: list[asyncio.Future[None]]) -> asyncio.Future[None]:
    news = asyncio.get_running_loop().create_future()
    waiting.append(news)
    return news


def _wake(waiting: list[asyncio.Future[None]]) -> None:
    for news in waiting:
        if not news.done():
            news.set_result(None)
    waiting.clear()


class ScatterGather:
    """Sends requests and gathers their replies; use it with ``async with``.

        async with ScatterGather(requests=transport.topic("rfq-berlin"), replies=transport.queue("rfq-replies")) as rfq:
            quotes = await rfq.request(ride, expected=12, deadline=timedelta(minutes=5))

    Args:
        requests: where requests are published; responders subscribe.
        replies: the queue that replies come in on; nobody else may consume it.
        is_error: whether a reply says that its responder failed; default: its type is ``"error"``.
        concurrency: replies taken from the channel at once.
    """

    def __init__(
        self,
        requests: Sender,
        replies: ReplyChannel,
        *,
        is_error: Callable[[Message[Any]], bool] | None = None,
        concurrency: int = 100,
    ) -> None:
        self._requests, self._replies = requests, replies
        self._is_error, self._concurrency = is_error, concurrency
        self._pending: dict[str, Gathering] = {}
        self._completed: OrderedDict[str, Gathered] = OrderedDict()
        self._deadlines: list[tuple[float, int, Gathering]] = []
        self._serial = count()
        self._timer: asyncio.TimerHandle | None = None
        self._stack: AsyncExitStack | None = None
        self._consumers: dict[str, Consumer] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self.late = 0
        """Replies that came after their request was complete."""
        self.unknown = 0
        """Replies to no request of ours; they are acknowledged."""

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return len(self._pending)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._tasks = await stack.enter_async_context(asyncio.TaskGroup())
            await self._listen(self._replies)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await asyncio.gather(*(consumer.stop() for consumer in self._consumers.values()))
        self._consumers.clear()
        stack, self._stack, self._tasks = self._stack, None, None
        if stack is not None:
            await stack.__aexit__(kind, error, trace)

    def request(
        self,
        body: Any,
        *,
        deadline: Duration,
        expected: int | Iterable[str] | None = None,
        count: int | None = None,
        until: Callable[[Sequence[Message[Any]]], bool] | None = None,
        replies: ReplyChannel | None = None,
        to: Sender | None = None,
    ) -> Gathering:
        """A request, to be awaited or iterated over; it is complete at the first of its conditions.

        Args:
            body: the request's body, or a whole `Message`.
            deadline: seconds (or timedelta) until it ends, whatever came; carried in the message as expiry.
            expected: how many responders were asked, or their names (a reply's ``source``): complete once all answered.
            count: complete once so many replies came that are no errors.
            until: complete once it says so of the replies.
            replies: another channel for these replies, e.g. one per customer.
            to: another channel for this request, e.g. the topic of its location.
        """
        if self._tasks is None:
            raise ConfigurationError("a scatter-gather sends only inside its `async with`")
        wait = seconds(deadline)
        if wait <= 0:
            raise ConfigurationError("a deadline lies ahead")
        channel = replies or self._replies
        if isinstance(body, Message):
            key, address, until_then = body.correlation_id or body.id, channel.address, clock.now() + wait
            asked = body.replace(correlation_id=key, return_address=address, expires_at=until_then)
        else:
            key = new_id()
            asked = Message(
                body, id=key, correlation_id=key, return_address=channel.address, expires_at=clock.now() + wait
            )
        when = asyncio.get_running_loop().time() + wait
        return Gathering(
            self,
            asked,
            expected=expected,
            count=count,
            until=until,
            when=when,
            to=to or self._requests,
            replies=channel,
        )

    async def unlisten(self, replies: ReplyChannel) -> None:
        """Stop consuming a reply channel that `request` was given; what still comes stays in it."""
        consumer = self._consumers.pop(replies.address, None)
        if consumer is not None:
            await consumer.stop()

    async def _listen(self, replies: ReplyChannel) -> None:
        if replies.address in self._consumers or self._tasks is None:
            return
        source = cast("Source", replies)
        # Replies expire with their request; those that come late are still counted.
        consumer = Consumer(source, self._on_reply, concurrency=self._concurrency, on_expired="handle")
        self._consumers[replies.address] = consumer
        self._tasks.create_task(consumer.run(), name=f"{replies.name} replies")
        await consumer.started.wait()

    async def _send(self, gathering: Gathering) -> None:
        key = gathering.result.correlation_id
        if gathering.result.expected == 0:
            gathering.complete("expected")
            return
        if key in self._pending:
            raise ConfigurationError(f"a request with correlation id {key} is under way")
        if gathering.replies.address not in self._consumers:
            await self._listen(gathering.replies)
        self._pending[key] = gathering
        heappush(self._deadlines, (gathering.when, next(self._serial), gathering))
        if len(self._deadlines) > 2 * len(self._pending) + _SPARE:
            self._deadlines = [each for each in self._deadlines if each[2].result.correlation_id in self._pending]
            heapify(self._deadlines)
        if self._timer is None or gathering.when < self._timer.when():
            self._schedule()
        try:
            await gathering.to.send(gathering.request)
        except BaseException:
            self._forget(gathering)
            raise

    async def _on_reply(self, reply: Message[Any]) -> None:
        key = reply.correlation_id or ""
        gathering = self._pending.get(key)
        if gathering is not None:
            failed = reply.type == "error" if self._is_error is None else self._is_error(reply)
            if gathering.take(reply, failed=failed):
                self._forget(gathering)
        elif key in self._completed:
            self._completed[key].late += 1
            self.late += 1
        else:
            self.unknown += 1

    def _forget(self, gathering: Gathering) -> None:
        """The request is over, complete or abandoned; its late replies are still known for a while."""
        key = gathering.result.correlation_id
        if self._pending.pop(key, None) is not None:
            self._completed[key] = gathering.result
            if len(self._completed) > _REMEMBERED:
                self._completed.popitem(last=False)

    # Deadlines: one timer for the earliest, whatever the number of requests.

    def _schedule(self) -> None:
        while self._deadlines and self._deadlines[0][2].result.correlation_id not in self._pending:
            heappop(self._deadlines)
        if not self._deadlines:
            return
        when = self._deadlines[0][0]
        if self._timer is not None:
            if not self._timer.cancelled() and self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._deadlines and self._deadlines[0][0] <= now:
            gathering = heappop(self._deadlines)[2]
            if gathering.result.correlation_id in self._pending:
                gathering.complete("deadline")
                self._forget(gathering)
        self._schedule()
