"""Workers of a group: sharing, handing over, failing, resharding."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from eip import Backoff, Consumer, Message, running
from eip.errors import ConfigurationError, LeaseLost, Reject, StoreError
from eip.stores import MemoryStore
from eip.streams import BatchConsumer, GroupOptions, StreamGroup, export_iterator_age
from tests.streams.scripted import until

QUICK = GroupOptions(failover=9.0, checkpoint_interval=1.0, hand_off_timeout=20.0)


class Breakable(MemoryStore):
    """A store that can be cut off, for one worker; what it holds is shared."""

    def __init__(self, shared: MemoryStore) -> None:
        self.__dict__.update(shared.__dict__)
        self.broken = self.for_good = False
        self.lost_answers = 0

    async def get(self, key):
        if self.broken:
            raise StoreError("cut off", transient=not self.for_good)
        return await super().get(key)

    async def put(self, key, value, **options):
        if self.broken:
            raise StoreError("cut off", transient=not self.for_good)
        written = await super().put(key, value, **options)
        if self.lost_answers and written:
            self.lost_answers -= 1
            raise StoreError("the answer was lost")
        return written


def worker_groups(stream, count, *, store=None, options=QUICK):
    """The same group as separate processes would have it: each with its own object and connection to the store."""
    shared = store or MemoryStore()
    log = stream.group("any").log
    stores = [Breakable(shared) for _ in range(count)]
    return [StreamGroup(log, "g", leases=each, start="trim_horizon", options=options) for each in stores], stores


async def test_a_newcomer_gets_its_share_and_a_leaver_s_is_taken(memory):
    stream = memory.stream("s", shards=4)
    groups, _ = worker_groups(stream, 2)

    async def handle(message):
        pass

    first, second = (Consumer(group, handle) for group in groups)
    async with running(first):
        assert len(groups[0].shards) == 4
        async with running(second):
            await until(lambda: len(groups[0].shards) == len(groups[1].shards) == 2)
        await until(lambda: len(groups[0].shards) == 4, within=QUICK.failover)


async def test_a_hand_over_in_good_order_brings_no_duplicates_and_keeps_the_order(memory):
    stream = memory.stream("s", shards=3)
    groups, _ = worker_groups(stream, 3)
    seen: list[tuple[str, int]] = []

    async def handle(message):
        await asyncio.sleep(0.5)
        seen.append((message.group_id, message.body))

    consumers = [Consumer(group, handle, concurrency=4) for group in groups]
    async with running(consumers[0]):
        await stream.send(*(Message(number, group_id=f"k{number % 10}") for number in range(400)))
        async with running(consumers[1]):
            await asyncio.sleep(10)
            async with running(consumers[2]):
                await asyncio.sleep(15)
        await until(lambda: len(seen) >= 400)
    assert Counter(number for _, number in seen) == Counter(range(400))
    for key in {key for key, _ in seen}:
        numbers = [number for each, number in seen if each == key]
        assert numbers == sorted(numbers)
    assert sum(consumer.stats.lost for consumer in consumers) == 0
    assert all(consumer.stats.handled for consumer in consumers)


async def test_what_takes_too_long_to_hand_over_is_cancelled_and_done_by_the_next(memory):
    stream = memory.stream("s", shards=2)
    groups, _ = worker_groups(stream, 2)
    started, cancelled = asyncio.Event(), []

    async def stuck(message):
        started.set()
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancelled.append(message.body)
            raise

    done: list = []

    async def handle(message):
        done.append(message.body)

    await stream.send(*(Message(number, group_id=f"k{number}") for number in range(8)))
    first, second = Consumer(groups[0], stuck, grace=0), Consumer(groups[1], handle)
    async with running(first):
        await started.wait()
        async with running(second):
            await until(lambda: len(groups[1].shards) == 1)
            await until(lambda: done)
            assert set(done) <= set(cancelled)
            assert first.stats.lost == len(cancelled)


async def test_a_worker_cut_off_from_its_leases_stops_before_another_begins(memory):
    stream = memory.stream("s", shards=1)
    groups, stores = worker_groups(stream, 2)
    await stream.send(*(Message(number, group_id="k") for number in range(2)))
    async with groups[0].receiver() as first:
        (held,) = await first.receive(1)
        lost: list = []
        first.on_lost = lost.extend
        async with groups[1].receiver() as second:
            stores[0].broken = True
            loop = asyncio.get_running_loop()
            cut = loop.time()
            (again,) = await second.receive(1, wait=60)
            assert again.message.body == held.message.body == 0
            assert loop.time() - cut > QUICK.failover - QUICK.checkpoint_interval
            assert lost == [held]
            with pytest.raises(LeaseLost):
                await held.ack()
            assert not await first.receive(1, wait=0)
            await again.ack()
            assert [each.message.body for each in await second.receive(1)] == [1]
            stores[0].broken = False


async def test_a_stale_worker_cannot_move_the_checkpoint(memory):
    """It was paused, as by a stopped process, and does not know that its shard was taken."""
    stream = memory.stream("s", shards=1)
    groups, _ = worker_groups(stream, 1)
    await stream.send(Message(0, group_id="k"))
    async with groups[0].receiver() as receiver:
        (held,) = await receiver.receive(1)
        table = await groups[0].table()
        lease = await table.get("shardId-000000000000")
        assert await table.write(lease, owner="thief", epoch=lease.epoch + 1)
        assert not await receiver.ack([held])  # it may still believe that it holds it
        await asyncio.sleep(QUICK.checkpoint_interval * 2)
        stolen = await table.get("shardId-000000000000")
        assert (stolen.owner, stolen.position.sequence) == ("thief", None)
        assert groups[0].shards == []


async def test_a_lost_answer_of_the_store_costs_nothing(memory):
    stream = memory.stream("s", shards=1)
    groups, stores = worker_groups(stream, 1)
    async with groups[0].receiver() as receiver:
        await stream.send(Message(0, group_id="k"), Message(1, group_id="k"))
        stores[0].lost_answers = 2
        for number in range(2):
            (held,) = await receiver.receive(1)
            assert held.message.body == number
            await held.ack()
            await asyncio.sleep(5)
        assert receiver._turn[0].alive
    assert [each.sequence for each in (await groups[0].checkpoints()).values()] == ["2"]


async def test_children_are_read_after_their_parents(memory):
    stream = memory.stream("s", shards=1)
    group = stream.group("g", start="trim_horizon", options=QUICK)
    await stream.send(*(Message(number, group_id=f"k{number % 5}") for number in range(50)))
    left, right = stream.split("shardId-000000000000")
    await stream.send(*(Message(number, group_id=f"k{number % 5}") for number in range(50, 100)))
    stream.merge(left, right)
    await stream.send(*(Message(number, group_id=f"k{number % 5}") for number in range(100, 150)))
    seen: list = []

    async def handle(message):
        await asyncio.sleep(0.1)
        seen.append((message.group_id, message.body, message.headers["shard"]))

    async with running(Consumer(group, handle)):
        await until(lambda: len(seen) == 150)
    for key in range(5):
        assert [number for each, number, _ in seen if each == f"k{key}"] == list(range(key, 150, 5))
    order = [shard for _, _, shard in seen]
    assert order.index("shardId-000000000003") > max(order.index(left), order.index(right))
    leases = await (await group.table()).load(each.id for each in stream.shards)
    assert [lease.ended for lease in leases.values()] == [True, True, True, False]


async def test_a_group_that_begins_with_the_latest_skips_what_was_closed_before(memory):
    stream = memory.stream("s", shards=1)
    await stream.send(Message("old", group_id="k"))
    stream.split("shardId-000000000000")
    group = stream.group("g")
    await stream.send(Message("new", group_id="k"))
    stream.reshard(3)
    await stream.send(Message("newer", group_id="k"))
    seen: list = []

    async def handle(message):
        seen.append(message.body)

    async with running(Consumer(group, handle)):
        await until(lambda: len(seen) == 2)
    assert seen == ["new", "newer"]


async def test_a_group_begins_where_its_first_worker_did_whatever_later_ones_say(memory):
    stream = memory.stream("s", shards=1)
    await stream.send(Message(1, group_id="k"))
    store = MemoryStore()
    log = stream.group("any").log
    first = StreamGroup(log, "g", leases=store, start="latest")
    async with first.receiver():
        pass
    await stream.send(Message(2, group_id="k"))
    later = StreamGroup(log, "g", leases=store, start="trim_horizon")
    async with later.receiver() as receiver:
        assert [each.message.body for each in await receiver.receive(5)] == [2]


async def test_a_rejected_record_goes_aside_with_where_to_find_it(memory):
    stream, dead = memory.stream("s", shards=1), memory.queue("dead")
    group = stream.group("g", start="trim_horizon", dead_letters=dead)
    await stream.send(*(Message(number, group_id="k") for number in range(3)))
    seen: list = []

    async def handle(message):
        if message.body == 1:
            raise Reject("no good")
        seen.append(message.body)

    async with running(Consumer(group, handle)):
        await until(lambda: len(seen) == 2)
    async with dead.receiver() as morgue:
        (found,) = await morgue.receive(1)
    headers = found.message.headers
    assert (headers["shard"], headers["sequence-number"]) == ("shardId-000000000000", "2")
    assert (headers["dead-letter-reason"], headers["dead-letter-source"]) == ("Reject: no good", "s/g")


async def test_one_key_that_fails_holds_no_other_back(memory):
    stream = memory.stream("s", shards=1)
    group = stream.group("g", start="trim_horizon")
    await stream.send(*(Message(number, group_id=f"k{number % 4}") for number in range(40)))
    seen: list = []

    async def handle(message):
        if message.group_id == "k0":
            raise ConnectionError("down")
        seen.append(message.body)

    async with running(Consumer(group, handle, retry=Backoff(base=60, cap=60), grace=0)):
        await until(lambda: len(seen) == 30)
        (status,) = group.shards
        assert status.held == 40  # the first record is not done, so the checkpoint stays before it
    assert [each.sequence for each in (await group.checkpoints()).values()] == [None]


async def test_memory_stays_bounded_behind_a_slow_handler(memory):
    stream = memory.stream("s", shards=1)
    group = stream.group("g", start="trim_horizon", options=GroupOptions(max_read_ahead=100))
    await stream.send(*(Message(number, group_id=f"k{number}") for number in range(1000)))
    most, seen = 0, []

    async def handle(message):
        nonlocal most
        await asyncio.sleep(0.01)
        most = max(most, group.shards[0].held)
        seen.append(message.body)

    async with running(Consumer(group, handle)):
        await until(lambda: len(seen) == 1000)
    assert most <= 100


async def test_the_iterator_age_is_logged(memory, monkeypatch):
    logged = []

    class Log:
        def __getattr__(self, _):
            return lambda event, **fields: logged.append((event, fields))

    monkeypatch.setattr("eip.streams._worker.log", Log())
    stream = memory.stream("s", shards=2)
    group = stream.group("g", start="trim_horizon", options=GroupOptions(report_interval=10))
    await stream.send(Message(1, group_id="k"))
    async with group.receiver() as receiver:
        (held,) = await receiver.receive(1)
        await asyncio.sleep(10.5)
        assert group.iterator_age == pytest.approx(10.5)
        await held.ack()
    ages = [fields for event, fields in logged if event == "iterator_age"]
    assert [(each["seconds"], each["shards"], each["group"]) for each in ages] == [(10.0, 2, "g")]


async def test_the_iterator_age_is_a_metric(memory):
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    group = memory.stream("s", shards=1).group("g", start="trim_horizon")
    export_iterator_age(group, MeterProvider([reader]).get_meter("test"))
    await memory.stream("s").send(Message(1, group_id="k"))
    async with group.receiver() as receiver:
        await receiver.receive(1)
        await asyncio.sleep(4)
        found: Any = reader.get_metrics_data()
    (metric,) = found.resource_metrics[0].scope_metrics[0].metrics
    (point,) = metric.data.data_points
    assert (metric.name, metric.unit, point.value) == ("eip.stream.iterator_age", "s", pytest.approx(4))
    assert point.attributes == {"stream": "s", "group": "g", "shard": "shardId-000000000000"}


async def test_a_worker_cancelled_while_it_joins_leaves_no_task(memory):
    groups, _ = worker_groups(memory.stream("s"), 1)
    joining = asyncio.create_task(groups[0].receiver().open())
    before = asyncio.all_tasks()
    for _ in range(4):
        await asyncio.sleep(0)
    joining.cancel()
    await asyncio.gather(joining, return_exceptions=True)
    await asyncio.sleep(1)
    assert asyncio.all_tasks() <= before


async def test_joining_says_what_fails(memory):
    stream = memory.stream("s")
    groups, stores = worker_groups(stream, 1)
    stores[0].broken, stores[0].for_good = True, True  # an error that is transient is waited for
    with pytest.raises(StoreError, match="cut off"):
        async with groups[0].receiver():
            pass
    with pytest.raises(ConfigurationError, match="latest"):
        stream.group("h", start="yesterday")
    with pytest.raises(ConfigurationError, match="checkpoint_interval must be at most"):
        GroupOptions(failover=1.0)
    options = GroupOptions(failover=timedelta(minutes=1), checkpoint_interval=timedelta(seconds=20))
    assert options == replace(options) == GroupOptions(failover=60, checkpoint_interval=20.0)


@pytest.mark.parametrize("pause", [0.0, 0.3, 2.0])
async def test_workers_that_join_at_once_leave_no_shard_unread(memory, pause):
    """A worker is handed what it asked for, although its share shrank meanwhile: nobody else would read it."""
    stream = memory.stream("s", shards=8)
    group = stream.group("g", options=GroupOptions(failover=600, checkpoint_interval=1))

    async def handle(messages):
        await asyncio.sleep(0.02 + 0.015 * len(messages))

    async with AsyncExitStack() as workers:
        for _ in range(4):
            await workers.enter_async_context(BatchConsumer(group, handle, grace=0))
            await asyncio.sleep(pause)
        for second in range(14):
            await stream.send(*(Message(1, group_id=f"{second}-{number}") for number in range(400)))
            await asyncio.sleep(1)
        assert {each.shard for each in group.shards} == {each.id for each in stream.shards}


async def test_an_ack_needs_no_call_but_where_someone_watches_or_it_is_late(memory):
    stream = memory.stream("s")
    await stream.send(*(Message(number) for number in range(4)))
    group = stream.group("g", start="trim_horizon", leases=MemoryStore())
    async with group.receiver() as receiver:
        first, second, third, fourth = [each for _ in range(4) for each in await receiver.receive(1)]
        assert receiver.ack_nowait(first)
        assert not receiver.ack_nowait(first)
        second.on_acked = lambda: None
        assert not receiver.ack_nowait(second)
        receiver.settling = lambda *_: pytest.fail("not a settlement")
        assert not receiver.ack_nowait(third)
        receiver.settling = None
        fourth.held.gone = True
        assert not receiver.ack_nowait(fourth)


async def test_a_group_of_another_stream_of_the_same_name_is_refused(memory):
    """In another account or region; shards have the same ids, so each would read what the other left."""
    leases, log, other = MemoryStore(), memory.stream("s").group("g").log, memory.stream("s").group("h").log
    log.address, other.address = "arn:here", "arn:elsewhere"
    mine, theirs = (StreamGroup(each, "g", leases=leases) for each in (log, other))

    async def handle(_):
        pass

    async with running(Consumer(mine, handle)):
        checkpoints = await mine.checkpoints()
        for use in (Consumer(theirs, handle).run, lambda: theirs.seek("trim_horizon")):
            with pytest.raises(ConfigurationError, match=r"leases of s/g are of the stream arn:here.*another name"):
                await use()
        assert await mine.checkpoints() == checkpoints
