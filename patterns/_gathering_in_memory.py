"""Gathering in this process: a dictionary from request id to request, and one timer for all deadlines."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Any, Final

from eip._logging import get_logger
from eip.errors import ConfigurationError, RequestTimeout
from eip.health import Health
from eip.message import REQUEST_ID, Message
from eip.patterns._gathering import REPLY_CODEC, Gathered, Gathering, ReplyChannel, ReplyCounts
from eip.patterns._reply_listeners import ReplyListeners

__all__ = ["MemoryGatherer"]

_log = get_logger("eip.scatter_gather")

_MAX_CLOSED: Final = 10_000
"""Closed requests that are remembered, so that their late replies are not counted as unknown."""
_MAX_SPARE: Final = 1000
"""Deadlines of requests that are over, kept until they are worth a sweep."""

IsError = Callable[[Message[Any]], bool]


class MemoryGatherer:
    """The requests of one process, open or recently closed; what it holds ends with the process."""

    def __init__(self, listeners: ReplyListeners, is_error: IsError | None) -> None:
        self._listeners, self._is_error = listeners, is_error
        self.counts = ReplyCounts()
        self._open: dict[str, Gathering] = {}
        self._closed: OrderedDict[str, Gathered] = OrderedDict()
        self._by_correlation: dict[str, list[str]] = {}
        """Ids of the requests, open or closed, whose correlation id is the caller's own."""
        self._deadlines: list[tuple[float, str]] = []
        """A heap of times and request ids."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return len(self._open)

    async def open(self, replies: ReplyChannel) -> None:
        """Begin to take replies."""
        self._listeners.take = self.take
        await self._listeners.listen(replies)

    def health(self) -> Health:
        """Memory does not fail."""
        return Health(ok=True)

    def close(self) -> None:
        """End what is still open with an error: no reply will come any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for gathering in list(self._open.values()):
            gathering.fail(ConfigurationError("the scatter-gather was closed while this request was open"))
            self._close(gathering)
        self._deadlines.clear()

    # Requests.

    async def send(self, gathering: Gathering) -> None:
        """Send the request, for no longer than it lasts; raises what sending raises, or `RequestTimeout`."""
        if gathering.conditions.expected == 0:
            gathering.complete("expected")
            return
        self._add(gathering)
        gathering.sending = asyncio.current_task()
        try:
            if gathering.replies.address not in self._listeners.active:
                await self._listeners.listen(gathering.replies)
            await gathering.to.send(gathering.request)
        except BaseException as error:
            if gathering.withdraw_interruption():
                _check_asked(gathering)
                return
            self._fail(gathering, error)
            raise
        if gathering.interrupted is not None:  # it was over just as the channel accepted it
            await _absorb(gathering)
        gathering.sending = None

    def _fail(self, gathering: Gathering, error: BaseException) -> None:
        """Its other waiters, if any, get the error as well."""
        if not isinstance(error, Exception):
            error = ConfigurationError("the request was cancelled while it was sent")
        gathering.fail(error)
        self._close(gathering)

    def abandon(self, gathering: Gathering) -> None:
        """See `Owner.abandon`."""
        self._close(gathering)

    def _add(self, gathering: Gathering) -> None:
        key, correlation_id = gathering.id, gathering.result.correlation_id
        self._open[key] = gathering
        if correlation_id != key:
            self._by_correlation.setdefault(correlation_id, []).append(key)
        heappush(self._deadlines, (gathering.when, key))
        if len(self._deadlines) > 2 * len(self._open) + _MAX_SPARE:
            self._deadlines = [each for each in self._deadlines if each[1] in self._open]
            heapify(self._deadlines)
        if self._timer is None or gathering.when < self._timer.when():
            self._schedule()

    def _close(self, gathering: Gathering) -> None:
        """The request is over, complete or abandoned; its late replies are still known for a while."""
        key = gathering.result.id
        if self._open.pop(key, None) is None:
            return
        self._closed[key] = gathering.result
        if len(self._closed) > _MAX_CLOSED:
            self._forget(self._closed.popitem(last=False)[1])
        if gathering.sending is not None:
            gathering.interrupt()

    def _forget(self, result: Gathered) -> None:
        same = self._by_correlation.get(result.correlation_id)
        if same is not None:
            same.remove(result.id)
            if not same:
                del self._by_correlation[result.correlation_id]

    # Replies.

    async def take(self, reply: Message[Any]) -> None:
        """Give a reply to its request; one that has none is counted."""
        # Where every correlation id is a request id, it finds the request at half the cost of the headers.
        gathering = None if self._by_correlation else self._open.get(reply.correlation_id or "")
        if gathering is None:
            gathering = self._find(reply)
            if gathering is None:
                return
        try:
            if self._is_error is None:
                failed = reply.type == "error"
            else:
                reply.decode_with(REPLY_CODEC)
                failed = self._is_error(reply)
            over = gathering.take(reply, failed=failed)
        except Exception as error:  # noqa: BLE001 - the caller's own predicate: the caller gets what it raised
            gathering.fail(error)
            over = True
        if over:
            self._close(gathering)

    def _find(self, reply: Message[Any]) -> Gathering | None:
        """The open request of a reply; one that has none is counted."""
        key = reply.header(REQUEST_ID) or self._of_correlation(reply)
        if key is None:
            return None
        gathering = self._open.get(key)
        if gathering is None:
            self._count_stray(key)
        return gathering

    def _of_correlation(self, reply: Message[Any]) -> str | None:
        """The one request with the correlation id of a foreign responder's reply; otherwise the reply is counted."""
        correlation_id = reply.correlation_id or ""
        keys = self._by_correlation.get(correlation_id, ())
        if correlation_id in self._open or correlation_id in self._closed:
            keys = [*keys, correlation_id]
        if len(keys) == 1:
            return keys[0]
        if keys:
            self.counts.ambiguous += 1
            _log.warning("reply_ambiguous", correlation_id=correlation_id, requests=len(keys), message_id=reply.id)
        else:
            self.counts.unknown += 1
        return None

    def _count_stray(self, key: str) -> None:
        closed = self._closed.get(key)
        if closed is None:
            self.counts.unknown += 1
            return
        closed.late += 1
        self.counts.late += 1

    # Results.

    async def open_requests(self, limit: int) -> list[str]:
        """See `ScatterGather.open_requests`."""
        return list(islice(self._open, limit))

    async def get(self, key: str) -> Gathered | None:
        """See `ScatterGather.get`."""
        gathering = self._open.get(key)
        return self._closed.get(key) if gathering is None else gathering.result

    async def result(self, key: str) -> Gathered:
        """See `ScatterGather.result`."""
        gathering = self._open.get(key)
        if gathering is not None:
            return await gathering
        return self._closed[key]

    async def watch(self, key: str) -> AsyncGenerator[Message[Any], None]:
        """See `ScatterGather.watch`."""
        gathering = self._open.get(key)
        if gathering is not None:
            async for reply in gathering:
                yield reply
            return
        for reply in self._closed[key].replies:
            yield reply

    # Deadlines: one timer for the earliest, whatever the number of requests.

    def _schedule(self) -> None:
        while self._deadlines and self._deadlines[0][1] not in self._open:
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
            gathering = self._open.get(heappop(self._deadlines)[1])
            if gathering is not None:
                gathering.complete("deadline")
                self._close(gathering)
        self._schedule()


def _check_asked(gathering: Gathering) -> None:
    """Raise `RequestTimeout` where the deadline passed while the request was sent, and nobody answered."""
    result = gathering.result
    if result.completed_by == "deadline" and not result.answered:
        error = RequestTimeout(f"{gathering.to.name} did not accept the request before its deadline")
        gathering.fail(error)
        raise error


async def _absorb(gathering: Gathering) -> None:
    """Let a cancellation arrive that was asked for by us and came too late to stop anything."""
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        if not gathering.withdraw_interruption():
            raise
