"""What was read of a shard and is not done: handed out in order per lane, done in any order, counted contiguously.

Why this is not the runtime's `GroupQueue`: that orders deliveries which a channel counts one by one. A window hands
out whole runs of a lane (`take_lane`), takes records back in front of what waits (`back`), and moves a checkpoint. That
may pass a record only once all before it are done, so a window also keeps every record in the order of the shard.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from eip.streams.log import Position, Record

__all__ = ["Slot", "Window"]


class Slot:
    """A record in a window."""

    __slots__ = ("attempts", "done", "lane", "record")

    def __init__(self, record: Record, lane: Any) -> None:
        self.record, self.lane = record, lane
        self.attempts = 0
        self.done = False


class Window:
    """The records of a shard between its checkpoint and what was read last.

    A lane hands out its records one after the other: none while an earlier one is out. A lane is a partition key, or
    one of a fixed number that keys are spread over.

    Args:
        position: the checkpoint to begin with.
        lane_of: the lane of a partition key.
        ahead: what was done beyond that checkpoint, see `done_ahead`.
    """

    def __init__(self, position: Position, lane_of: Callable[[str], Any], ahead: Iterable[str] = ()) -> None:
        self.checkpoint = position
        """Up to there everything is done."""
        self.bytes = 0
        """Of the data of the records held."""
        self.out = 0
        """Records handed out, neither done nor given back."""
        self.ahead = set(ahead)
        """Names of records that were done before they were read."""
        self._lane_of = lane_of
        self._slots: deque[Slot] = deque()
        self._lanes: dict[Any, deque[Slot]] = {}
        """The waiting records of each lane that has some waiting or handed out."""
        self._open: OrderedDict[Any, None] = OrderedDict()
        """Lanes that have something waiting and nothing out, in turn."""

    def __len__(self) -> int:
        """Records held, those behind a done one that waits for an earlier one included."""
        return len(self._slots)

    @property
    def oldest(self) -> float | None:
        """When the oldest record arrived that is not done; None where all are."""
        return self._slots[0].record.at if self._slots else None

    def add(self, records: Iterable[Record]) -> None:
        """Take records in as they were read, in order."""
        lanes, opened, lane_of, append = self._lanes, self._open, self._lane_of, self._slots.append
        for record in records:
            lane = lane_of(record.key)
            slot = Slot(record, lane)
            append(slot)
            self.bytes += record.size
            if self.ahead and record.name in self.ahead:
                self.ahead.discard(record.name)
                slot.done = True
                continue
            waiting = lanes.get(lane)
            if waiting is None:
                lanes[lane] = deque((slot,))
                opened[lane] = None
            else:
                waiting.append(slot)
        if self._slots and self._slots[0].done:
            self._advance()

    def done_ahead(self, limit: int) -> list[str]:
        """Names of up to ``limit`` records that are done beyond the checkpoint."""
        return list(islice((slot.record.name for slot in self._slots if slot.done), limit))

    def take(self) -> Slot | None:
        """The next record of the lane whose turn it is; None where every lane is busy or empty."""
        if not self._open:
            return None
        lane, _ = self._open.popitem(last=False)
        self.out += 1
        return self._out(self._lanes[lane].popleft())

    def waiting(self, lane: Any) -> int:
        """How many records wait in a lane."""
        return len(self._lanes.get(lane, ()))

    def take_lane(self, lane: Any, limit: int) -> list[Slot]:
        """The next records of a lane, up to ``limit``; [] where it is busy or empty."""
        if lane not in self._open:
            return []
        del self._open[lane]
        waiting = self._lanes[lane]
        taken = [self._out(waiting.popleft()) for _ in range(min(limit, len(waiting)))]
        self.out += len(taken)
        return taken

    def done(self, slots: Sequence[Slot], *, more: bool = False) -> None:
        """Count the records, all of one lane, as done; the checkpoint follows as far as everything before is done.

        ``more``: others of the lane are still out, so that it stays busy, until it is given `free`.
        """
        for slot in slots:
            slot.done = True
        self.out -= len(slots)
        self._advance()
        if not more:
            self._unlock(slots[0].lane)

    def free(self, lane: Any) -> None:
        """Nothing of the lane is out any more, after `done` with ``more``."""
        self._unlock(lane)

    def hold(self, slot: Slot) -> None:
        """Take it as not handled any more; its lane stays busy until it is given `back`."""
        del slot
        self.out -= 1

    def back(self, slots: Sequence[Slot], *, held: bool = False) -> None:
        """Take the records back, to be handed out first in their lane; ``held``: after `hold`."""
        if not held:
            self.out -= len(slots)
        lane = slots[0].lane
        self._lanes[lane].extendleft(reversed(slots))
        self._unlock(lane)

    def _advance(self) -> None:
        held = self._slots
        last: Slot | None = None
        while held and held[0].done:
            last = held.popleft()
            self.bytes -= last.record.size
        if last is not None:
            self.checkpoint = last.record.position

    def _unlock(self, lane: Any) -> None:
        if self._lanes[lane]:
            self._open[lane] = None
        else:
            del self._lanes[lane]

    @staticmethod
    def _out(slot: Slot) -> Slot:
        slot.attempts += 1
        return slot
