"""Gathers messages into calls as large as the service takes: while one call is under way, the next one fills."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from eip.limits import Capabilities
from eip.transports._send_completion import SendCompletion
from eip.transports.aws._batch_dispatcher import FRUGAL, BatchDispatcher, Batching, Outcome
from eip.transports.aws._entry_queue import Entry, EntryQueue

__all__ = ["BatchAccumulator"]


class BatchAccumulator(BatchDispatcher[Entry]):
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
        self._entries = EntryQueue(limits, per_group=per_group)
        super().__init__(call, self._entries, batching=batching, attempts=attempts)

    async def send(self, entries: Sequence[Entry]) -> None:
        """Return when each entry was accepted; raises `PartialSendError`, or the error that all have.

        Cancelled, it does not say what became of them: they are sent nevertheless.
        """
        completion = SendCompletion(len(entries))
        for place, entry in enumerate(entries):
            if self._room_left <= 0:
                await self._make_room()
            entry.completion, entry.place = completion, place
            self._entries.add(entry)
        self._schedule()
        await completion.wait()
