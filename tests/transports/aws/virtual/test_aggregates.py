"""Aggregated puts against a model of a stream: order per key, refusals, lost answers, resharding, bounds, an end."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable
from hashlib import md5
from itertools import pairwise
from typing import Any

import pytest

from eip import Message
from eip.errors import AccessDenied, ConnectionLost, InvalidMessage, PartialSendError, SendError, Throttled
from eip.streams import Shard
from eip.transports.aws._batch_dispatcher import FRUGAL, Batching
from eip.transports.aws.kinesis.aggregated_puts import AggregateAccumulator
from eip.transports.aws.kinesis.aggregation import UserRecord, deaggregate

HASHES = 1 << 128
REFUSED = {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "slow down"}


def hashed(key):
    return int.from_bytes(md5(key.encode(), usedforsecurity=False).digest(), "big")


class Model:
    """A stream whose readers drop what an aggregate holds for another shard, as Amazon's do."""

    def __init__(self, shards=4, *, attempts=30, batching=FRUGAL):
        self._next = 0
        self.shards: list[Shard] = []
        self.split(shards)
        self.read: list[tuple[str, bytes]] = []
        """What its readers see, in order."""
        self.calls: list[list[dict]] = []
        self.fate: Callable[[dict[str, Any]], Any] = lambda _: None
        """The answer about a record; an exception fails the call."""
        self.lose_answer: Callable[[], bool] = lambda: False
        self.listed = 0
        self.fail_listing: list[Exception] = []
        self.round_trip = 0.01
        self.puts = AggregateAccumulator(self._put, self._list, attempts=attempts, batching=batching)

    def split(self, count):
        edges = [HASHES * number // count for number in range(count + 1)]
        self.shards = [shard._replace(closed=True) for shard in self.shards]
        for first, end in pairwise(edges):
            self.shards.append(Shard(f"shard-{self._next}", (), False, first, end - 1))
            self._next += 1

    def shard_of(self, hash_key):
        return next(each for each in self.shards if not each.closed and each.first_hash <= hash_key <= each.last_hash)

    async def _list(self):
        self.listed += 1
        await asyncio.sleep(self.round_trip)
        if self.fail_listing:
            raise self.fail_listing.pop(0)
        return list(self.shards)

    async def _put(self, records, *, messages):
        self.calls.append(records)
        fates = [self.fate(record) for record in records]
        await asyncio.sleep(self.round_trip)
        for fate in fates:
            if isinstance(fate, Exception):
                raise fate
        answers = [fate or self._store(record) for record, fate in zip(records, fates, strict=True)]
        assert messages == sum(len(parts(record)) for record in records)
        if self.lose_answer():
            raise ConnectionLost("gone")
        return {"Records": answers, "FailedRecordCount": sum("ErrorCode" in each for each in answers)}

    def _store(self, record):
        explicit = record.get("ExplicitHashKey")
        shard = self.shard_of(hashed(record["PartitionKey"]) if explicit is None else int(explicit))
        for part in parts(record):
            own = hashed(part.key) if part.hash_key is None else int(part.hash_key)
            if shard.first_hash <= own <= shard.last_hash:
                self.read.append((part.key, part.data))
        return {"ShardId": shard.id, "SequenceNumber": "1"}

    async def send(self, *items, size=1):
        """Send (key, number) pairs."""
        messages = [Message({"n": number}, group_id=key) for key, number in items]
        await self.puts.send(messages, [(key, None, b"%d " % number + b"x" * size) for key, number in items])

    def numbers(self, key):
        """Of a key, in the order in which they were first seen."""
        return list(dict.fromkeys(int(data.split()[0]) for each, data in self.read if each == key))


def parts(record):
    found = deaggregate(record["Data"])
    return (
        [UserRecord(record["PartitionKey"], record.get("ExplicitHashKey"), record["Data"])] if found is None else found
    )


@pytest.mark.parametrize("seed", range(6))
async def test_each_key_stays_in_order_whatever_is_refused_lost_or_resharded(seed):
    dice = random.Random(seed)
    model = Model(shards=dice.choice((1, 3, 8)))
    model.fate = lambda _: REFUSED if dice.random() < 0.2 else None
    model.lose_answer = lambda: dice.random() < 0.1

    async def reshard():
        for _ in range(3):
            await asyncio.sleep(dice.random() * 0.5)
            model.split(dice.choice((1, 2, 5, 7)))

    async def sender(key):
        for first in range(0, 40, 4):
            await model.send(*((key, number) for number in range(first, first + 4)), size=dice.choice((10, 40_000)))

    resharding = asyncio.create_task(reshard())
    await asyncio.gather(*(sender(f"k{number}") for number in range(25)))
    await resharding
    for number in range(25):
        assert model.numbers(f"k{number}") == list(range(40))


async def test_the_shards_are_looked_at_once_and_again_after_a_split():
    model = Model(1)
    await model.send(*((f"k{number}", number) for number in range(100)))
    assert model.listed == 1
    model.split(3)
    await model.send(*((f"k{number}", 100) for number in range(100)))
    assert model.listed == 2
    assert [model.numbers(f"k{number}") for number in range(100)] == [[number, 100] for number in range(100)]
    model.calls.clear()
    await model.send(*((f"k{number}", 101) for number in range(100)))
    assert [len(call) for call in model.calls] == [3]


async def test_a_single_message_needs_no_second_put_after_a_split():
    model = Model(1)
    await model.send(("k", 0))
    model.split(2)
    await model.send(("k", 1))
    assert len(model.calls) == 2
    await model.send(*((f"k{number}", number) for number in range(20)))
    assert (model.listed, len(model.calls)) == (2, 3)


async def test_one_shard_that_is_throttled_does_not_hold_the_others_up():
    model = Model(2, attempts=6)
    keys = {model.shard_of(hashed(key)).id: key for key in ("a", "b", "c", "d", "e", "f")}
    slow, quick = keys["shard-0"], keys["shard-1"]
    model.fate = lambda record: REFUSED if record["PartitionKey"] == slow else None
    loop = asyncio.get_running_loop()
    waiting = asyncio.create_task(model.send((slow, 0)))
    await asyncio.sleep(0.1)
    begun = loop.time()
    await asyncio.wait_for(model.send((quick, 0), (quick, 1)), 0.2)
    assert loop.time() - begun < 0.2
    with pytest.raises(Throttled):
        await waiting


async def test_what_waits_behind_one_that_was_throttled_for_too_long_fails_with_it():
    model = Model(1, attempts=3)
    model.fate = lambda _: REFUSED
    loop, begun = asyncio.get_running_loop(), asyncio.get_running_loop().time()
    with pytest.raises(Throttled):
        await model.send(*(("k", number) for number in range(50)), size=20_000)
    assert len(model.calls) == 3
    assert loop.time() - begun < 5
    model.fate = lambda _: None
    await model.send(("k", 50))
    assert model.numbers("k") == [50]


async def test_each_send_learns_of_its_own_failures():
    model = Model(2)
    keys = {model.shard_of(hashed(key)).id: key for key in ("a", "b", "c", "d", "e", "f")}
    bad, good = keys["shard-0"], keys["shard-1"]
    refused = {"ErrorCode": "AccessDeniedException", "ErrorMessage": "no"}
    model.fate = lambda record: refused if record["PartitionKey"] == bad else None
    other = asyncio.create_task(model.send((good, 0), (good, 1)))
    await asyncio.sleep(0)
    with pytest.raises(PartialSendError) as failed:
        await model.send((good, 2), (bad, 3), (good, 4), (bad, 5))
    await other
    assert [each.message.body["n"] for each in failed.value.failed] == [3, 5]
    assert failed.value.sent == 2
    assert model.numbers(good) == [0, 1, 2, 4]


async def test_a_call_refused_as_invalid_is_made_again_for_each_aggregate():
    model = Model(4)
    await model.send(("k", 0))
    wrong = {"a"}

    def fate(record):
        return InvalidMessage("refused") if wrong & {part.key for part in parts(record)} else None

    model.fate = fate
    items = [(key, 1) for key in "abcdefghijklmnop"]
    own = model.shard_of(hashed("a")).id
    with pytest.raises(PartialSendError) as failed:
        await model.send(*items)
    lost = {each.message.group_id for each in failed.value.failed}
    assert lost == {key for key, _ in items if model.shard_of(hashed(key)).id == own}


async def test_shards_that_cannot_be_listed_fail_what_waits_and_are_listed_again():
    model = Model(attempts=3)
    model.fail_listing = [Throttled("slow")] * 2
    await model.send(("k", 0))
    assert model.listed == 3
    model = Model(attempts=3)
    model.fail_listing = [AccessDenied("no kinesis:ListShards")]
    with pytest.raises(AccessDenied):
        await model.send(("k", 0), ("l", 1))
    await model.send(("k", 0))
    assert model.numbers("k") == [0]


async def test_an_aggregate_that_lands_elsewhere_each_time_fails_in_the_end():
    model = Model(1, attempts=4)
    store = model._store
    model._store = lambda record: {**store(record), "ShardId": "elsewhere"}
    with pytest.raises(ConnectionLost, match="resharded"):
        await model.send(("k", 0), ("k", 1))
    assert len(model.calls) == 4


async def test_senders_wait_while_too_much_waits_and_all_is_sent():
    model = Model(1)
    model.round_trip = 1.0
    sends = [
        asyncio.create_task(model.send(*(("k", number) for number in range(each, each + 4_000))))
        for each in range(0, 20_000, 4_000)
    ]
    await asyncio.sleep(0.5)
    assert model.puts._queue.waiting <= 10_000
    await asyncio.gather(*sends)
    assert model.numbers("k") == list(range(20_000))
    assert model.puts._queue.waiting == model.puts._queue.size == 0


async def test_closing_ends_what_cannot_be_sent():
    model = Model(2, attempts=1000)
    model.fate = lambda _: REFUSED
    sends = [asyncio.create_task(model.send(("k", number), (f"other{number}", number))) for number in range(3)]
    await asyncio.sleep(0.1)
    await model.puts.aclose(timeout=1.0)
    for outcome in await asyncio.gather(*sends, return_exceptions=True):
        assert isinstance(outcome, SendError)
    model = Model(2)
    model.round_trip = 1000.0
    sending = asyncio.create_task(model.send(("k", 0)))
    await asyncio.sleep(0.1)
    await model.puts.aclose(timeout=1.0)  # while the shards are listed
    with pytest.raises(SendError):
        await sending


async def test_a_cancelled_send_is_sent_nevertheless():
    model = Model(2)
    sending = asyncio.create_task(model.send(("k", 0), ("l", 1)))
    await asyncio.sleep(0.015)
    sending.cancel()
    await model.send(("k", 2))
    assert model.numbers("k") == [0, 2]
    await model.puts.flush()
    assert model.numbers("l") == [1]


async def test_a_linger_fills_an_aggregate_and_a_whole_one_does_not_wait():
    model = Model(1, batching=Batching(linger=5.0))
    loop = asyncio.get_running_loop()
    await model.send(("k", 0))
    begun = loop.time()
    await asyncio.gather(*(model.send(("k", number)) for number in range(1, 10)))
    assert loop.time() - begun == pytest.approx(5.01)
    assert [len(parts(record)) for call in model.calls[1:] for record in call] == [9]
    begun = loop.time()
    first = asyncio.create_task(model.send(*(("k", number) for number in range(10, 25)), size=20_000))
    await asyncio.sleep(0.1)
    assert len(model.calls) > 2
    await first


async def test_a_message_of_many_costs_a_bounded_number_of_calls():
    """Functions called per message: a place in an aggregate, and nothing more."""
    model = Model(4)
    await model.send(*((f"k{number}", 0) for number in range(50)))

    async def put(records, *, messages):
        shards = [model.shard_of(int(each["ExplicitHashKey"])).id for each in records]
        return {"Records": [{"ShardId": each, "SequenceNumber": "1"} for each in shards]}

    model.puts._put_records = put
    counted = []
    for many in (1000, 3000):
        messages = [Message(None, group_id=f"k{number % 50}") for number in range(many)]
        records = [(message.group_id or "", None, b"%d x" % number) for number, message in enumerate(messages)]
        counted.append(0)

        def count(_frame, event, _argument):
            counted[-1] += event == "call"

        sys.setprofile(count)
        try:
            await model.puts.send(messages, records)
        finally:
            sys.setprofile(None)
    assert (counted[1] - counted[0]) / 2000 < 1.1
