"""Archives and replays in memory, in virtual time: what EventBridge does, also where moto does not."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from eip import Message, clock
from eip.errors import ChannelNotFound, ConfigurationError, Conflict, Throttled
from eip.matching import EventPattern
from eip.testing import EPOCH
from eip.topology import RuleSpec, TargetSpec
from eip.topology.archives import ReplayState
from eip.transports.memory import MemoryTransport
from eip.transports.memory import _archive as module

SOLD = EventPattern({"detail-type": ["Sold"]})
DAY = 86_400


@pytest.fixture
async def memory():
    async with MemoryTransport() as transport:
        yield transport


@pytest.fixture
async def bus(memory):
    bus = memory.bus("b", replay_interval=1.0)
    await bus.archives.create("a")
    return bus


def sold(number, at=None):
    return Message({"n": number}, type="Sold", source="shop", id=f"m{number}", created_at=at)


async def sent_at(bus, times):
    """Send an event at each of the times, which count from the epoch of the tests; the earliest first."""
    for number, at in sorted(times.items(), key=lambda each: each[1]):
        await asyncio.sleep(EPOCH + at - clock.now())
        await bus.send(sold(number))


async def replayed(bus, name, **options):
    """Start a replay of all there is, and wait for its end."""
    await bus.archives.start_replay(name, **{"archive": "a", "start": 0.0, "end": EPOCH + DAY * 365, **options})
    return await over(bus, name)


async def over(bus, name):
    while not (status := await bus.archives.describe_replay(name)).state.over:
        await asyncio.sleep(0.5)
    return status


def taken(queue):
    messages = queue.messages()
    return [(message.body["n"], message.replay_name) for message in messages]


async def test_a_replay_brings_the_events_that_came_in_the_window(bus):
    """Both ends of the window count. (Moto replays everything.)"""
    await sent_at(bus, {number: number * 60 for number in range(5)})
    queue = bus.subscription("all")
    status = await replayed(bus, "r", start=EPOCH + 60, end=EPOCH + 180)
    assert sorted(taken(queue)) == [(1, "r"), (2, "r"), (3, "r")]
    assert status.state is ReplayState.COMPLETED
    assert status.last_replayed == EPOCH + 180
    assert status.progress == 1.0
    assert status.started_at is not None
    assert status.ended_at is not None
    assert status.ended_at >= status.started_at + 2


async def test_the_time_of_arrival_counts_and_the_events_own_time_does_not(bus):
    """A device that was away sends what it saw yesterday. (Ministack goes by the event's own time.)"""
    yesterday = EPOCH - DAY
    await asyncio.sleep(60)
    await bus.send(sold(1, yesterday))
    queue = bus.subscription("all")
    await replayed(bus, "r", start=yesterday - 60, end=yesterday + 60)
    assert taken(queue) == []
    status = await replayed(bus, "s", start=EPOCH + 30, end=EPOCH + 90)
    assert taken(queue) == [(1, "s")]
    assert status.last_replayed == EPOCH + 60
    (message,) = queue.messages()
    assert message.created_at == yesterday, "the event is as it was"


async def test_minutes_come_in_order_and_within_a_minute_there_is_none(bus):
    times = {number: (9 - number // 10) * 60 + number % 10 for number in range(100)}
    await sent_at(bus, times)
    queue = bus.subscription("all")
    await replayed(bus, "r")
    order = [number for number, _ in taken(queue)]
    minutes = [times[number] // 60 for number in order]
    assert minutes == sorted(minutes)
    assert order != sorted(order, key=times.__getitem__), "handlers must not rely on an order within a minute"


async def test_only_the_chosen_rules_get_a_replay(bus):
    """(Moto replays to all.)"""
    await bus.send(sold(1, EPOCH))
    one, two = bus.subscription("one"), bus.subscription("two")
    status = await replayed(bus, "r", rules=["two"])
    assert (taken(one), taken(two)) == ([], [(1, "r")])
    assert status.rules == ("two",)
    with pytest.raises(ConfigurationError, match="Rule three does not exist"):
        await bus.archives.start_replay("s", archive="a", start=0.0, end=1.0, rules=["three"])


async def test_a_rule_can_tell_replays_from_originals(bus):
    replays = bus.subscription("replays", pattern=EventPattern({"replay-name": [{"exists": True}]}))
    originals = bus.subscription("originals", pattern=EventPattern({"replay-name": [{"exists": False}]}))
    await bus.send(sold(1, EPOCH))
    await replayed(bus, "r")
    assert (taken(originals), taken(replays)) == ([(1, None)], [(1, "r")])


async def test_what_a_replay_brings_is_archived_nowhere(memory, bus):
    """Not on its bus, and not on a bus that it is forwarded to."""
    bus.put_rule(RuleSpec("b", "forward", None, (TargetSpec(bus="other"),)))
    other = memory.bus("other")
    await other.archives.create("of-other")
    await bus.send(sold(1, EPOCH))
    assert (await other.archives.describe("of-other")).events == 1
    for name in ("r", "s"):
        await replayed(bus, name)
    assert (await bus.archives.describe("a")).events == 1
    assert (await other.archives.describe("of-other")).events == 1


async def test_the_managed_rule_is_there_and_is_none_of_the_users(bus):
    await bus.archives.create("sold", pattern=SOLD)
    assert bus.managed_rules["Events-Archive-sold"] == EventPattern(
        {"detail-type": ["Sold"], "replay-name": [{"exists": False}]}
    )
    assert bus.rules == {}
    await bus.archives.delete("sold")
    assert "Events-Archive-sold" not in bus.managed_rules
    with pytest.raises(ChannelNotFound):
        await bus.archives.describe("sold")


async def test_an_archive_keeps_what_its_pattern_matches_for_as_long_as_it_says(bus):
    await bus.archives.create("sold", pattern=SOLD, retention=timedelta(days=2))
    await bus.send(sold(1), Message({"n": 2}, type="Lost", source="shop"))
    found = await bus.archives.describe("sold")
    assert (found.events, found.pattern, found.retention) == (1, SOLD, timedelta(days=2))
    assert found.size > 100
    await asyncio.sleep(1.5 * DAY)
    await bus.send(sold(3))
    await asyncio.sleep(1 * DAY)
    assert (await bus.archives.describe("sold")).events == 1
    queue = bus.subscription("all")
    await replayed(bus, "r", archive="sold")
    assert taken(queue) == [(3, "r")]
    assert (await bus.archives.describe("a")).events == 3, "without a retention they stay for ever"
    await bus.archives.update("sold", retention=timedelta())
    await asyncio.sleep(5 * DAY)
    assert (await bus.archives.describe("sold")).events == 1


async def test_memory_is_bounded_and_what_is_pushed_out_is_counted(bus, monkeypatch):
    monkeypatch.setattr(module, "_MAX_EVENTS", 3)
    await bus.send(*(sold(number, EPOCH + number) for number in range(5)))
    queue = bus.subscription("all")
    await replayed(bus, "r")
    assert sorted(number for number, _ in taken(queue)) == [2, 3, 4]


async def test_a_changed_pattern_counts_for_what_comes(bus):
    await bus.archives.update("a", pattern=EventPattern({"detail-type": ["Lost"]}))
    await bus.send(sold(1), Message({"n": 2}, type="Lost", source="shop"))
    assert (await bus.archives.describe("a")).events == 1
    with pytest.raises(ConfigurationError, match="At least one"):
        await bus.archives.update("a")


async def test_states_follow_each_other_and_progress_grows(bus):
    await sent_at(bus, {number: number * 60 for number in range(10)})
    queue = bus.subscription("all")
    started = await bus.archives.start_replay("r", archive="a", start=EPOCH, end=EPOCH + 600)
    assert (started.state, started.progress, started.last_replayed) == (ReplayState.STARTING, 0.0, None)
    seen = []
    while not (status := await bus.archives.describe_replay("r")).state.over:
        seen.append((status.state, status.progress))
        await asyncio.sleep(1)
    assert {state for state, _ in seen[1:]} == {ReplayState.RUNNING}
    progress = [each for _, each in seen]
    assert progress == sorted(progress)
    assert progress[-1] == pytest.approx(0.9, abs=0.11)
    assert len(queue) == 10


async def test_a_replay_of_nothing_completes_without_a_last_event(bus):
    status = await replayed(bus, "r", start=1.0, end=2.0)
    assert (status.state, status.last_replayed, status.progress) == (ReplayState.COMPLETED, None, 1.0)


async def test_a_cancelled_replay_ends_and_what_was_replayed_stays(bus):
    """No end and no last event are told of it afterwards."""
    await sent_at(bus, {number: number * 60 for number in range(10)})
    queue = bus.subscription("all")
    await bus.archives.start_replay("r", archive="a", start=0.0, end=EPOCH + 600)
    await asyncio.sleep(2.5)
    assert (await bus.archives.cancel_replay("r")).state is ReplayState.CANCELLING
    with pytest.raises(Conflict):
        await bus.archives.cancel_replay("r")
    status = await over(bus, "r")
    assert (status.state, status.ended_at, status.last_replayed) == (ReplayState.CANCELLED, None, None)
    assert len(queue) == 3
    await asyncio.sleep(60)
    assert len(queue) == 3
    with pytest.raises(Conflict, match="not in a valid state"):
        await bus.archives.cancel_replay("r")


async def test_a_replay_can_be_cancelled_before_it_runs(bus):
    await bus.send(sold(1, EPOCH))
    queue = bus.subscription("all")
    await bus.archives.start_replay("r", archive="a", start=0.0, end=EPOCH + 600)
    await bus.archives.cancel_replay("r")
    assert (await over(bus, "r")).state is ReplayState.CANCELLED
    assert len(queue) == 0


async def test_a_completed_replay_cannot_be_cancelled(bus):
    """(On moto it can.)"""
    await replayed(bus, "r")
    with pytest.raises(Conflict):
        await bus.archives.cancel_replay("r")


async def test_a_name_is_free_again_after_90_days(memory, bus):
    await replayed(bus, "r")
    other = memory.bus("other")
    await other.archives.create("of-other")
    with pytest.raises(Conflict, match="Replay r already exists"):
        await other.archives.start_replay("r", archive="of-other", start=0.0, end=1.0)
    await asyncio.sleep(91 * DAY)
    assert (await replayed(bus, "r")).state is ReplayState.COMPLETED


async def test_ten_replays_run_at_once(bus):
    await sent_at(bus, {number: number * 60 for number in range(3)})
    for number in range(10):
        await bus.archives.start_replay(f"r{number}", archive="a", start=0.0, end=EPOCH + 600)
    with pytest.raises(Throttled, match="exceeds the maximum number allowed"):
        await bus.archives.start_replay("r10", archive="a", start=0.0, end=EPOCH + 600)
    await over(bus, "r0")
    await asyncio.sleep(1)
    await bus.archives.start_replay("r10", archive="a", start=0.0, end=EPOCH + 600)


async def test_archives_and_replays_are_listed(memory, bus):
    await memory.bus("other").archives.create("of-other", description="another's")
    await bus.archives.create("sold", pattern=SOLD, description="what was sold")
    assert [(each.name, each.bus, each.description) for each in await bus.archives.list()] == [
        ("a", "b", ""),
        ("sold", "b", "what was sold"),
    ]
    bus.subscription("all")
    for number, archive in enumerate(("a", "sold", "a")):
        await replayed(bus, f"r{number}", archive=archive, rules=["all"], description="why")
    assert [each.name for each in await bus.archives.list_replays()] == ["r2", "r1", "r0"]
    assert [each.name for each in await bus.archives.list_replays("a")] == ["r2", "r0"]
    (listed,) = await bus.archives.list_replays("sold")
    assert (listed.rules, listed.description) == ((), ""), "as the service lists them"
    described = await bus.archives.describe_replay("r1")
    assert (described.rules, described.description) == (("all",), "why")
    await asyncio.sleep(91 * DAY)
    assert await bus.archives.list_replays() == []


async def test_a_description_changes_and_is_one_line(bus):
    await bus.archives.update("a", description="orders of all shops")
    assert (await bus.archives.describe("a")).description == "orders of all shops"
    await bus.archives.update("a", pattern=SOLD)
    assert (await bus.archives.describe("a")).description == "orders of all shops"
    window = {"archive": "a", "start": 1.0, "end": 2.0}
    for wrong in ("x" * 513, "two\nlines"):
        for verb in (
            bus.archives.update("a", description=wrong),
            bus.archives.create("c", description=wrong),
            bus.archives.start_replay("r", description=wrong, **window),
        ):
            with pytest.raises(ConfigurationError, match="description must be one line of at most 512 characters"):
                await verb


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"start": 2.0, "end": 1.0}, "EventStartTime must be before EventEndTime"),
        ({"start": 1.0, "end": 1.0}, "EventStartTime must be before EventEndTime"),
        ({"archive": "unknown"}, "Archive unknown does not exist"),
        ({"archive": "of-other"}, "Cross event bus replay is not permitted"),
    ],
)
async def test_what_the_service_refuses_is_refused_in_its_words(memory, bus, options, complaint):
    await memory.bus("other").archives.create("of-other")
    with pytest.raises(ConfigurationError, match=complaint):
        await bus.archives.start_replay("r", **{"archive": "a", "start": 1.0, "end": 2.0, **options})


async def test_archives_are_unique_over_all_buses(memory, bus):
    with pytest.raises(Conflict, match="Archive a already exists"):
        await memory.bus("other").archives.create("a")
    for verb in (bus.archives.delete("x"), bus.archives.update("x", pattern=SOLD), bus.archives.describe_replay("x")):
        with pytest.raises(ChannelNotFound, match="x does not exist"):
            await verb


async def test_an_event_without_a_time_counts_as_of_its_arrival(bus):
    queue = bus.subscription("all")
    await bus.put_event({"source": "s", "detail-type": "T", "detail": {"n": 1}})
    await replayed(bus, "r", start=clock.now() - 1, end=clock.now() + 1)
    assert taken(queue) == [(1, None), (1, "r")]


async def test_closing_ends_replays_under_way():
    async with MemoryTransport() as memory:
        bus = memory.bus("b", replay_interval=60.0)
        await bus.archives.create("a")
        await sent_at(bus, {number: number * 60 for number in range(3)})
        await bus.archives.start_replay("r", archive="a", start=0.0, end=EPOCH + 600)
        await asyncio.sleep(1)
    assert (await bus.archives.describe_replay("r")).state is ReplayState.CANCELLED


async def test_a_replay_that_fails_says_why(bus, monkeypatch):
    async def broken(*_, **__):
        raise RuntimeError("no room")

    await bus.send(sold(1, EPOCH))
    monkeypatch.setattr(bus, "route", broken)
    status = await replayed(bus, "r")
    assert (status.state, status.reason) == (ReplayState.FAILED, "no room")
