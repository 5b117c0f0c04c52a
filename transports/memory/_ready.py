"""The entries of a queue that can be received, in order per message group where the queue is FIFO."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Final

from eip.message import Message

__all__ = ["Entry", "ReadyEntries"]

_serial: Final = count()


class Entry:
    """A message in a queue."""

    __slots__ = ("message", "receive_count", "serial")

    def __init__(self, message: Message[Any]) -> None:
        self.message = message
        self.receive_count = 0
        self.serial = next(_serial)
        """Its place in the order of arrival."""


class ReadyEntries:
    """Entries that wait to be received, with SQS's rule for message groups.

    One receive may return several entries of a group; then none of the group comes until all of those are settled, or
    their leases have ended. An entry that comes back takes its old place. The runtime's `GroupQueue` cannot stand in:
    it has one head per group, which only its own consumer can settle, and entries never come back to it.

    Args:
        fifo: whether message groups are kept apart.
    """

    def __init__(self, *, fifo: bool) -> None:
        self._fifo = fifo
        self._ungrouped: deque[Entry] = deque()
        self._groups: dict[str, deque[Entry]] = {}
        """What waits in each group that has something waiting or out."""
        self._out: dict[str, int] = {}
        """How many entries of each locked group are on lease, or delayed after one."""
        self._open: dict[str, None] = {}
        """Groups that may be received from, in turn."""

    def __iter__(self) -> Iterator[Entry]:
        """All entries, those of locked groups included."""
        yield from self._ungrouped
        for waiting in self._groups.values():
            yield from waiting

    def add(self, entry: Entry) -> None:
        """Let an entry be received; one that was received before goes back to its old place."""
        group = entry.message.group_id if self._fifo else None
        if group is None:
            waiting = self._ungrouped
        else:
            waiting = self._groups.setdefault(group, deque())
            if group not in self._out:
                self._open[group] = None
        if entry.receive_count and waiting and entry.serial < waiting[-1].serial:
            place = next(index for index, each in enumerate(waiting) if entry.serial < each.serial)
            waiting.insert(place, entry)
        else:
            waiting.append(entry)

    def take(self, limit: int, max_receive_count: int | None, exhaust: Callable[[Entry], None]) -> Iterator[Entry]:
        """Remove and return entries: the ungrouped, then the open groups in turn.

        Args:
            limit: how many at most.
            max_receive_count: None: no limit.
            exhaust: called with entries that were received so often, which are removed instead.
        """
        ungrouped = self._ungrouped
        while ungrouped and limit:
            entry = ungrouped.popleft()
            if max_receive_count is None or entry.receive_count < max_receive_count:
                limit -= 1
                yield entry
            else:
                exhaust(entry)
        if limit and self._open:
            yield from self._take_grouped(limit, max_receive_count, exhaust)

    def _take_grouped(
        self, limit: int, max_receive_count: int | None, exhaust: Callable[[Entry], None]
    ) -> Iterator[Entry]:
        turn: deque[str] = deque()
        while limit and (self._open or turn):
            group = turn.popleft() if not self._open else next(iter(self._open))
            self._open.pop(group, None)
            waiting = self._groups[group]
            entry = waiting.popleft()
            if waiting:
                turn.append(group)
            if max_receive_count is None or entry.receive_count < max_receive_count:
                self._out[group] = self._out.get(group, 0) + 1
                limit -= 1
                yield entry
            else:
                exhaust(entry)
                if not waiting and group not in self._out:
                    del self._groups[group]
        for group in turn:
            if group not in self._out:
                self._open[group] = None

    def unlock(self, entry: Entry) -> bool:
        """Note that an entry of a FIFO queue is settled or back; return whether its group has opened with entries."""
        group = entry.message.group_id
        if group is None:
            return False
        out = self._out[group] - 1
        if out:
            self._out[group] = out
            return False
        del self._out[group]
        if self._groups[group]:
            self._open[group] = None
            return True
        del self._groups[group]
        return False
