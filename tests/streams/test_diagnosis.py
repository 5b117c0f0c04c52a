"""A report tells a hot key and a hot shard from a slow consumer and a stuck shard."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from eip import Consumer, Message
from eip.errors import ConfigurationError
from eip.streams import BatchConsumer, ShardStatus, diagnose
from eip.streams._findings import conclude
from eip.streams._report import GroupLag, KeyShare, ShardLoad
from eip.streams._sampling import KeyCounts
from eip.streams.log import Position, ShardLimits
from eip.transports.memory import MemoryStream

KINESIS = ShardLimits(records=1000, bytes=1 << 20)


@pytest.fixture
def stream(memory):
    return memory.stream("clicks", shards=4)


async def click(stream: MemoryStream, seconds: int, *, hot: float = 0.0) -> None:
    """Send 40 records a second; ``hot`` of them have one key."""
    for second in range(seconds):
        keys = ["hot" if number < 40 * hot else f"user-{second}-{number}" for number in range(40)]
        await stream.send(*(Message({"n": 1}, group_id=key) for key in keys))
        await asyncio.sleep(1)


async def slow(messages: Sequence[Message]) -> None:
    await asyncio.sleep(0.2 * len(messages))


async def fast(messages: Sequence[Message]) -> None:
    await asyncio.sleep(0.001 * len(messages))


async def reported(stream: MemoryStream, handler: Any, *, hot: float = 0.0, **options: Any) -> Any:
    """The report after two minutes of a group with that handler."""
    async with BatchConsumer(stream.group("g"), handler, grace=0, **options):
        await click(stream, 120, hot=hot)
        return await diagnose(stream, ["g"])


async def test_a_group_that_keeps_up_is_healthy(stream):
    report = await reported(stream, fast)
    assert (report.finding, report.groups[0].finding) == ("healthy", "healthy")
    assert sum(each.records for each in report.shards) == pytest.approx(40 * 60, abs=120)
    assert sum(each.records_per_second for each in report.shards) == pytest.approx(40, abs=2)
    assert all(each.use is None for each in report.shards), "the embedded stream has no limits"
    assert report.groups[0].workers == 1


async def test_a_hot_key_is_named_with_its_share(stream):
    report = await reported(stream, slow, hot=0.6, parallelization=10)
    shard = stream.shard_of("hot")
    assert report.finding == "hot key"
    assert "Divide the key 'hot'" in report.advice
    assert shard in report.advice
    top = next(each for each in report.shards if each.shard == shard).keys[0]
    assert (top.key, top.share) == ("hot", pytest.approx(0.86, abs=0.05))
    assert {name for name, age in report.groups[0].ages.items() if age > 30} == {shard}


async def test_a_slow_consumer_is_late_everywhere(stream):
    report = await reported(stream, slow)
    assert report.finding == "slow consumer"
    assert "1 for 4 shards" in report.advice
    assert min(report.groups[0].ages.values()) > 30


async def test_the_age_is_the_groups_own(stream):
    """The report of another process agrees with what the group itself knows."""
    group = stream.group("g")
    async with BatchConsumer(group, slow, grace=0):
        await click(stream, 60)
        own: dict[str, ShardStatus] = {each.shard: each for each in group.shards}
        report = await diagnose(stream, [group])
    for shard, age in report.groups[0].ages.items():
        assert age == pytest.approx(own[shard].iterator_age, abs=2), "up to a checkpoint"


async def test_a_stuck_shard_is_named(stream):
    stuck = stream.shard_of("user-0-0")

    async def handle(messages: Sequence[Message]) -> None:
        if messages[0].headers["shard"] == stuck:
            await asyncio.sleep(10_000)

    report = await reported(stream, handle)
    assert report.finding == "stuck shard"
    assert stuck in report.advice


async def test_shards_alone_are_reported_and_an_idle_stream_is_idle(stream):
    report = await diagnose(stream)
    assert (report.finding, report.groups) == ("idle", ())
    await click(stream, 60, hot=0.6)
    assert (await diagnose(stream)).finding == "hot key"
    stream.reshard(2)
    await click(stream, 60)
    assert len((await diagnose(stream)).shards) == 2, "closed shards get nothing"


async def test_a_sample_is_bounded_and_its_rate_still_right(stream):
    await click(stream, 60)
    for each in (await diagnose(stream, max_records=100)).shards:
        assert each.records == 100
        assert each.records_per_second == pytest.approx(10, abs=3)


async def test_a_slow_service_is_waited_for(stream, monkeypatch):
    """No answer in time is not the same as no records."""
    await click(stream, 60)
    group = stream.group("g", start="trim_horizon")
    async with BatchConsumer(group, fast):
        await asyncio.sleep(1)
    await click(stream, 40)
    cursor = type(group.log.cursor(stream.shards[0].id, Position(), group="x"))
    read = cursor.read

    async def slowly(self: Any, limit: int) -> Any:
        await asyncio.sleep(7)
        return await read(self, limit)

    monkeypatch.setattr(cursor, "waits", False)
    monkeypatch.setattr(cursor, "read", slowly)
    report = await diagnose(stream, ["g"])
    assert all(each.records for each in report.shards)
    assert report.groups[0].age > 40


async def test_only_what_is_not_done_counts_after_a_hand_over(stream):
    """Of two lanes one is stuck; what is done beyond the checkpoint does not make the group older than it is."""
    await click(stream, 1)
    group = stream.group("g", start="trim_horizon")
    async with BatchConsumer(group, fast):
        await asyncio.sleep(5)
    await asyncio.sleep(100)
    assert (await diagnose(stream, ["g"])).groups[0].age == 0


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        ({"groups": ["never"]}, ConfigurationError, "group must have read clicks, got 'never'"),
        ({"groups": "never"}, TypeError, "groups must be a collection"),
        ({"groups": [7]}, TypeError, "groups must be names or groups"),
        ({"window": 0}, ConfigurationError, "window must be > 0"),
        ({"max_records": 0}, ConfigurationError, "max_records must be >= 1"),
    ],
)
async def test_what_cannot_be_is_refused(stream, options, error, complaint):
    with pytest.raises(error, match=complaint):
        await diagnose(stream, **options)


async def test_a_group_of_another_stream_is_refused(memory, stream):
    with pytest.raises(ConfigurationError, match="groups must be of the stream clicks, got other/g"):
        await diagnose(stream, [memory.stream("other").group("g")])


def load(shard: str, records: int, *, size: int = 100, keys: Sequence[KeyShare] = ()) -> ShardLoad:
    return ShardLoad(shard=shard, records=records, puts=records, size=records * size, seconds=1.0, keys=tuple(keys))


def late(**ages: float) -> GroupLag:
    return GroupLag(group="g", ages=ages, workers=1)


@pytest.mark.parametrize(
    ("shards", "groups", "finding", "text"),
    [
        ([load("a", 900), load("b", 950)], [], "too few shards", "Add shards: each of the 2"),
        ([load("a", 900), load("b", 950)], [late(a=99, b=99)], "too few shards", "Add shards"),
        ([load("a", 900), load("b", 100)], [], "hot shard", "Split shard a: it gets 9.0 times"),
        ([load("a", 90), load("b", 10)], [], "healthy", "Nothing"),
        ([load("a", 90), load("b", 10)], [late(a=99, b=0)], "hot shard", "Split shard a"),
        ([load("a", 90), load("b", 10)], [late(a=99, b=99)], "slow consumer", "Make the group g faster"),
        ([load("a", 10, size=90_000), load("b", 10)], [late(a=99, b=0)], "stuck shard", "at a alone"),
        ([load("a", 40, size=20_000), load("b", 40)], [late(a=99, b=0)], "hot shard", "200.0 times"),
        ([load("a", 90, keys=[KeyShare("k", 0.7)])], [late(a=99)], "hot key", "it has 70% of shard a"),
        ([load("a", 90, keys=[KeyShare("k", 0.2)])], [late(a=99)], "slow consumer", "1 for 1 shards"),
        ([load("a", 0)], [late(a=99)], "slow consumer", "Make the group g faster"),
        ([], [], "idle", "Nothing came"),
    ],
)
def test_what_is_concluded(shards, groups, finding, text):
    found = conclude("s", shards, groups, limits=KINESIS, max_age=30)
    assert (found.finding, text in found.advice) == (finding, True), found.advice
    assert found.advice.count(". ") == 0, "one sentence"


def test_frequent_keys_are_found_in_bounded_memory():
    counts = KeyCounts()
    for number in range(100_000):
        counts.add("hot" if number % 3 == 0 else f"user-{number}")
    assert len(counts._counts) <= 10_001
    assert counts.top()[0].key == "hot"
    assert counts.top()[0].share == pytest.approx(1 / 3, abs=0.01)


@pytest.mark.parametrize(
    ("workers", "concurrency", "warned"), [(1, 1, True), (1, 4, False), (2, 1, True), (4, 1, False)]
)
async def test_fewer_handlers_than_shards_are_warned_of_once(stream, workers, concurrency, warned):
    async def handle(message: Message) -> None:
        del message

    with capture_logs() as logs:
        consumers = [Consumer(stream.group("g"), handle, concurrency=concurrency) for _ in range(workers)]
        tasks = [asyncio.create_task(each.run()) for each in consumers]
        await asyncio.sleep(60)
        settled = [each for each in logs if each["event"] == "fewer_handlers_than_shards"]
        await asyncio.sleep(300)
        again = [each for each in logs if each["event"] == "fewer_handlers_than_shards"]
        await asyncio.gather(*(each.stop() for each in consumers))
        await asyncio.gather(*tasks)
    last = [each for each in settled if each["workers"] == workers]
    assert bool(last) is warned
    assert len(again) == len(settled), "not again while nothing changes"
    if warned:
        assert (last[0]["shards"], last[0]["parallelization"], last[0]["log_level"]) == (4, concurrency, "warning")


async def test_a_batch_consumers_lanes_count(stream):
    with capture_logs() as logs:
        async with BatchConsumer(stream.group("g"), fast, parallelization=2):
            await asyncio.sleep(20)
        async with BatchConsumer(stream.group("h"), fast, parallelization=4):
            await asyncio.sleep(20)
    warnings = [each for each in logs if each["event"] == "fewer_handlers_than_shards"]
    assert [(each["group"], each["parallelization"]) for each in warnings] == [("g", 2)]
