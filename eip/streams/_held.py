"""A shard that a worker has the lease of: what was read of it, what is done, how it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from eip import clock
from eip.health import HealthTracker
from eip.streams.leases import Lease
from eip.streams.log import Cursor, Page
from eip.streams.window import Slot, Window

__all__ = ["Held"]


class Held:
    """A shard that a worker has the lease of."""

    def __init__(
        self, lease: Lease, cursor: Cursor, window: Window, *, now: float, failover: float, look: asyncio.Event
    ) -> None:
        self.shard, self.lease, self.cursor, self.window = lease.shard, lease, cursor, window
        self._failover, self._look = failover, look
        self._time = asyncio.get_running_loop().time
        self.renewed = now
        """When the last write of the lease that succeeded was begun, by the loop's clock."""
        self.health = HealthTracker()
        """Of reading."""
        self._behind = 0.0
        """Seconds between the newest record and what was read last."""
        self._read_at = clock.now() if lease.read_until is None else lease.read_until
        """Up to when everything that arrived was read, at the last read that succeeded; seconds since the epoch."""
        self._unread = False
        """Whether the last read brought no answer, so that nobody knows how far it is behind."""
        self.missed = 0
        """Records that fell out of the stream before they were read."""
        self.ended = False
        """Whether the last record was read, as the shard is closed."""
        self.full = False
        """Whether it is not read on until something of it is done."""
        self.leaving = False
        """It is being handed over: nothing more of it is handed out."""
        self.gone = False
        """It is not this worker's any more: nothing of it can be done."""
        self.reader: asyncio.Task[None] | None = None
        self.writing = asyncio.Lock()
        self.changed = asyncio.Event()
        """Set when something was done, given back, or added, or nothing more is to be taken."""

    @property
    def alive(self) -> bool:
        """Whether it is surely still held: another may take it once its lease was silent for long enough."""
        return not self.gone and self._time() - self.renewed < self._failover

    def done(self, slots: Sequence[Slot], *, more: bool = False) -> None:
        """Count the records as done; see `Window.done`."""
        self.window.done(slots, more=more)
        self.changed.set()
        if self.ended and not self.window:
            self._look.set()

    def free(self, lane: Any) -> None:
        """All that was out of the lane is done: its next may be taken."""
        self.window.free(lane)

    def back(self, slots: Sequence[Slot], *, delayed: bool = False) -> None:
        """Take the records of one lane back; ``delayed``: after `Window.hold`."""
        self.window.back(slots, held=delayed)
        self.changed.set()

    def add(self, page: Page) -> None:
        """Take in what a read brought."""
        self.ended = page.ended
        self.missed += page.missed
        self._unread = page.behind is None
        if page.behind is not None:
            self._behind, self._read_at = page.behind, clock.now() - page.behind
            self.health.polled()
        self.window.add(page.records)
        self.changed.set()
        if self.ended:
            self._look.set()

    def end(self) -> None:
        """Take it for read to its end: nothing more of it can be read."""
        if self.reader is not None:
            self.reader.cancel()
        self.add(Page((), ended=True))

    def not_read(self, error: Exception) -> None:
        """Note that a read failed."""
        self._unread = True
        self.health.failed(error)

    @property
    def age(self) -> float:
        """Seconds since the oldest record that is not done arrived; with none held, how far reading is behind.

        While reading fails, that is the time since it was up to date: it grows, whatever comes.
        """
        oldest = self.window.oldest
        if oldest is None and not self._unread:
            return self._behind
        return max(clock.now() - (self._read_at if oldest is None else oldest), 0.0)

    @property
    def read_until(self) -> float:
        """The time up to which everything is done; seconds since the epoch."""
        return round(clock.now() - self.age, 3)
