"""Replay: of a bus's archive, of a stream, of a message store; handlers choose whether it runs again."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eip import Consumer, Message
from eip.channels import Bus
from eip.errors import ChannelNotFound, ConfigurationError, Conflict, ConnectionLost, TransportError
from eip.matching import FilterPolicy
from eip.patterns.idempotent_receiver import idempotent
from eip.patterns.replay import Replay, replay_messages, replay_stream, start_replay, timestamp
from eip.stores import MemoryStore
from eip.testing import EPOCH, FaultPlan
from eip.topology.archives import ReplayState
from eip.transports.memory import MemoryTransport
from tests.runtime.scripted import Outbox


@pytest.fixture
async def memory():
    async with MemoryTransport() as transport:
        yield transport


@pytest.fixture
async def bus(memory):
    bus = memory.bus("shop", replay_interval=1.0)
    await bus.archives.create("orders")
    return bus


def sold(number, **envelope):
    return Message({"n": number}, type="Sold", source="shop", id=f"m{number}", **envelope)


async def a_minute_apart(bus, count):
    for number in range(count):
        await bus.send(sold(number))
        await asyncio.sleep(60)


async def handled(source, handler, count):
    """Let a consumer handle that many messages."""
    seen, done = 0, asyncio.Event()

    async def counted(message):
        nonlocal seen
        seen += 1
        if seen == count:
            done.set()
        return await handler(message)

    consumer = Consumer(source, counted, concurrency=1)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(consumer.run())
        await done.wait()
        await consumer.stop()


@pytest.mark.parametrize(("again", "expected"), [(False, ["m1", "m2"]), (True, ["m1", "m2", "m1", "m2", "m1", "m2"])])
async def test_an_idempotent_handler_runs_again_for_each_replay_or_not_at_all(bus, again, expected):
    once, work = idempotent(MemoryStore(), replays=again), []

    async def handle(message: Message) -> None:
        work.append(message.id)

    queue = bus.subscription("billing")
    await bus.send(sold(1, created_at=EPOCH), sold(2, created_at=EPOCH + 60))
    for name in ("first", "second"):
        replay = await start_replay(bus, "orders", start=EPOCH, end=EPOCH + 60, name=name)
        await replay.wait()
    await bus.send(sold(2))  # a duplicate of the original is one either way
    await handled(queue, once(handle), 7)
    assert sorted(work) == sorted(expected)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("again", [False, True])
async def test_under_faults_and_a_replay_each_event_has_the_effects_it_should(memory, bus, seed, again):
    """Whatever fails: once for the original, and once for the replay where that runs again."""
    faulty = FaultPlan(seed=seed, duplicates=0.2, lost_acks=0.2, lost_deliveries=0.1, receive_failures=0.1).wrap(memory)
    effects, dice = Counter[tuple[str, str | None]](), random.Random(seed)
    once, shop = idempotent(MemoryStore(), replays=again), faulty.bus("shop")

    async def bill(message: Message) -> None:
        if dice.random() < 0.2:
            raise ConnectionError("not now")
        effects[message.id, message.replay_name] += 1

    queue = bus.subscription("billing")
    consumer = Consumer(shop.subscription("billing"), once(bill), concurrency=3)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(consumer.run())
        await shop.send(*(sold(number, created_at=EPOCH + number) for number in range(20)))
        replay = await start_replay(shop, "orders", start=EPOCH, end=EPOCH + 60, name="fix")
        await replay.wait(interval=1)
        while len(queue):
            await asyncio.sleep(1)
        await consumer.stop()
    assert set(effects.values()) == {1}
    assert {number for number, _ in effects} == {f"m{number}" for number in range(20)}
    assert len(effects) == (40 if again else 20)


async def test_the_name_is_seen_by_handlers(bus):
    await bus.send(sold(1, created_at=EPOCH))
    queue, seen = bus.subscription("billing"), []

    async def handle(message: Message) -> None:
        seen.append(message.replay_name)

    replay = await start_replay(bus, "orders", start=EPOCH, end=EPOCH + 60)
    assert replay.name.startswith("orders-")
    await handled(queue, handle, 1)
    assert seen == [replay.name]


async def test_it_is_watched_until_it_is_over(bus):
    await a_minute_apart(bus, 5)
    replay = await start_replay(bus, "orders", start=EPOCH, end=EPOCH + 300, name="again")
    watched = [status async for status in replay.watch(interval=timedelta(seconds=1))]
    assert watched[0].state is ReplayState.STARTING
    assert watched[-1].state is ReplayState.COMPLETED
    assert [each.progress for each in watched] == sorted(each.progress for each in watched)
    assert (await Replay(bus, "again").status()) == watched[-1]
    assert (await Replay(bus, "again").wait()) == watched[-1]


async def test_it_is_cancelled(bus):
    await a_minute_apart(bus, 5)
    replay = await start_replay(bus, "orders", start=EPOCH, end=EPOCH + 300)
    await asyncio.sleep(1.5)
    await replay.cancel()
    assert (await replay.wait()).state is ReplayState.CANCELLED
    with pytest.raises(Conflict):
        await replay.cancel()


async def test_a_failed_replay_raises_its_reason(bus, monkeypatch):
    async def broken(*_, **__):
        raise RuntimeError("no room")

    await bus.send(sold(1, created_at=EPOCH))
    monkeypatch.setattr(bus, "route", broken)
    replay = await start_replay(bus, "orders", start=EPOCH, end=EPOCH + 60)
    with pytest.raises(TransportError, match="no room"):
        await replay.wait()


async def test_what_cannot_be_is_refused(memory, bus):
    window: dict[str, Any] = {"start": EPOCH, "end": EPOCH + 1}
    for wrong, complaint in (
        (start_replay(bus, "orders", start=EPOCH, end=EPOCH - 1), "must be before"),
        (start_replay(bus, "unknown", **window), "Archive unknown does not exist"),
        (start_replay(bus, "orders", start=datetime(2026, 1, 1), end=EPOCH), "time zone"),  # noqa: DTZ001
        (start_replay(bus, "orders", name="no good", **window), "name of a replay"),
        (start_replay(Plain(), "orders", **window), "has no archives"),
        (replay_messages(nothing(), Outbox(), name="no good"), "name of a replay"),
        (replay_messages(nothing(), Outbox(), name="r", rate=0), "rate"),
    ):
        with pytest.raises(ConfigurationError, match=complaint):
            await wrong
    with pytest.raises(ChannelNotFound):
        await Replay(bus, "never").status()


@pytest.mark.parametrize(
    ("value", "error", "complaint"),
    [
        (datetime(2026, 1, 1), ConfigurationError, "start must have a time zone"),  # noqa: DTZ001 - what is refused
        (float("nan"), ConfigurationError, "start must be between 1970 and the year 9999"),
        (10**400, ConfigurationError, "start must be between 1970"),
        ("2026", TypeError, "start must be a datetime or seconds"),
        (True, TypeError, "start must be a datetime or seconds"),
    ],
)
async def test_an_instant_names_its_argument(bus, value, error, complaint):
    with pytest.raises(error, match=complaint):
        await start_replay(bus, "orders", start=value, end=EPOCH)


def test_the_earlier_name_of_the_check_stays_for_a_release():
    assert timestamp(5) == 5.0
    assert timestamp(datetime(2026, 1, 1, tzinfo=UTC)) == EPOCH


async def test_an_instant_is_seconds_or_a_datetime_with_a_zone(bus):
    window: dict[str, Any] = {"start": datetime(2026, 1, 1, tzinfo=UTC), "end": EPOCH + 5}
    replay = await start_replay(bus, "orders", **window, description="why")
    status = await replay.status()
    assert (status.start, status.end, status.description) == (EPOCH, EPOCH + 5, "why")


class Plain(Bus):
    """A bus of a transport without archives."""

    name = address = "plain"

    async def send(self, *messages):
        raise NotImplementedError

    def subscription(self, name, *, pattern=None):
        raise NotImplementedError


async def nothing():
    return
    yield


async def listed(*messages):
    for message in messages:
        yield message


async def test_messages_are_sent_in_order_named_and_paced():
    out, loop = Outbox(), asyncio.get_running_loop()
    messages = [sold(number, attributes={"kind": "ab"[number % 2]}, expires_at=EPOCH - 1) for number in range(40)]
    started = loop.time()
    wanted = FilterPolicy({"kind": ["a"]})
    assert await replay_messages(listed(*messages), out, name="again", filter=wanted, rate=5) == 20
    assert [each.id for each in out.sent] == [f"m{number}" for number in range(0, 40, 2)]
    assert {each.replay_name for each in out.sent} == {"again"}
    assert {each.expires_at for each in out.sent} == {None}, "or consumers would drop what is replayed late"
    assert loop.time() - started == pytest.approx(3, abs=0.1)


async def test_a_fifo_queue_takes_a_replay_once_and_the_next_one_too(memory):
    queue = memory.queue("q.fifo")
    message = sold(1, group_id="g")
    await queue.send(message)
    for name in ("one", "one", "two"):
        await replay_messages(listed(message), queue, name=name)
    assert [each.replay_name for each in queue.messages()] == [None, "one", "two"]


async def clicked(memory, count=30):
    stream = memory.stream("clicks", shards=3)
    for number in range(count):
        await stream.send(Message(number, group_id="abc"[number % 3], id=f"m{number}"))
        await asyncio.sleep(1)
    return stream


async def test_a_stream_is_replayed_from_a_time_to_a_time(memory):
    stream, out = await clicked(memory), Outbox()
    group = stream.group("again", start=EPOCH + 9.5)
    sent = await replay_stream(group, out, name="again", until=EPOCH + 20.5)
    assert sent == len(out.sent) == 11
    assert sorted(each.body for each in out.sent) == list(range(10, 21))
    for key in "abc":
        bodies = [each.body for each in out.sent if each.group_id == key]
        assert bodies == sorted(bodies)
    assert {each.replay_name for each in out.sent} == {"again"}


async def test_a_slow_stream_replay_holds_nothing_while_it_waits(memory):
    stream, out, loop = await clicked(memory), Outbox(), asyncio.get_running_loop()
    started = loop.time()
    group = stream.group("again", start="trim_horizon")
    assert await replay_stream(group, out, name="again", rate=0.1, idle=5.0) == 30
    assert loop.time() - started == pytest.approx(300, abs=10), "longer than a lease, and than it may be idle"


async def test_it_ends_although_new_records_keep_coming(memory):
    stream, out = await clicked(memory, 5), Outbox()

    async def clicking():
        while True:
            await stream.send(Message("new", group_id="a"))
            await asyncio.sleep(0.5)

    task = asyncio.create_task(clicking())
    group = stream.group("again", start="trim_horizon")
    assert await replay_stream(group, out, name="again", until=EPOCH + 4.5, idle=timedelta(seconds=3)) == 5
    task.cancel()


async def test_a_stream_replay_that_was_broken_goes_on(memory):
    class Breaks(Outbox):
        async def send(self, *messages):
            if len(self.sent) >= 10:
                raise ConnectionLost("gone")
            await super().send(*messages)

    stream, broken, out = await clicked(memory), Breaks(), Outbox()
    group = stream.group("again", start="trim_horizon")
    with pytest.raises(ConnectionLost):
        await replay_stream(group, broken, name="again")
    await replay_stream(group, out, name="again")
    both = [each.id for each in (*broken.sent, *out.sent)]
    assert set(both) == {f"m{number}" for number in range(30)}
    assert len(both) <= 40
