"""How fast shards are polled, in virtual time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from eip.errors import Throttled
from eip.limits import MIB
from eip.streams import Position
from eip.testing import run
from eip.transports.aws.kinesis.log import PollingCursor
from eip.transports.aws.kinesis.rates import ReadRate, ReadRates


class Scripted:
    """A stream that answers GetRecords from a script and notes when it was asked."""

    name = "s"

    def __init__(self, *answers: Any, rate: ReadRate | None = None) -> None:
        self.rates = ReadRates(rate or ReadRate())
        self.answers = list(answers)
        self.asked: list[float] = []

    async def call(self, operation, **_):
        if operation == "GetShardIterator":
            return {"ShardIterator": "i"}
        self.asked.append(asyncio.get_running_loop().time())
        answer = self.answers.pop(0) if self.answers else page()
        if isinstance(answer, Exception):
            raise answer
        return answer


def page(size=0, *, behind=0):
    record = {
        "Data": b"x" * size,
        "SequenceNumber": "1",
        "PartitionKey": "k",
        "ApproximateArrivalTimestamp": datetime.now(UTC),
    }
    return {"Records": [record] if size else [], "NextShardIterator": "i", "MillisBehindLatest": behind}


def gaps(stream):
    return [round(after - before, 3) for before, after in zip(stream.asked, stream.asked[1:], strict=False)]


def polled(stream, times, *, groups=1):
    async def scenario():
        cursors = [PollingCursor(stream, "shard", Position(), group=f"g{each}") for each in range(groups)]

        async def poll(cursor):
            for _ in range(times):
                await cursor.read(100)

        await asyncio.gather(*map(poll, cursors))

    run(scenario())
    return gaps(stream)


def test_a_shard_with_records_is_polled_five_times_a_second():
    assert polled(Scripted(*[page(10, behind=1)] * 5), 5) == [0.2] * 4


def test_groups_of_a_process_share_the_five_calls():
    stream = Scripted(*[page(10, behind=1)] * 30)
    assert polled(stream, 10, groups=3) == [0.2] * 29


def test_an_idle_shard_is_polled_ever_more_slowly_and_a_record_ends_that():
    stream = Scripted(page(), page(), page(), page(), page(), page(1), page(1))
    assert polled(stream, 8) == pytest.approx([0.2, 0.4, 0.8, 1.0, 1.0, 0.2, 0.2], abs=0.01)


def test_a_gap_in_a_shard_that_is_behind_is_passed_at_once():
    assert polled(Scripted(*[page(behind=5000)] * 4), 4) == [0.2] * 3


def test_two_megabytes_a_second():
    assert polled(Scripted(*[page(10 * MIB)] * 3), 3) == [5.0, 5.0]


def test_throttled_it_waits_ever_longer():
    assert polled(Scripted(*[Throttled("slow")] * 4, page(1), page(1)), 6) == pytest.approx([0.2, 0.4, 0.8, 1.6, 0.2])
