"""A service or a store that is away: waited for, reported, and never in the way of stopping."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from hashlib import sha256

import orjson
import pytest

from eip import Consumer, Message, running
from eip.errors import AccessDenied, ConnectionLost, StoreError
from eip.stores import MemoryStore
from eip.streams import BatchConsumer, Cursor, GroupOptions, Shard
from eip.testing import VirtualTimeLoop
from tests.streams.scripted import SHARD, ScriptedLog, until

QUICK = GroupOptions(failover=9.0, checkpoint_interval=1.0, hand_off_timeout=20.0)


class Store(MemoryStore):
    """A store that may be away, or swallow what it is asked and never answer."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.silent = False

    async def get(self, key):
        await self._answer()
        return await super().get(key)

    async def put(self, key, value, **options):
        await self._answer()
        return await super().put(key, value, **options)

    async def _answer(self) -> None:
        if self.silent:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error


async def take(message: Message) -> None:
    pass


async def hold(message: Message) -> None:
    await asyncio.Event().wait()


async def take_many(messages) -> None:
    pass


class Hanging(ScriptedLog):
    """A shard whose reads never return, until it `answers`."""

    answers = False

    def cursor(self, shard, position, *, group):
        inner, log = super().cursor(shard, position, group=group), self

        class Never(Cursor):
            async def read(self, limit):
                return await (inner.read(limit) if log.answers else asyncio.get_running_loop().create_future())

        return Never()


async def test_a_read_that_hangs_fails_health_and_is_tried_again():
    """Fault 46: ok and an iterator age of nothing, since the call never returned."""
    log = Hanging()
    group = log.group(options=QUICK)
    log.put(b"1")
    consumer = Consumer(group, take)
    async with running(consumer):
        await asyncio.sleep(50)
        assert consumer.health().ok
        await asyncio.sleep(20)
        for health in (group.health(), group.shards[0].health, consumer.health()):
            assert (health.ok, health.reason) == (False, "TimeoutError: no answer within 60 s")
            assert health.failing_since is not None
        log.answers = True
        await until(lambda: consumer.health().ok, within=70)
        await until(lambda: consumer.stats.handled == 1)


async def test_the_iterator_age_grows_while_the_stream_cannot_be_read():
    """Fault 23: denied or throttled, nobody knows of new records, and nobody is up to date."""
    log = ScriptedLog()
    group = log.group(options=QUICK)
    log.put(b"1")
    async with running(Consumer(group, take)):
        await until(lambda: not group.shards[0].held)
        await asyncio.sleep(60)
        assert group.iterator_age == 0
        assert group.health().ok
        log.failures = [AccessDenied("no")] * 1000
        log.changed.set()
        await asyncio.sleep(100)
        assert 95 < group.iterator_age <= 161
        health = group.health()
        assert (health.ok, health.reason) == (False, "AccessDenied: no")
        assert group.shards[0].health == health
        log.failures.clear()
        log.put(b"2")
        await until(lambda: group.health().ok, within=40)
        await until(lambda: group.iterator_age == 0)


async def test_the_iterator_age_outlives_the_worker():
    """Fault 23: a worker that takes the shard over does not begin at nothing."""
    log, leases = ScriptedLog(), MemoryStore()
    async with running(Consumer(log.group(leases=leases, options=QUICK), take)):
        log.failures = [ConnectionLost("away")] * 1000
        log.changed.set()
        log.put(b"1")
        await asyncio.sleep(50)
    group = log.group(leases=leases, options=QUICK)
    log.failures = [ConnectionLost("away")] * 1000
    async with running(Consumer(group, take)):
        await asyncio.sleep(50)
        assert 90 < group.iterator_age < 110


async def test_a_failure_that_lasts_is_one_line_with_a_count(caplog):
    """Faults 41 and 46: not a line for each attempt."""
    log = ScriptedLog()
    log.failures = [ConnectionLost("nobody there")] * 1000
    with caplog.at_level(logging.WARNING):
        async with running(Consumer(log.group("counted"), take)):
            await asyncio.sleep(1000)
    lines = [each for each in caplog.records if "nobody there" in each.getMessage()]
    assert len(lines) == 1


def consumer_of(kind, group):
    return Consumer(group, take) if kind == "consumer" else BatchConsumer(group, take_many)


def virtual_loop() -> VirtualTimeLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    return loop


@pytest.mark.parametrize("kind", ["consumer", "batch consumer"])
async def test_a_store_that_is_away_at_the_start_is_waited_for(kind):
    """Fault 41: and work begins when it is there."""
    log, store = ScriptedLog(), Store()
    store.error = StoreError("no route")
    made = consumer_of(kind, log.group(leases=store, options=QUICK))
    loop = asyncio.get_running_loop()
    running_one = asyncio.create_task(made.run())
    await asyncio.sleep(100)
    assert not running_one.done()
    store.error = None
    log.put(b"1")
    await until(lambda: made.stats.handled == 1, within=40)
    begun = loop.time()
    async with asyncio.timeout(100):
        await made.stop()
        await running_one
    assert loop.time() - begun < 1


@pytest.mark.parametrize("trouble", ["away", "silent"])
@pytest.mark.parametrize("kind", ["consumer", "batch consumer"])
async def test_it_stops_while_it_waits_for_the_store(trouble, kind, caplog):
    """Fault 41: and what is waited for was reported within ten seconds."""
    store = Store()
    store.error, store.silent = (StoreError("away"), False) if trouble == "away" else (None, True)
    made = consumer_of(kind, ScriptedLog().group(f"{kind} {trouble}", leases=store, options=QUICK))
    loop = asyncio.get_running_loop()
    begun = asyncio.create_task(made.run())
    await asyncio.sleep(11)
    events = [each.getMessage().split()[0] for each in caplog.records]
    assert [each for each in events if each != "still_connecting"] == ["join_failed"]
    before = loop.time()
    async with asyncio.timeout(100):
        await made.stop()
        await begun
    assert loop.time() - before < 1


@pytest.mark.parametrize("trouble", ["away", "silent"])
@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("kind", ["consumer", "batch consumer"])
async def test_it_stops_within_its_grace_whatever_the_store_does(trouble, busy, kind):
    """Fault 41: in every state, and while nothing answers."""
    log, store, started = ScriptedLog(), Store(), asyncio.Event()
    loop = asyncio.get_running_loop()
    log.put(b"1")

    async def handle(_) -> None:
        started.set()
        if busy:
            await asyncio.Event().wait()

    group = log.group(leases=store, options=QUICK)
    consumer = Consumer(group, handle, grace=10) if kind == "consumer" else BatchConsumer(group, handle, grace=10)
    async with running(consumer):
        await started.wait()
        store.error, store.silent = (StoreError("away"), False) if trouble == "away" else (None, True)
        await asyncio.sleep(3)
        begun = loop.time()
    assert loop.time() - begun <= 10 + 5 + 1


async def test_a_store_that_never_answers_costs_the_lease_and_not_the_worker():
    """Fault 41c: tried until the lease ends, then the shard is another's, and taken again later."""
    log, store = ScriptedLog(), Store()
    group = log.group(leases=store, options=QUICK)
    async with running(Consumer(group, take)):
        await until(lambda: group.shards)
        store.silent = True
        await asyncio.sleep(QUICK.failover - 4)
        assert group.shards
        await until(lambda: not group.shards, within=QUICK.failover)
        store.silent = False
        await until(lambda: group.shards, within=60)


async def test_after_the_loop_was_blocked_the_shard_is_kept_where_nobody_took_it():
    """Fault 26: the conditional write decides whose it is; what was handled counts, and nothing comes twice."""
    log, loop, seen = ScriptedLog(), virtual_loop(), []
    log.put(b"1", b"2")

    async def handle(message: Message) -> None:
        seen.append(message.body)
        if message.body == 1:
            loop.advance(2 * QUICK.failover)  # as time.sleep would
        await asyncio.sleep(1)

    group = log.group(options=QUICK)
    consumer = Consumer(group, handle)
    async with running(consumer):
        await until(lambda: not group.shards or not group.shards[0].held)
        await asyncio.sleep(30)
        assert group.shards
        assert group.shards[0].checkpoint.sequence == "2"
    assert sorted(seen) == [1, 2]
    assert consumer.stats.lost == 0


async def test_after_the_loop_was_blocked_another_s_shard_is_given_up():
    """Fault 26: fencing by the store, not by clocks."""
    log, store, loop, lost = ScriptedLog(), MemoryStore(), virtual_loop(), []
    log.put(b"1")
    started = asyncio.Event()

    async def handle(message: Message) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lost.append(message.body)
            raise

    group = log.group(leases=store, options=QUICK)
    async with running(Consumer(group, handle)):
        await started.wait()
        table = await group.table()
        lease = await table.get(SHARD)
        assert lease is not None
        loop.advance(2 * QUICK.failover)
        taken = await table.write(lease, owner="another", epoch=lease.epoch + 1)
        assert taken is not None
        await until(lambda: lost == [1], within=10)


async def test_a_stream_that_was_made_again_is_noticed_and_seeking_reads_it(caplog):
    """Fault 23: finished shards that are open again are those of another stream; they were never read, in silence."""
    log, leases, shards, seen = ScriptedLog(), MemoryStore(), [Shard(SHARD, closed=True)], []

    async def list_shards():
        return shards

    log.shards = list_shards

    async def handle(message: Message) -> None:
        seen.append(message.body)

    options = GroupOptions(failover=9.0, discovery_interval=10.0)
    group = log.group(leases=leases, options=options, start="latest")
    async with running(Consumer(group, handle)):
        await asyncio.sleep(30)
        shards[:] = [Shard(SHARD)]
        log.put(b'"new"')
        with caplog.at_level(logging.ERROR):
            await until(lambda: not group.health().ok)
        assert "deleted and made again" in str(group.health().reason)
        assert 'group.seek("trim_horizon")' in str(group.health().reason)
        assert [each.getMessage().split()[0] for each in caplog.records] == ["stream_made_again"]
        assert seen == []
        await group.seek("trim_horizon")
        await until(lambda: seen == ["new"])
        await until(lambda: group.health().ok)


async def test_what_a_newer_version_wrote_into_a_lease_is_kept():
    """Fault 50: two versions of the library share a table while a service is rolled out."""
    log, leases = ScriptedLog(), MemoryStore()
    newer = {"v": 2, "position": {"seq": "1"}, "epoch": 4, "colour": {"of": ["a"]}}
    await leases.put(f"s/g/{SHARD}", orjson.dumps(newer))
    log.put(b"1", b"2")
    seen: list = []

    async def handle(message: Message) -> None:
        seen.append(message.body)

    async with running(Consumer(log.group(leases=leases), handle)):
        await until(lambda: seen == [2])
    stored = await leases.get(f"s/g/{SHARD}")
    assert stored is not None
    fields = orjson.loads(stored.value)
    assert (fields["v"], fields["colour"], fields["position"]) == (1, {"of": ["a"]}, {"seq": "2"})


async def test_a_lease_of_the_first_version_is_read():
    """Fault 50: golden; written before leases had a version."""
    from eip.streams import Lease, Position

    raw = b'{"position":{"seq":"7","part":1},"epoch":3,"owner":"w","wanted_by":"x","ahead":["9:0"]}'
    found = Lease.from_json("shard", raw, "v")
    expected = Lease(shard="shard", owner="w", position=Position(sequence="7", part=1), wanted_by="x", version="v")
    assert found == replace(expected, epoch=3, ahead=("9:0",))


STRANGE_LEASES = [
    *(b"", b"[]", b"{}", b"\xff", b'{"position":7,"epoch":1}', b'{"position":{},"epoch":null}'),
    *(b'{"epoch":1,"position":{%b}}' % each for each in (b'"seq":7', b'"part":"1"', b'"at":"now"')),
    *(
        b'{"epoch":1,"position":{},%b}' % each
        for each in (b'"owner":7', b'"wanted_by":[]', b'"ended":"no"', b'"ahead":"x"')
    ),
]


@pytest.mark.parametrize("raw", STRANGE_LEASES)
async def test_a_lease_that_cannot_be_read_keeps_its_own_shard_alone(raw, caplog):
    """Fault 50: nothing is overwritten, everything else goes on."""
    log, leases = ScriptedLog(), MemoryStore()

    async def list_shards():
        return [Shard(SHARD), Shard("shardId-000000000001")]

    log.shards = list_shards
    name = sha256(raw).hexdigest()[:8]
    await leases.put(f"s/{name}/shardId-000000000001", raw)
    group = log.group(name, leases=leases)
    with caplog.at_level(logging.ERROR):
        async with running(Consumer(group, take)):
            await asyncio.sleep(60)
            assert [each.shard for each in group.shards] == [SHARD]
    assert "lease_unreadable" in caplog.text
    stored = await leases.get(f"s/{name}/shardId-000000000001")
    assert stored is not None
    assert stored.value == raw


@pytest.mark.parametrize("kind", ["consumer", "batch consumer"])
async def test_leases_that_cannot_be_opened_at_the_start_are_waited_for(kind):
    """Fault 22: what opens the store may fail for a moment, as while its table is being made."""
    log, failures = ScriptedLog(), [StoreError("CREATING"), StoreError("CREATING")]
    log.put(b"1")

    async def leases():
        if failures:
            raise failures.pop()
        return MemoryStore()

    made = consumer_of(kind, log.group(leases=leases, options=QUICK))
    async with running(made):
        await until(lambda: made.stats.handled == 1, within=40)


async def test_joining_a_group_says_what_it_waits_for_and_where(caplog):
    """Faults 41e and 42: a store or stream that swallows what it is asked; one line, with a count later."""
    log, store = ScriptedLog(), Store()
    log.where = "http://kinesis.example"
    store.silent = True
    consumer = Consumer(log.group(leases=store, options=QUICK), take)
    task = asyncio.create_task(consumer.run())
    await asyncio.sleep(100)
    lines = [each for each in caplog.text.splitlines() if "join_failed" in each]
    assert "no answer from http://kinesis.example within 10 s" in lines[0]
    assert len(lines) <= 2
    assert "no answer from http://kinesis.example" in str(consumer.health().reason) + lines[0]
    assert not consumer.health().ok
    await consumer.stop()
    await task
