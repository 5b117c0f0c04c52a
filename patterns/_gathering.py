"""One request of a scatter-gather: what it waits for, what it brought, and how its callers wait for that."""

from __future__ import annotations

import asyncio
import math
import sys
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from typing_extensions import override

from eip import clock
from eip._checks import check_duration, check_integer
from eip._ids import new_id
from eip.channels import Queue, Receiver, Sender, Source
from eip.clock import Duration
from eip.codec import JsonCodec, load_json
from eip.errors import ConfigurationError, DecodeError
from eip.message import REQUEST_ID, Message

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

CompletedBy: TypeAlias = Literal["expected", "count", "predicate", "deadline"]
_Function = TypeVar("_Function")
Predicate: TypeAlias = Callable[[Sequence[Message[Any]]], bool]


class ReplyChannel(Protocol):
    """What replies come in on: a queue, or another `eip.Source` with an address that responders can answer to."""

    name: str
    address: str
    retry_queue: Queue | None

    def receiver(self, *, capacity: int = 10) -> Receiver:
        """A receiver of the replies, as `eip.Source.receiver` makes it."""
        ...


@dataclass(slots=True, kw_only=True)
class Gathered:
    """What a request brought."""

    id: str
    """The request's own id, unique whatever its correlation id: what `ScatterGather.get` takes."""
    correlation_id: str
    request: Message[Any] | None = None
    """The request as it was sent, with its deadline as ``expires_at``."""
    replies: list[Message[Any]] = field(default_factory=list)
    """The answers, in the order of their arrival, each once."""
    errors: list[Message[Any]] = field(default_factory=list)
    """The answers of responders that report a failure."""
    expected: int | None = None
    names: frozenset[str] | None = None
    """The responders expected by name; None: they were not named."""
    missing: frozenset[str] = frozenset()
    """Once complete: of the responders expected by name (a reply's ``source``), those that did not answer."""
    completed_by: CompletedBy | None = None
    """What completed it; None while it is running."""
    completed_at: float | None = None
    """Seconds since the epoch."""
    late: int = 0
    """Replies that came after completion; grows while the request is remembered."""
    late_replies: list[Message[Any]] | None = None
    """With a store, those replies; None without one, which only counts them."""

    @property
    def answered(self) -> int:
        """How many responders answered, those that failed included."""
        return len(self.replies) + len(self.errors)


@dataclass(slots=True)
class ReplyCounts:
    """Replies that found no open request; all are acknowledged."""

    late: int = 0
    """Came after their request was over."""
    unknown: int = 0
    """Belong to no request that is known."""
    ambiguous: int = 0
    """Carry no request id, and a correlation id that several requests share."""


class Conditions(NamedTuple):
    """When a request is complete, apart from its deadline."""

    expected: int | None
    names: frozenset[str] | None
    count: int | None  # type: ignore[assignment]  # hides tuple.count, which nobody needs of it

    @staticmethod
    def of(expected: int | Iterable[str] | None, count: int | None) -> Conditions:
        """Validate what `ScatterGather.request` was given."""
        if count is None and expected.__class__ is int:  # the common case: one object for all requests that share it
            known = _COMMON.get(expected)
            if known is not None:
                return known
        if count is not None:
            check_integer("count", count, least=1)
        if expected is None:
            return Conditions(None, None, count)
        if isinstance(expected, int):
            check_integer("expected", expected, least=0)
            return Conditions(expected, None, count)
        if isinstance(expected, (str, bytes)) or not isinstance(expected, Iterable):
            raise TypeError(f"expected must be a number or the responders' names, got {expected!r}")
        names = frozenset(expected)
        for name in names:
            if not isinstance(name, str):
                raise TypeError(f"expected must hold names (str), got {name!r}")
        return Conditions(len(names), names, count)


_COMMON: Final = {expected: Conditions(expected, None, None) for expected in range(1000)}


def check_deadline(name: str, duration: Duration) -> float:
    """The duration in seconds, where it is positive and finite; raises `TypeError` or `ConfigurationError`."""
    if (duration.__class__ is float or duration.__class__ is int) and 0 < duration < math.inf:
        return duration  # the common case, at the price of a comparison
    wait = check_duration(name, duration, positive=True)
    if wait == math.inf:
        raise ConfigurationError(f"{name} must be finite, got {duration!r}")
    return wait


def check_reply_channel(name: str, value: ReplyChannel) -> ReplyChannel:
    """The channel, where it is a `ReplyChannel`; raises `TypeError`."""
    if not isinstance(value, Source) or not isinstance(getattr(value, "address", None), str):
        raise TypeError(f"{name} must be a queue, or a source with an address, got {value!r}")
    return value


def check_function(name: str, value: _Function) -> _Function:
    """The function, or None; raises `TypeError` for anything else."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a function, got {value!r}")
    return value


def asked(body: Any, *, return_address: str, wait: float) -> Message[Any]:
    """The request as it is sent: with a request id of our own, its return address, and its deadline as expiry.

    The caller's correlation id is kept; without one, a whole message has its own id as such, and a body the request id.
    """
    key, ends = new_id(), clock.now() + wait
    if isinstance(body, Message):
        return body.replace(
            correlation_id=body.correlation_id or body.id,
            return_address=return_address,
            expires_at=ends,
            headers={**body.headers, REQUEST_ID: key},
        )
    headers = {REQUEST_ID: key}
    return Message(body, id=key, correlation_id=key, return_address=return_address, expires_at=ends, headers=headers)


class _ReplyCodec(JsonCodec):
    """JSON; what is not is text, or failing that, bytes: responders that do not know this library answer plainly."""

    @staticmethod
    @override
    def decode(raw: bytes | str) -> Any:
        """The body, whatever it is."""
        try:
            return load_json(raw)
        except DecodeError:
            try:
                return raw if isinstance(raw, str) else raw.decode()
            except UnicodeDecodeError:
                return raw


REPLY_CODEC: Final = _ReplyCodec()
"""Reads the body of any reply."""


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
        key = request.headers[REQUEST_ID]
        self.result = Gathered(
            id=key,
            correlation_id=request.correlation_id or key,
            request=request,
            expected=conditions.expected,
            names=conditions.names,
        )
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
        self._ended: list[asyncio.Future[None]] | None = None
        """... and at the end only, by those that await the result: a wake-up per reply costs more than the reply."""
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
                if self._ended is None:
                    self._ended = []
                yield from _news(self._ended)
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
                if self._watching is None:
                    self._watching = []
                await _news(self._watching)
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
        ids, result, identity = self._ids, self.result, reply.id
        if ids is None:
            ids = self._ids = {}
        elif identity in ids:
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
        self.result.completed_by, self.result.completed_at = by, clock.now()
        self.result.missing = frozenset(self._names or ())
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

    def _wake_all(self) -> None:
        if self._watching:
            _wake(self._watching)
        if self._ended:
            _wake(self._ended)


def _line(code: CodeType, offset: int) -> int:
    """The line of an instruction."""
    return next((line for start, end, line in code.co_lines() if start <= offset < end and line), code.co_firstlineno)


def _news(waiting: list[asyncio.Future[None]]) -> asyncio.Future[None]:
    news = asyncio.get_running_loop().create_future()
    waiting.append(news)
    return news


def _wake(waiting: list[asyncio.Future[None]]) -> None:
    for news in waiting:
        if not news.done():
            news.set_result(None)
    waiting.clear()
