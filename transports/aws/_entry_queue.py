"""Entries that wait for a call of the service, by message group."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from eip.limits import Capabilities
from eip.message import Message
from eip.transports._send_completion import SendCompletion
from eip.transports.aws._batch_dispatcher import Outcome

__all__ = ["Entry", "EntryQueue"]


class Entry:
    """A message as an entry of a call."""

    __slots__ = ("attempt", "begun", "completion", "group", "message", "payload", "place", "size")

    def __init__(self, message: Message[Any], payload: dict[str, Any], size: int, group: str | None) -> None:
        self.message, self.payload, self.size, self.group = message, payload, size, group
        self.attempt = self.place = 0
        self.begun = 0.0
        """When its first call began, by the loop's clock."""
        self.completion: SendCompletion

    def settle(self, outcome: Outcome) -> None:
        """Report the outcome to its send."""
        self.completion.settle(self.place, self.message, outcome)


class EntryQueue:
    """Hands out batches: entries of a group in order, and of one group only one batch at a time.

    Unlike the receiving side's `eip.runtime._group_queue.GroupQueue`, which starts one message of a group, it hands out
    a run of a group at once: a call carries them in order, and one that is refused keeps those behind it waiting.
    Entries without a group are independent of each other.

    Args:
        limits: entries and bytes of a batch.
        per_group: most entries of a group in one batch; None: any number.
    """

    def __init__(self, limits: Capabilities, *, per_group: int | None = None) -> None:
        self._max_entries = limits.batch_entries or 1
        self._max_bytes = limits.batch_bytes or 1 << 62
        self._per_group = per_group or self._max_entries
        self._groups: dict[str | None, deque[Entry]] = {}
        self._open: deque[str | None] = deque()
        """Groups with entries and no batch out."""
        self._busy: set[str] = set()
        """Groups with a batch out; their other entries wait for its `release`."""
        self.waiting = 0
        """Entries."""
        self.size = 0
        """Bytes of the waiting entries."""
        self._in_open = 0
        """Waiting entries of open groups."""

    @property
    def sendable(self) -> bool:
        """Whether there is anything to take."""
        return bool(self._open)

    @property
    def full(self) -> bool:
        """Whether what can be taken fills a batch."""
        return self._in_open >= self._max_entries or self.size >= self._max_bytes

    def add(self, entry: Entry) -> None:
        """Add an entry behind those of its group."""
        self._deque(entry.group).append(entry)
        self._count(entry)

    def put_back(self, entries: Sequence[Entry]) -> None:
        """Put entries of a batch back in front, in their order."""
        for entry in reversed(entries):
            self._deque(entry.group).appendleft(entry)
            self._count(entry)

    def _deque(self, group: str | None) -> deque[Entry]:
        entries = self._groups.get(group)
        if entries is None:
            entries = self._groups[group] = deque()
            self._open.append(group)
        return entries

    def _count(self, entry: Entry) -> None:
        self.waiting += 1
        self.size += entry.size
        self._in_open += entry.group not in self._busy

    def take(self) -> list[Entry]:
        """Take as many entries as a call carries, of open groups; a group is then busy until `release`."""
        batch: list[Entry] = []
        size = 0
        while self._open:
            group = self._open[0]
            entries = self._groups[group]
            share = len(batch) + (len(entries) if group is None else self._per_group)
            most = min(self._max_entries, share)
            while entries and len(batch) < most and (not batch or size + entries[0].size <= self._max_bytes):
                entry = entries.popleft()
                batch.append(entry)
                size += entry.size
            if not batch or batch[-1].group != group:
                break  # the call is full already
            if group is not None:
                self._open.popleft()
                self._busy.add(group)
                self._in_open -= len(entries)
            elif not entries:
                self._open.popleft()
                del self._groups[None]
            if entries and len(batch) < share:
                break
        self.waiting -= len(batch)
        self.size -= size
        self._in_open -= len(batch)
        return batch

    def release(self, batch: Iterable[Entry]) -> None:
        """Open the groups of a batch again: its call has ended."""
        for group in {entry.group for entry in batch}:
            if group is None or group not in self._groups:
                continue
            self._busy.discard(group)
            if entries := self._groups[group]:
                self._open.append(group)
                self._in_open += len(entries)
            else:
                del self._groups[group]

    def clear(self) -> Iterator[Entry]:
        """Forget all entries, and return them."""
        waiting = [entry for entries in self._groups.values() for entry in entries]
        self._groups.clear()
        self._open.clear()
        self.waiting = self.size = self._in_open = 0
        return iter(waiting)
