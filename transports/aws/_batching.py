"""Gathers messages into calls as large as the service takes: while one call is under way, the next one fills.

There is no timer unless ``linger`` is set: a message is sent at once where no call is under way, and under load batches
fill by themselves. Entries of one message group are sent one call after the other, so that a retry keeps their order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, cast

from eip.errors import InvalidMessage, SendError, TransportError
from eip.limits import MIB, Capabilities
from eip.retry import Backoff
from eip.transports._send_completion import SendCompletion
from eip.transports.aws._client.errors import Unreachable
from eip.transports.aws._entry_queue import Entry, EntryQueue, Outcome

__all__ = ["FRUGAL", "BatchAccumulator", "Batching"]

_RETRY_BACKOFF: Final = Backoff(base=0.1, cap=5.0)
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


class BatchAccumulator:
    """Sends entries in batches.

    Args:
        call: one call of the service, not retried.
        limits: entries and bytes of a call.
        batching: when calls begin that are not full.
        attempts: how often an entry is tried; default: 8 times.
        per_group: most entries of a group in one call; None: any number.
    """

    def __init__(
        self,
        call: Callable[[Sequence[Entry]], Awaitable[Sequence[Outcome]]],
        limits: Capabilities,
        *,
        batching: Batching = FRUGAL,
        attempts: int | None = None,
        per_group: int | None = None,
    ) -> None:
        self._call, self._attempts = call, attempts or _MAX_ATTEMPTS
        self._linger, self._max_partial_calls = batching
        self._queue = EntryQueue(limits, per_group=per_group)
        self._calls: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Handle | None = None
        self._wait_timer: asyncio.Handle | None = None
        self._room = asyncio.Event()
        self._aborting = False

    async def send(self, entries: Sequence[Entry]) -> None:
        """Return when each entry was accepted; raises `PartialSendError`, or the error that all have.

        Cancelled, it does not say what became of them: they are sent nevertheless.
        """
        completion = SendCompletion(len(entries))
        for place, entry in enumerate(entries):
            while self._queue.waiting >= _MAX_WAITING or self._queue.size >= _MAX_WAITING_BYTES:
                self._room.clear()  # before the pump, which may make all the room that there will be
                self._pump()
                await self._room.wait()
            entry.completion, entry.place = completion, place
            self._queue.add(entry)
        self._schedule()
        await completion.wait()

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

    async def _send(self, batch: list[Entry]) -> None:
        again: list[Entry] = []
        now = asyncio.get_running_loop().time()
        for entry in batch:
            entry.begun = entry.begun or now
        try:
            outcomes = await self._outcomes(batch)
            again = self._settle(batch, outcomes)
            if again:
                await asyncio.sleep(_RETRY_BACKOFF.delay(max(entry.attempt for entry in again)))
        except asyncio.CancelledError:
            for entry in again or batch:
                entry.settle(SendError("the transport was closed while sending"))
            again = []
            raise
        finally:
            self._requeue(batch, again)

    async def _outcomes(self, batch: Sequence[Entry]) -> Sequence[Outcome]:
        try:
            return await self._call(batch)
        except InvalidMessage as error:
            if len(batch) == 1:
                return [error]
        except Exception as error:  # noqa: BLE001 - the outcome of every entry
            return [error] * len(batch)
        # The service refused the whole call for one bad entry: the others, of other senders, must not pay for it.
        return [outcome for entry in batch for outcome in await self._outcomes([entry])]

    def _settle(self, batch: list[Entry], outcomes: Sequence[Outcome]) -> list[Entry]:
        """Settle the finished entries; returns those to send again, in order."""
        again: list[Entry] = []
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

    def _requeue(self, batch: list[Entry], again: list[Entry]) -> None:
        self._queue.put_back(again)
        self._queue.release(batch)
        self._calls.discard(cast("asyncio.Task[None]", asyncio.current_task()))
        self._pump()


def _hopeless(entry: Entry, outcome: Outcome) -> bool:
    """Whether the endpoint has not answered for so long that its address is more likely wrong."""
    return isinstance(outcome, Unreachable) and asyncio.get_running_loop().time() - entry.begun >= _UNREACHABLE_S
