"""Gathering in a store: any number of processes with the same channels and store gather together.

A request is a record that is due at its deadline; a reply is a part of it, written once and acknowledged after that.
Whoever has written a reply looks whether the request is complete; whoever finds a request due completes it. Completing
is one conditional write, which lists the replies that count: a request is completed once, and its result never changes.

Which replies count:

- Replies count in the order of their arrival, up to the one that completes the request. A surplus one is late, also
  where it was stored before the request was completed: the same result as in memory, where replies come one by one.
- At the deadline all count that are stored when the record is completed. Whoever completes it reads them after the
  deadline, so a reply that was stored before it is always in the result.
- A reply that is stored between that read and the write is late. Whoever stored it reads the record afterwards, and so
  knows. The loser of two conditional writes starts again with what the winner wrote.

Arrival times are those of the processes' clocks: where these differ, so does the order, until the result fixes it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from math import inf
from typing import Any, Final, NamedTuple

from typing_extensions import override

from eip import clock
from eip._logging import get_logger
from eip.errors import RequestTimeout, StoreError
from eip.health import Health, HealthTracker
from eip.message import REQUEST_ID, Message
from eip.patterns._completion_notices import CompletionNotices, OnComplete
from eip.patterns._gathering import (
    REPLY_CODEC,
    CompletedBy,
    Gathered,
    Gathering,
    Predicate,
    ReplyChannel,
    ReplyCounts,
)
from eip.patterns._gathering_records import (
    RequestRecord,
    Sharing,
    StoredReply,
    gathered,
    in_order,
    is_request_id,
    sharing_key,
    sorted_out,
)
from eip.patterns._records import Records, Versioned, after_conflict
from eip.patterns._reply_listeners import ReplyListeners
from eip.patterns._scheduler import Scheduler
from eip.stores.base import ABSENT, Store

__all__ = ["StoreGatherer", "StoredGathering"]

_log = get_logger("eip.scatter_gather")

_TICK_S: Final = 1e-6
"""Between the times of two replies, so that their order is that of their arrival."""
_MAX_DOWNTIME_S: Final = 7 * 24 * 3600.0
"""How long all processes may be down after a deadline without losing replies."""
_MAX_KNOWN: Final = 100_000
"""Open requests whose replies are written without reading the record first."""
_SPARE: Final = 1000
"""Requests past their deadline that are kept until they are worth a sweep."""
_MAX_POLLS_PER_S: Final = 500
"""Reads, of one process, for what others wrote."""
_MAX_SHARING: Final = 16
"""Requests listed under one correlation id; two are ambiguous already."""
_LATE_S: Final = 1.0
"""After its deadline, a request is completed where it was made and is waited for, though by the clock on the wall it is
not over: that was set back."""
_FAR_S: Final = 10 * 365 * 24 * 3600.0
"""All open requests are due within that time."""


class _Known(NamedTuple):
    """What a process remembers of a request that is open."""

    deadline: float
    least_replies: int
    """It is not complete before its deadline while the store has fewer: nobody needs to look."""
    ends: float = inf
    """When it is over by the loop's clock, of a request that was made here."""


class _Check:
    """Looks at one request: one look serves all replies that were written before it began."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = self.writes = self.seen = 0
        self.record: RequestRecord | None = None


class StoredGathering(Gathering):
    """A request in a store: it goes on whether anyone waits for it here or not."""

    __slots__ = ("_turn", "notify")

    notify: bool
    """Whether ``on_complete`` is to be called once it is complete."""

    @override
    async def start(self) -> str:
        self._turn = getattr(self, "_turn", None) or asyncio.Lock()
        async with self._turn:
            if not self._started:
                await self._start()
        self._raise()
        return self.id

    @override
    def __await__(self) -> Generator[Any, None, Gathered]:
        key = yield from self.start().__await__()
        self.result = yield from self._owner.result(key).__await__()
        return self.result

    @override
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
        on_complete: OnComplete | None,
        retention: float,
        poll_interval: float,
    ) -> None:
        self._store, self._listeners = store, listeners
        self._sharing = Records(store, Sharing)
        self._is_error, self._until = is_error, until
        self._retention, self._poll_interval = retention, poll_interval
        self.counts = ReplyCounts()
        self._health = HealthTracker()
        self._open: OrderedDict[str, _Known] = OrderedDict()
        """The requests that were open when this process last looked."""
        self._max_open = _SPARE
        """Requests in ``_open`` before those past their deadline are swept."""
        self._last_at = 0.0
        self._checks: dict[str, _Check] = {}
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._due = Scheduler(store, self._on_due, name="scatter_gather")
        self._notices = CompletionNotices(store, on_complete, get=self.get, wake=self._due.wake, retention=retention)
        self._task: asyncio.Task[None] | None = None

    @property
    def in_flight(self) -> int:
        """Requests that were open when this process last looked, and have not reached their deadline."""
        now = clock.now()
        return sum(known.deadline > now for known in self._open.values())

    async def open(self, replies: ReplyChannel) -> None:
        """Begin to take replies, and to complete what is due."""
        self._listeners.take = self.take
        await self._listeners.listen(replies)
        self._task = asyncio.create_task(self._due.run(), name="scatter-gather deadlines")

    def close(self) -> None:
        """Leave what is open to the other processes, and to the next start."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def health(self) -> Health:
        """Whether the store takes what is written to it, and what is due gets done, completion functions included."""
        found, due = self._health.health(), self._due.health()
        return due if found.ok and due.failing_since is not None else found

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
        record = RequestRecord.new(
            gathering.request,
            correlation_id=gathering.result.correlation_id,
            expected=conditions.expected,
            names=None if conditions.names is None else sorted(conditions.names),
            count=conditions.count,
            deadline=deadline,
            notify=isinstance(gathering, StoredGathering) and gathering.notify,
        )
        if record.correlation_id != key:
            await self._share(record.correlation_id, key, deadline + self._retention)
        if conditions.expected == 0:
            record.complete("expected", [], clock.now())
        await self._write(key, record, ABSENT)
        if not record.completed:
            self._note_open(key, record, ends=gathering.when + _LATE_S)
            self._due.wake(deadline)

    async def _share(self, correlation_id: str, key: str, until: float) -> None:
        """List the request under its correlation id, for replies that carry nothing else."""
        name = sharing_key(correlation_id)
        conflicts = 0
        while True:
            held = await self._sharing.read(name) or Versioned(Sharing())
            now = clock.now()
            live = [(each, end) for each, end in held.value.requests.items() if end > now]
            held.value.requests = dict([*live[-_MAX_SHARING:], (key, until)])
            if await self._sharing.write(name, held, expires_at=max(held.value.requests.values())):
                return
            conflicts = await after_conflict(conflicts, f"the list of requests of correlation id {correlation_id!r}")

    async def _write(self, key: str, record: RequestRecord, version: str) -> bool:
        if record.completed and record.notify:
            await self._notices.add(key)
        written = await self._store.put(
            key,
            record.dump(),
            version=version,
            due=None if record.completed else record.deadline,
            expires_at=clock.now() + self._retention if record.completed else None,
        )
        return written is not None

    def _note_open(self, key: str, record: RequestRecord, *, ends: float = inf) -> None:
        self._open[key] = _Known(record.deadline, 1 if self._until is not None else record.least_replies, ends)
        if len(self._open) > self._max_open:  # others have completed some; what they do is not reported to us
            now = clock.now()
            self._open = OrderedDict(item for item in self._open.items() if item[1].deadline > now)
            self._max_open = 2 * len(self._open) + _SPARE
        if len(self._open) > _MAX_KNOWN:
            self._open.popitem(last=False)

    # Replies.

    async def take(self, reply: Message[Any]) -> None:
        """Write a reply to its request; one that has none is counted. Raises `StoreError`: it comes again."""
        try:
            await self._take(reply)
        except StoreError as error:
            self._health.failed(error)
            raise
        self._health.succeeded()

    async def _take(self, reply: Message[Any]) -> None:
        key = await self._key_of(reply)
        if key is None:
            return
        known = self._open.get(key)
        if known is None:
            record = await self._read(key)
            if record is None:
                self.counts.unknown += 1
                return
            known = _Known(record.deadline, 0)
            if not record.completed:
                self._note_open(key, record)
        self._last_at = max(clock.now(), self._last_at + _TICK_S)
        part, value = StoredReply.dump(reply, at=self._last_at, failed=self._failed(reply))
        expires_at = known.deadline + self._retention + _MAX_DOWNTIME_S
        count = await self._store.put_part(key, part, value, expires_at=expires_at)
        if count is None or count >= known.least_replies or clock.now() >= known.deadline:
            after = await self._look(key)
            if after is not None and after.completed and not after.counts(part):
                self.counts.late += 1
        self._wake(key)

    def _failed(self, reply: Message[Any]) -> bool:
        reply.decode_with(REPLY_CODEC)
        try:
            return reply.type == "error" if self._is_error is None else self._is_error(reply)
        except Exception as error:  # noqa: BLE001 - the caller's own function; the reply must not come for ever
            _log.error("is_error_failed", message_id=reply.id, error=repr(error))
            return True

    async def _key_of(self, reply: Message[Any]) -> str | None:
        key = reply.header(REQUEST_ID)
        if key is None:
            return await self._of_correlation(reply.correlation_id or "")
        if not is_request_id(key):
            self.counts.unknown += 1
            return None
        return key

    async def _of_correlation(self, correlation_id: str) -> str | None:
        """The one request of a foreign responder's reply; otherwise the reply is counted."""
        keys: list[str] = []
        if is_request_id(correlation_id) and (correlation_id in self._open or await self._read(correlation_id)):
            keys.append(correlation_id)
        held = await self._sharing.read(sharing_key(correlation_id))
        if held is not None:
            now = clock.now()
            keys += [key for key, end in held.value.requests.items() if end > now]
        if len(keys) == 1:
            return keys[0]
        if keys:
            self.counts.ambiguous += 1
        else:
            self.counts.unknown += 1
        return None

    # Completion.

    async def _on_due(self, key: str) -> None:
        if self._notices.is_notice(key):
            await self._notices.call(key)
            return
        await self._look(key)
        self._wake(key)

    async def _look(self, key: str) -> RequestRecord | None:
        """The request as it is after all that was written until now; completed, where it is complete."""
        check = self._checks.setdefault(key, _Check())
        check.users += 1
        check.writes = ticket = check.writes + 1
        try:
            async with check.lock:
                if check.seen < ticket:
                    seen = check.writes
                    check.record = await self._complete(key)
                    check.seen = seen
                return check.record
        finally:
            check.users -= 1
            if not check.users:
                self._checks.pop(key, None)

    async def _complete(self, key: str, *, over: bool = False) -> RequestRecord | None:
        conflicts = 0
        while True:
            found = await self._store.get(key)
            record = None if found is None else RequestRecord.load(found.value)
            if found is None or record is None or record.completed:
                self._open.pop(key, None)
                return record
            # Before the replies are read: what was stored by then is read.
            over = over or clock.now() >= record.deadline
            replies = in_order(await self._store.parts(key))
            by, counted = self._outcome(record, replies)
            if by is None and not over:
                return record
            record.complete(by or "deadline", counted, clock.now())
            if await self._write(key, record, found.version):
                self._open.pop(key, None)
                return record
            conflicts = await after_conflict(conflicts, f"request {key}")

    def _outcome(
        self, record: RequestRecord, replies: list[StoredReply]
    ) -> tuple[CompletedBy | None, list[StoredReply]]:
        """What completes the request, if anything, and the replies up to the one that did."""
        missing = None if record.names is None else set(record.names)
        answers: list[Message[Any]] = []
        successes = 0
        for number, reply in enumerate(replies, 1):
            successes += not reply.failed
            by: CompletedBy | None = None
            if missing is not None:
                missing.discard(reply.source)
                by = None if missing else "expected"
            elif number == record.expected:
                by = "expected"
            if by is None and successes == record.count:
                by = "count"
            if by is None and self._until is not None and not reply.failed and (answer := reply.message) is not None:
                answers.append(answer)
                by = "predicate" if self._satisfied(answers) else None
            if by is not None:
                return by, replies[:number]
        return None, replies

    def _satisfied(self, answers: list[Message[Any]]) -> bool:
        assert self._until is not None
        try:
            return self._until(answers)
        except Exception as error:  # noqa: BLE001 - the caller's own function; the deadline still ends the request
            _log.error("until_failed", error=repr(error))
            return False

    async def _read(self, key: str) -> RequestRecord | None:
        found = await self._store.get(key)
        return None if found is None else RequestRecord.load(found.value)

    # Results.

    async def open_requests(self, limit: int) -> list[str]:
        """See `ScatterGather.open_requests`."""
        keys: list[str] = []
        asked = limit
        while len(keys) < limit:
            due = await self._store.due(clock.now() + _FAR_S, limit=asked)
            keys = [key for key in due if not self._notices.is_notice(key)]
            if len(due) < asked:
                break
            asked *= 2
        return keys[:limit]

    async def get(self, key: str) -> Gathered | None:
        """See `ScatterGather.get`."""
        found = await self._found(key)
        return None if found is None else gathered(key, *found)

    async def _found(self, key: str) -> tuple[RequestRecord, dict[str, bytes]] | None:
        """The record, then its parts: what it lists is stored already."""
        record = await self._read(key) if is_request_id(key) else None
        if record is None:
            return None
        parts = await self._store.parts(key)
        gone = {*record.replies, *record.errors}.difference(parts)
        return None if gone else (record, parts)  # gone: it expired between the two reads

    async def result(self, key: str) -> Gathered:
        """See `ScatterGather.result`."""
        while True:
            record = await self._read(key) if is_request_id(key) else None
            found = await self.get(key) if record is None or record.completed else None
            if found is not None:
                return found
            if record is None or record.completed:
                raise KeyError(key)
            await self._news(key)

    async def watch(self, key: str) -> AsyncGenerator[Message[Any], None]:
        """See `ScatterGather.watch`."""
        given: set[str] = set()
        while True:
            found = await self._found(key)
            if found is None:
                raise KeyError(key)
            record, parts = found
            for reply in sorted_out(record, parts)[0]:
                if reply.id not in given and (message := reply.message) is not None:
                    given.add(reply.id)
                    yield message
            if record.completed:
                return
            await self._news(key)

    async def _news(self, key: str) -> None:
        """Wait for something written here, or long enough to look for what others wrote."""
        loop, known = asyncio.get_running_loop(), self._open.get(key)
        if known is not None and loop.time() >= known.ends:
            await self._complete(key, over=True)
            return
        news = loop.create_future()
        self._waiting.setdefault(key, []).append(news)
        try:
            await asyncio.wait((news,), timeout=max(self._poll_interval, len(self._waiting) / _MAX_POLLS_PER_S))
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
