"""Aggregates that wait for a call: filled as messages come, in order per shard, one of a shard under way at a time.

A refused aggregate must not be overtaken by the next one of its shard. Each is filled while it waits, and is settled,
put back and sent again as a whole, so that a message costs little more than its place in one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from hashlib import md5
from typing import Any, Final

from eip.errors import TransportError
from eip.limits import KIB, Capabilities
from eip.message import Message
from eip.streams import Shard
from eip.transports._send_completion import SendCompletion
from eip.transports.aws._batch_dispatcher import Outcome
from eip.transports.aws.kinesis.aggregation import AggregatedRecord
from eip.transports.aws.kinesis.records import RecordFields, to_put

__all__ = ["Aggregate", "AggregateQueue", "AggregatedSend"]

_AGGREGATE_BYTES: Final = 250 * KIB
"""Large enough to fill what is billed, small enough for a shard's megabyte a second."""
_BESIDE_BYTES: Final = 2 * KIB
"""More than partition key and hash key of an aggregate take in a call."""
_MAX_KNOWN: Final = 10_000
"""Keys whose shards are remembered."""


class AggregatedSend(SendCompletion):
    """The messages of one send, their records, and its completion."""

    __slots__ = ("messages", "records")

    def __init__(self, messages: Sequence[Message[Any]], records: Sequence[RecordFields]) -> None:
        super().__init__(len(messages))
        self.messages, self.records = messages, records

    def settle_many(self, places: Sequence[int], error: Exception | None) -> None:
        """Note one outcome of the messages at several places."""
        if error is None:
            self._open.difference_update(places)
            self._finish()
            return
        for place in places:
            self.settle(place, self.messages[place], error)


class _Lane:
    """What waits for one shard."""

    __slots__ = ("busy", "first_hash", "shard", "waiting")

    def __init__(self, first_hash: int, shard: str) -> None:
        self.first_hash, self.shard = first_hash, shard
        self.waiting: deque[Aggregate] = deque()
        self.busy = False
        """Whether an aggregate of it is under way."""

    def add(self, send: AggregatedSend, places: Sequence[int], attempt: int) -> int:
        """Add messages of a send behind what waits; returns by how many bytes that grew."""
        waiting, records = self.waiting, send.records
        # One that was tried is sent again as it is: what comes later has attempts of its own.
        if not waiting or waiting[-1].attempt != attempt:
            last, before = self._begin(attempt), 0
        else:
            last = waiting[-1]
            before = last.size
        grown = begin = 0
        add = last.record.add
        for index, place in enumerate(places):
            if not add(*records[place]):
                last.shares.append((send, places[begin:index]))
                grown += last.size - before
                last, before, begin = self._begin(attempt), 0, index
                add = last.record.add
                add(*records[place])
        last.shares.append((send, places[begin:] if begin else places))
        return grown + last.size - before

    def _begin(self, attempt: int) -> Aggregate:
        made = Aggregate(self, attempt)
        self.waiting.append(made)
        return made


class Aggregate:
    """Messages for one shard that go as one record."""

    __slots__ = ("attempt", "begun", "landed", "lane", "outcome", "record", "shares")

    def __init__(self, lane: _Lane, attempt: int) -> None:
        self.lane, self.attempt = lane, attempt
        self.record = AggregatedRecord(_AGGREGATE_BYTES)
        self.shares: list[tuple[AggregatedSend, Sequence[int]]] = []
        """Sends, and the places of those of their messages that are in here, all in the order of the records."""
        self.begun = 0.0
        """When its first call began, by the loop's clock."""
        self.outcome: Outcome = None
        self.landed: str | None = None
        """The shard that it was put into, where that was not its own: there readers drop some of its messages."""

    @property
    def group(self) -> str:
        """Its shard."""
        return self.lane.shard

    @property
    def size(self) -> int:
        """Bytes that it takes in a call, at most."""
        return self.record.size + _BESIDE_BYTES

    def settle(self, outcome: Outcome) -> None:
        """Report the outcome of all messages to their sends."""
        self.outcome = outcome
        for send, places in self.shares:
            send.settle_many(places, outcome)

    def to_record(self) -> dict[str, Any]:
        """As it is put: an aggregate into its shard, or the one message as it is."""
        send, places = self.shares[0]
        key, hash_key, data = send.records[places[0]]
        if self.record.count > 1:
            data, hash_key = self.record.encode(), str(self.lane.first_hash)
        return to_put((key, hash_key, data))


class AggregateQueue:
    """Hands out aggregates: of each shard one at a time, in order.

    Args:
        limits: records and bytes of a call.
    """

    def __init__(self, limits: Capabilities) -> None:
        self._max_records = limits.batch_entries or 1
        self._max_bytes = limits.batch_bytes or 1 << 62
        self._lanes = [_Lane(0, "")]
        """By their first hash keys; one for all until the shards are known."""
        self._starts = [0]
        self._known: dict[str, _Lane] = {}
        """By partition keys that may come again."""
        self._open: deque[_Lane] = deque()
        """Lanes with something that waits, and nothing under way."""
        self._behind = 0
        """Aggregates in open lanes behind the first: so many are complete."""
        self.waiting = 0
        """Messages."""
        self.size = 0
        """Bytes that wait."""
        self.stale = True
        """Whether the shards are others than known: nothing is taken until `divide` was called."""

    @property
    def sendable(self) -> bool:
        """Whether there is anything to take."""
        return bool(self._open) and not self.stale

    @property
    def full(self) -> bool:
        """Whether a whole aggregate, or a whole call, can be taken."""
        return self._behind > 0 or self.size >= self._max_bytes

    def add(self, send: AggregatedSend, places: Sequence[int], *, attempt: int = 0) -> None:
        """Add messages of a send, those at the places, behind those of their shards."""
        self.waiting += len(places)
        known, records = self._known, send.records
        if len(places) == 1:
            self._add_to(self._lane_of(*records[places[0]][:2]), send, places, attempt)
            return
        by_lane: defaultdict[_Lane, list[int]] = defaultdict(list)
        for place in places:
            key, hash_key, _ = records[place]
            lane = known.get(key) if hash_key is None else None
            if lane is None:
                lane = self._lane_of(key, hash_key)
            by_lane[lane].append(place)
        for lane, own in by_lane.items():
            self._add_to(lane, send, own, attempt)

    def _add_to(self, lane: _Lane, send: AggregatedSend, places: Sequence[int], attempt: int) -> None:
        before = len(lane.waiting)
        self.size += lane.add(send, places, attempt)
        if not lane.busy:
            self._behind += len(lane.waiting) - (before or 1)
            if not before:
                self._open.append(lane)

    def _lane_of(self, key: str, hash_key: str | None) -> _Lane:
        if hash_key is not None:
            return self._lane_at(int(hash_key))
        if (lane := self._known.get(key)) is not None:
            return lane
        lane = self._lane_at(int.from_bytes(md5(key.encode(), usedforsecurity=False).digest(), "big"))
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[key] = lane
        return lane

    def _lane_at(self, hashed: int) -> _Lane:
        return self._lanes[bisect_right(self._starts, hashed) - 1]

    def take(self) -> list[Aggregate]:
        """Take the first of as many shards as a call carries; they are then busy until `release`."""
        taken: list[Aggregate] = []
        size = 0
        while self._open and len(taken) < self._max_records:
            lane = self._open[0]
            first = lane.waiting[0]
            if taken and size + first.size > self._max_bytes:
                break
            self._open.popleft()
            taken.append(lane.waiting.popleft())
            lane.busy = True
            self._behind -= len(lane.waiting)
            self._count(first, -1)
            size += first.size
        return taken

    def _count(self, aggregate: Aggregate, sign: int) -> None:
        self.waiting += sign * aggregate.record.count
        self.size += sign * aggregate.size

    def put_back(self, aggregates: Sequence[Aggregate]) -> None:
        """Put aggregates back in front of what waits for their shards, which are busy."""
        for aggregate in aggregates:
            aggregate.lane.waiting.appendleft(aggregate)
            self._count(aggregate, 1)

    def release(self, aggregates: Sequence[Aggregate]) -> None:
        """Let their shards go on; what waits behind one that the service could not take for so long fails with it."""
        for aggregate in aggregates:
            lane, outcome = aggregate.lane, aggregate.outcome
            lane.busy = False
            if isinstance(outcome, TransportError) and outcome.transient:
                for each in lane.waiting:
                    self._count(each, -1)
                    each.settle(outcome)
                lane.waiting.clear()
            if lane.waiting:
                self._open.append(lane)
                self._behind += len(lane.waiting) - 1

    def clear(self) -> Iterator[Aggregate]:
        """Forget all that waits, and return it."""
        waiting = [each for lane in self._lanes for each in lane.waiting]
        for lane in self._lanes:
            lane.waiting.clear()
        self._open.clear()
        self._behind = self.waiting = self.size = 0
        return iter(waiting)

    def divide(self, shards: Sequence[Shard]) -> None:
        """Divide what waits among the open shards, while nothing is under way; the order of each key stays."""
        waiting = self.clear()
        self._lanes = [_Lane(first, shard) for first, shard in sorted((each.first_hash, each.id) for each in shards)]
        self._starts = [lane.first_hash for lane in self._lanes]
        self._known.clear()
        self.stale = False
        for aggregate in waiting:
            for send, places in aggregate.shares:
                self.add(send, self._missing(aggregate, send, places), attempt=aggregate.attempt)

    def _missing(self, aggregate: Aggregate, send: AggregatedSend, places: Sequence[int]) -> Sequence[int]:
        """Of the places, those whose messages are in the wrong shard; the others are accepted."""
        if aggregate.landed is None:
            return places
        right: list[int] = []
        wrong: list[int] = []
        for place in places:
            (right if self._lane_of(*send.records[place][:2]).shard == aggregate.landed else wrong).append(place)
        send.settle_many(right, None)
        return wrong
