"""Makes the calls of what waits in a queue: retries, order within a group, bounded numbers, and an end.

There is no timer unless ``linger`` is set: what comes is sent at once where no call is under way, and under load
batches fill by themselves. Entries of one group are sent one call after the other, so that a retry keeps their order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, Generic, NamedTuple, Protocol, TypeVar, cast

from eip.errors import InvalidMessage, SendError, TransportError
from eip.limits import MIB
from eip.retry import Backoff
from eip.transports.aws._client.errors import Unreachable

__all__ = ["FRUGAL", "RETRY_BACKOFF", "BatchDispatcher", "Batching", "Outcome"]

Outcome = Exception | None
"""The outcome of an entry; None where the service accepted it."""

RETRY_BACKOFF: Final = Backoff(base=0.1, cap=5.0)
_MAX_ATTEMPTS: Final = 8
_MAX_CALLS: Final = 16
_MAX_WAIT_S: Final = 0.05
"""Entries wait for the call under way, while theirs fills; not longer, as it may hang."""
_UNREACHABLE_S: Final = 4.0
"""How long entries are tried at an endpoint that has never answered."""
_MAX_WAITING: Final = 10_000
_MAX_WAITING_BYTES: Final = 64 * MIB
"""Senders wait while more than this is waiting for a call: back-pressure."""


class Batching(NamedTuple):
    """When a call begins that is not full."""

    linger: float = 0.0
    """Seconds that it may wait until it is full; 0: none."""
    max_partial_calls: int = 1
    """Once fewer calls than that are under way."""


FRUGAL: Final = Batching()
"""One call that is not full at a time."""


class _QueuedEntry(Protocol):
    attempt: int
    """How often it was tried."""
    begun: float
    """When its first call began, by the loop's clock; 0: it did not."""

    @property
    def group(self) -> str | None:
        """What it has to stay in order with; None: nothing."""
        ...

    def settle(self, outcome: Outcome) -> None:
        """Report the outcome to whoever sent it."""
        ...


_Entry = TypeVar("_Entry", bound=_QueuedEntry)


class _BatchQueue(Protocol[_Entry]):
    waiting: int
    """Messages."""
    size: int
    """Bytes that wait."""

    @property
    def sendable(self) -> bool:
        """Whether there is anything to take."""
        ...

    @property
    def full(self) -> bool:
        """Whether what can be taken is worth a call of its own."""
        ...

    def take(self) -> list[_Entry]:
        """Take what a call carries; its groups are then busy until `release`."""
        ...

    def put_back(self, entries: Sequence[_Entry], /) -> None:
        """Put entries of a batch back in front, in their order."""
        ...

    def release(self, batch: Sequence[_Entry], /) -> None:
        """Open the groups of the entries again."""
        ...

    def clear(self) -> Iterator[_Entry]:
        """Forget all entries, and return them."""
        ...


class BatchDispatcher(Generic[_Entry]):
    """Makes calls of what is in a queue, once `_schedule` was called after it was added.

    Args:
        call: one call of the service, not retried.
        queue: what waits.
        batching: when calls begin that are not full.
        attempts: how often an entry is tried; default: 8 times.
    """

    def __init__(
        self,
        call: Callable[[Sequence[_Entry]], Awaitable[Sequence[Outcome]]],
        queue: _BatchQueue[_Entry],
        *,
        batching: Batching = FRUGAL,
        attempts: int | None = None,
    ) -> None:
        self._call, self._attempts = call, attempts or _MAX_ATTEMPTS
        self._linger, self._max_partial_calls = batching
        self._queue = queue
        self._calls: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Handle | None = None
        self._wait_timer: asyncio.Handle | None = None
        self._room = asyncio.Event()
        self._aborting = False

    @property
    def _room_left(self) -> int:
        """How many messages may be added before senders have to wait."""
        return 0 if self._queue.size >= _MAX_WAITING_BYTES else _MAX_WAITING - self._queue.waiting

    async def _make_room(self) -> None:
        """Return when there is some, after none was left."""
        while self._room_left <= 0:
            self._room.clear()  # before the pump, which may make all the room that there will be
            self._pump()
            await self._room.wait()

    async def flush(self) -> None:
        """Return when every entry was accepted or has failed."""
        while self._queue.waiting or self._calls:
            self._pump(due=True)
            if not self._calls:
                return  # it is being closed
            await asyncio.wait(self._calls)

    async def aclose(self, *, timeout: float) -> None:  # noqa: ASYNC109 - expiry is no error here
        """Flush for at most ``timeout`` seconds; then fail the entries that are left."""
        try:
            async with asyncio.timeout(timeout):
                await self.flush()
        except TimeoutError:
            await self._abort()

    async def _abort(self) -> None:
        self._aborting = True
        try:
            for call in self._calls:
                call.cancel()
            if self._calls:
                await asyncio.wait(self._calls)
            for entry in self._queue.clear():
                entry.settle(SendError("the transport was closed before it was sent"))
            self._room.set()
        finally:
            self._aborting = False

    def _schedule(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._linger, self._due) if self._linger else loop.call_soon(self._due)
        if self._linger and self._queue.full:
            self._pump()

    def _due(self) -> None:
        self._timer = None
        self._pump(due=bool(self._linger))

    def _wait_ended(self) -> None:
        self._wait_timer = None
        self._pump(due=self._timer is None)

    def _pump(self, *, due: bool = False) -> None:
        """Start full calls; start one that is not full where few are under way and no timer runs, or it is due."""
        while self._queue.sendable and len(self._calls) < _MAX_CALLS and not self._aborting:
            if not (due or self._queue.full or (len(self._calls) < self._max_partial_calls and self._timer is None)):
                if self._timer is None and self._wait_timer is None:
                    self._wait_timer = asyncio.get_running_loop().call_later(_MAX_WAIT_S, self._wait_ended)
                return
            batch = self._queue.take()
            self._room.set()
            self._calls.add(asyncio.create_task(self._send(batch), name="batch call"))

    async def _send(self, batch: list[_Entry]) -> None:
        again: list[_Entry] = []
        now = asyncio.get_running_loop().time()
        for entry in batch:
            entry.begun = entry.begun or now
        try:
            outcomes = await self._outcomes(batch)
            again = self._settle(batch, outcomes)
            if again:
                batch = self._release_done(batch, again)
                await asyncio.sleep(RETRY_BACKOFF.delay(max(entry.attempt for entry in again)))
        except asyncio.CancelledError:
            for entry in again or batch:
                entry.settle(SendError("the transport was closed while sending"))
            again = []
            raise
        finally:
            self._requeue(batch, again)

    async def _outcomes(self, batch: Sequence[_Entry]) -> Sequence[Outcome]:
        try:
            return await self._call(batch)
        except InvalidMessage as error:
            if len(batch) == 1:
                return [error]
        except Exception as error:  # noqa: BLE001 - the outcome of every entry
            return [error] * len(batch)
        # The service refused the whole call for one bad entry: the others, of other senders, must not pay for it.
        return [outcome for entry in batch for outcome in await self._outcomes([entry])]

    def _settle(self, batch: list[_Entry], outcomes: Sequence[Outcome]) -> list[_Entry]:
        """Settle the finished entries; returns those to send again, in order."""
        again: list[_Entry] = []
        accepted_after: set[str] = set()
        for entry, outcome in zip(reversed(batch), reversed(outcomes), strict=True):
            entry.attempt += 1
            transient = isinstance(outcome, TransportError) and outcome.transient
            if outcome is None:
                if entry.group is not None:
                    accepted_after.add(entry.group)
            elif transient and entry.group in accepted_after:
                error = SendError(f"later messages of group {entry.group} were accepted; sent again, it would be late")
                error.__cause__ = outcome
                entry.settle(error)
                continue
            elif transient and entry.attempt < self._attempts and not _hopeless(entry, outcome):
                again.append(entry)
                continue
            entry.settle(outcome)
        return again[::-1]

    def _release_done(self, batch: list[_Entry], again: list[_Entry]) -> list[_Entry]:
        """Let groups go on that have nothing to send again; returns the entries of the others."""
        held = {entry.group for entry in again}
        self._queue.release([entry for entry in batch if entry.group not in held])
        self._pump()
        return [entry for entry in batch if entry.group in held]

    def _requeue(self, batch: list[_Entry], again: list[_Entry]) -> None:
        self._queue.put_back(again)
        self._queue.release(batch)
        self._room.set()
        self._calls.discard(cast("asyncio.Task[None]", asyncio.current_task()))
        self._pump()


def _hopeless(entry: _QueuedEntry, outcome: Outcome) -> bool:
    """Whether the endpoint has not answered for so long that its address is more likely wrong."""
    return isinstance(outcome, Unreachable) and asyncio.get_running_loop().time() - entry.begun >= _UNREACHABLE_S
