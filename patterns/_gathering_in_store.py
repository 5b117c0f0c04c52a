"""Gathering in a store: any number of processes with the same channels and store gather together.

A request is a record that is due at its deadline; a reply is a part of it, written once and acknowledged after that.
Whoever writes a reply looks whether the request is complete now; whoever finds it due completes it. Completing is one
conditional write, which lists the replies that count: a request is completed once, and its result never changes.

At a deadline, and where a predicate decides, the record is closed first, then the replies are read, then they are
listed: a reply that was written while the record was open is always in the result. Where a number is reached, that
reply sees the number as well, so the first step is not needed.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from typing import Any, Final, Literal, NamedTuple

from pydantic import BaseModel

from eip import clock
from eip._logging import get_logger
from eip.envelope import dump_message, load_message
from eip.errors import RequestTimeout, StoreError
from eip.message import REQUEST_ID, Message
from eip.patterns._due import DueLoop
from eip.patterns._gathering import REPLY_CODEC, CompletedBy, Gathered, Gathering, Predicate, ReplyChannel, ReplyCounts
from eip.patterns._reply_listeners import ReplyListeners
from eip.retry import Backoff
from eip.stores.base import ABSENT, Store

__all__ = ["StoreGatherer", "StoredGathering"]

_log = get_logger("eip.scatter_gather")

_MAX_CONFLICTS: Final = 50
_TICK_S: Final = 1e-6
"""Between the times of two replies, so that their order is that of their arrival."""
_AGAIN: Final = Backoff(base=0.02, cap=0.5)
"""Between attempts at a record that others change."""
_DOWNTIME_S: Final = 7 * 24 * 3600.0
"""How long all processes may be down after a deadline without losing replies."""
_MAX_KNOWN: Final = 100_000
"""Open requests whose replies are written without reading the record first."""
_MAX_POLLS_PER_S: Final = 500
"""Reads, of one process, for what others wrote."""
_MAX_SHARING: Final = 16
"""Requests listed under one correlation id; two are ambiguous already."""


class _Request(BaseModel):
    """A request's record."""

    v: int = 1
    state: Literal["open", "closing", "completed"] = "open"
    correlation_id: str
    expected: int | None = None
    names: list[str] | None = None
    count: int | None = None
    deadline: float
    completed_by: CompletedBy | None = None
    replies: list[str] = []
    errors: list[str] = []
    missing: list[str] = []
    """Once completed: the parts that are its replies, in the order of their arrival."""


class _Sharing(BaseModel):
    """Under a correlation id of the caller's own: the requests that have it, and until when."""

    requests: dict[str, float] = {}


class _Reply(NamedTuple):
    """A part, read."""

    at: float
    part: str
    failed: bool
    message: Message[Any]


class _Check:
    """Looks at one request, of which one serves all replies that were written before it began."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = self.writes = self.seen = 0
        self.request: _Request | None = None


class StoredGathering(Gathering):
    """A request in a store: it goes on whether anyone waits for it here or not."""

    __slots__ = ("_turn",)

    async def start(self) -> str:
        """See `Gathering.start`."""
        self._turn = getattr(self, "_turn", None) or asyncio.Lock()
        async with self._turn:
            if not self._started:
                await self._start()
        self._raise()
        return self.id

    def __await__(self) -> Generator[Any, None, Gathered]:
        key = yield from self.start().__await__()
        self.result = yield from self._owner.result(key).__await__()
        return self.result

    async def __aiter__(self) -> AsyncIterator[Message[Any]]:
        key = await self.start()
        async for reply in self._owner.watch(key):
            yield reply
        self.result = await self._owner.result(key)


class StoreGatherer:
    """The requests of all processes that share the store."""

    def __init__(
        self,
        store: Store,
        listeners: ReplyListeners,
        *,
        is_error: Callable[[Message[Any]], bool] | None,
        until: Predicate | None,
        remember: float,
        poll: float,
    ) -> None:
        self._store, self._listeners = store, listeners
        self._is_error, self._until = is_error, until
        self._remember, self._poll = remember, poll
        self.counts = ReplyCounts()
        self._open: OrderedDict[str, float] = OrderedDict()
        """The deadlines of requests that were open when this process last looked."""
        self._last_at = 0.0
        self._checks: dict[str, _Check] = {}
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._due = DueLoop(store, self._on_due, name="eip.scatter_gather")
        self._task: asyncio.Task[None] | None = None

    @property
    def in_flight(self) -> int:
        """Requests that were open when this process last looked."""
        return len(self._open)

    async def open(self, replies: ReplyChannel) -> None:
        """Begin to take replies, and to complete what is due."""
        self._listeners.take = self.take
        await self._listeners.listen(replies)
        self._task = asyncio.create_task(self._due.run(), name="scatter-gather deadlines")

    def close(self) -> None:
        """Leave what is open to the other processes, and to the next start."""
        if self._task is not None:
            self._due.stop()
            self._task.cancel()
            self._task = None

    # Requests.

    async def send(self, gathering: Gathering) -> None:
        """Write the request down, then send it; raises what sending raises, or `RequestTimeout`."""
        try:
            async with asyncio.timeout_at(gathering.when):
                await self._send(gathering)
        except TimeoutError as error:
            late = RequestTimeout(f"{gathering.to.name} did not accept the request before its deadline")
            gathering.fail(late)
            raise late from error
        except Exception as error:
            gathering.fail(error)
            await self._withdraw(gathering.id)
            raise

    async def _send(self, gathering: Gathering) -> None:
        if gathering.replies.address not in self._listeners.active:
            await self._listeners.listen(gathering.replies)
        await self._create(gathering)
        if gathering.conditions.expected != 0:
            await gathering.to.send(gathering.request)

    async def _withdraw(self, key: str) -> None:
        """Nobody was asked: forget the request, or failing that, let it end at its deadline."""
        self._open.pop(key, None)
        try:
            await self._store.delete(key)
        except StoreError as error:
            _log.warning("request_not_withdrawn", request_id=key, error=str(error))

    def abandon(self, gathering: Gathering) -> None:
        """Nothing: it goes on."""

    async def _create(self, gathering: Gathering) -> None:
        key, conditions = gathering.id, gathering.conditions
        deadline = gathering.request.expires_at or clock.now()
        request = _Request(
            correlation_id=gathering.result.correlation_id,
            expected=conditions.expected,
            names=None if conditions.names is None else sorted(conditions.names),
            count=conditions.count,
            deadline=deadline,
        )
        if request.correlation_id != key:
            await self._share(request.correlation_id, key, deadline + self._remember)
        if conditions.expected == 0:
            request.state, request.completed_by = "completed", "expected"
        await self._write(key, request, ABSENT)
        if request.state == "open":
            self._note_open(key, deadline)
            self._due.wake(deadline)

    async def _share(self, correlation_id: str, key: str, until: float) -> None:
        """List the request under its correlation id, for replies that carry nothing else."""
        name = _sharing_key(correlation_id)
        for attempt in range(1, _MAX_CONFLICTS):
            found = await self._store.get(name)
            sharing = _Sharing() if found is None else _Sharing.model_validate_json(found.value)
            now = clock.now()
            live = [(each, end) for each, end in sharing.requests.items() if end > now]
            sharing.requests = dict([*live[-_MAX_SHARING:], (key, until)])
            version = ABSENT if found is None else found.version
            ends = max(sharing.requests.values())
            if await self._store.put(name, sharing.model_dump_json().encode(), version=version, expires_at=ends):
                return
            await asyncio.sleep(_AGAIN.delay(attempt))
        raise StoreError(f"the requests of one correlation id changed {_MAX_CONFLICTS} times while one was added")

    async def _write(self, key: str, request: _Request, version: str) -> str | None:
        completed = request.state == "completed"
        return await self._store.put(
            key,
            request.model_dump_json().encode(),
            version=version,
            due=None if completed else request.deadline,
            expires_at=clock.now() + self._remember if completed else None,
        )

    def _note_open(self, key: str, deadline: float) -> None:
        self._open[key] = deadline
        if len(self._open) > _MAX_KNOWN:
            self._open.popitem(last=False)

    # Replies.

    async def take(self, reply: Message[Any]) -> None:
        """Write a reply to its request; one that has none is counted. Raises `StoreError`: it comes again."""
        key = await self._key_of(reply)
        if key is None:
            return
        deadline = self._open.get(key)
        if deadline is None:
            request = await self._read(key)
            if request is None:
                self.counts.unknown += 1
                return
            if request.state == "completed":
                self._count_late(request, _part(reply)[0])
                return
            deadline = request.deadline
            self._note_open(key, deadline)
        part, dumped = _part(reply)
        self._last_at = max(clock.now(), self._last_at + _TICK_S)
        head = f"{self._last_at!r} {int(self._failed(reply))}\n".encode()
        await self._store.put_part(key, part, head + dumped, expires_at=deadline + self._remember + _DOWNTIME_S)
        after = await self._look(key)
        if after is not None and after.state == "completed":
            self._count_late(after, part)
        self._wake(key)

    def _count_late(self, request: _Request, part: str) -> None:
        if part not in request.replies and part not in request.errors:
            self.counts.late += 1

    def _failed(self, reply: Message[Any]) -> bool:
        reply.decode_with(REPLY_CODEC)
        try:
            return reply.type == "error" if self._is_error is None else self._is_error(reply)
        except Exception as error:  # noqa: BLE001 - the caller's own function; the reply must not come for ever
            _log.error("is_error_failed", message_id=reply.id, error=repr(error))
            return True

    async def _key_of(self, reply: Message[Any]) -> str | None:
        key = reply.headers.get(REQUEST_ID)
        if key is None:
            key = await self._of_correlation(reply.correlation_id or "")
        elif not _is_id(key):
            self.counts.unknown += 1
            return None
        return key

    async def _of_correlation(self, correlation_id: str) -> str | None:
        """The one request of a foreign responder's reply; otherwise the reply is counted."""
        keys: list[str] = []
        if _is_id(correlation_id) and (correlation_id in self._open or await self._read(correlation_id) is not None):
            keys.append(correlation_id)
        found = await self._store.get(_sharing_key(correlation_id)) if not keys else None
        if found is not None:
            now = clock.now()
            keys += [key for key, end in _Sharing.model_validate_json(found.value).requests.items() if end > now]
        if len(keys) == 1:
            return keys[0]
        if keys:
            self.counts.ambiguous += 1
        else:
            self.counts.unknown += 1
        return None

    # Completion.

    async def _on_due(self, key: str) -> None:
        await self._look(key)
        self._wake(key)

    async def _look(self, key: str) -> _Request | None:
        """The request as it is after all that was written until now; completed, where it is complete."""
        check = self._checks.setdefault(key, _Check())
        check.users += 1
        check.writes = ticket = check.writes + 1
        try:
            async with check.lock:
                if check.seen < ticket:
                    seen = check.writes
                    check.request = await self._complete(key)
                    check.seen = seen
                return check.request
        finally:
            check.users -= 1
            if not check.users:
                self._checks.pop(key, None)

    async def _complete(self, key: str) -> _Request | None:
        for attempt in range(1, _MAX_CONFLICTS):
            found = await self._store.get(key)
            if found is None:
                self._open.pop(key, None)
                return None
            request, version = _Request.model_validate_json(found.value), found.version
            if request.state == "completed":
                self._open.pop(key, None)
                return request
            replies = await self._replies(key)
            by = self._completed_by(request, replies)
            if request.state == "open":
                if by is None and clock.now() < request.deadline:
                    return request
                if by in (None, "predicate"):
                    request.state, request.completed_by = "closing", by or "deadline"
                    closed = await self._write(key, request, version)
                    if closed is None:
                        continue
                    version, replies = closed, await self._replies(key)
            _close(request, replies, by or request.completed_by or "deadline")
            if await self._write(key, request, version) is not None:
                self._open.pop(key, None)
                return request
            await asyncio.sleep(_AGAIN.delay(attempt))
        raise StoreError(f"request {key} changed {_MAX_CONFLICTS} times while it was completed")

    def _completed_by(self, request: _Request, replies: list[_Reply]) -> CompletedBy | None:
        if request.names is not None:
            if {each.message.source for each in replies}.issuperset(request.names):
                return "expected"
        elif request.expected is not None and len(replies) >= request.expected:
            return "expected"
        answers = [each.message for each in replies if not each.failed]
        if request.count is not None and len(answers) >= request.count:
            return "count"
        try:
            return "predicate" if answers and self._until is not None and self._until(answers) else None
        except Exception as error:  # noqa: BLE001 - the caller's own function; the deadline still ends the request
            _log.error("until_failed", error=repr(error))
            return None

    async def _replies(self, key: str) -> list[_Reply]:
        """What was written so far, each message once, in the order of arrival."""
        found = sorted(_read_part(part, raw) for part, raw in (await self._store.parts(key)).items())
        return list({each.message.id: each for each in reversed(found)}.values())[::-1]

    async def _read(self, key: str) -> _Request | None:
        found = await self._store.get(key)
        return None if found is None else _Request.model_validate_json(found.value)

    # Results.

    async def get(self, key: str) -> Gathered | None:
        """See `ScatterGather.get`."""
        if not _is_id(key):
            return None
        replies = await self._replies(key)
        request = await self._read(key)
        return None if request is None else _gathered(key, request, replies)

    async def result(self, key: str) -> Gathered:
        """See `ScatterGather.result`."""
        while True:
            request = await self._read(key) if _is_id(key) else None
            if request is None:
                raise KeyError(key)
            if request.state == "completed":
                return _gathered(key, request, await self._replies(key))
            await self._news(key)

    async def watch(self, key: str) -> AsyncGenerator[Message[Any], None]:
        """See `ScatterGather.watch`."""
        given: set[str] = set()
        while True:
            found = await self.get(key)
            if found is None:
                raise KeyError(key)
            for reply in found.replies:
                if reply.id not in given:
                    given.add(reply.id)
                    yield reply
            if found.completed_by is not None:
                return
            await self._news(key)

    async def _news(self, key: str) -> None:
        """Wait for something written here, or long enough to look for what others wrote."""
        news = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(news)
        try:
            await asyncio.wait((news,), timeout=max(self._poll, len(self._waiting) / _MAX_POLLS_PER_S))
        finally:
            waiting = self._waiting.get(key, [])
            if news in waiting:
                waiting.remove(news)
            if not waiting:
                self._waiting.pop(key, None)

    def _wake(self, key: str) -> None:
        for news in self._waiting.pop(key, ()):
            if not news.done():
                news.set_result(None)


def _close(request: _Request, replies: list[_Reply], by: CompletedBy) -> None:
    request.state, request.completed_by = "completed", by
    request.replies = [each.part for each in replies if not each.failed]
    request.errors = [each.part for each in replies if each.failed]
    request.missing = sorted(set(request.names or ()) - {each.message.source or "" for each in replies})


def _gathered(key: str, request: _Request, replies: list[_Reply]) -> Gathered:
    completed = request.state == "completed"
    counted = {*request.replies, *request.errors} if completed else {each.part for each in replies}
    return Gathered(
        id=key,
        correlation_id=request.correlation_id,
        replies=[each.message for each in replies if each.part in counted and not each.failed],
        errors=[each.message for each in replies if each.part in counted and each.failed],
        expected=request.expected,
        missing=frozenset(request.missing),
        completed_by=request.completed_by if completed else None,
        late=sum(each.part not in counted for each in replies),
    )


def _is_id(text: str) -> bool:
    return len(text) == 32 and text.isalnum() and text.isascii()


def _sharing_key(correlation_id: str) -> str:
    return "correlation-" + hashlib.sha256(correlation_id.encode("utf-8", "surrogatepass")).hexdigest()


def _part(reply: Message[Any]) -> tuple[str, bytes]:
    """The name of a reply's part, and the reply as it is stored.

    The name is that of the content: a reply that comes again is the same part, another with its id is not.
    """
    dumped = dump_message(reply)
    return hashlib.sha256(reply.id.encode() + b"\0" + reply.encode()).hexdigest(), dumped


def _read_part(part: str, raw: bytes) -> _Reply:
    head, _, dumped = raw.partition(b"\n")
    at, failed = head.split()
    message = load_message(dumped)
    message.decode_with(REPLY_CODEC)
    return _Reply(float(at), part, failed == b"1", message)
