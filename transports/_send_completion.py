"""The completion of one `send` of many messages, whose outcomes arrive one by one and out of order."""

from __future__ import annotations

import asyncio
from typing import Any

from eip.errors import FailedEntry, PartialSendError
from eip.message import Message

__all__ = ["SendCompletion"]


class SendCompletion:
    """Resolved when the last of its messages is settled; the first outcome of each counts."""

    __slots__ = ("_failed", "_open", "_total", "done")

    def __init__(self, total: int) -> None:
        self._total = total
        self._open = set(range(total))
        self._failed: list[tuple[int, FailedEntry]] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(self, place: int, message: Message[Any], error: Exception | None) -> None:
        """Note the outcome of the message at a place of the send; None if it was accepted."""
        if place not in self._open:
            return
        self._open.remove(place)
        if error is not None:
            self._failed.append((place, FailedEntry(message, error)))
        self._finish()

    def _finish(self) -> None:
        if not self._open and not self.done.done():
            self.done.set_result(None)

    async def wait(self) -> None:
        """Return when each was accepted; raises `PartialSendError`, or the error of all."""
        await self.done
        self.raise_failures()

    def raise_failures(self) -> None:
        """Once all are settled: raise as `wait` does."""
        if not self._failed:
            return
        entries = [entry for _, entry in sorted(self._failed, key=lambda each: each[0])]
        if len(entries) == self._total and all(type(each.error) is type(entries[0].error) for each in entries):
            raise entries[0].error
        raise PartialSendError(entries, sent=self._total - len(entries))
