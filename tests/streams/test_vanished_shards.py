"""Shards that the stream has no more: they were closed, and all of theirs became older than its retention."""

from __future__ import annotations

import asyncio
import logging

import pytest

from eip import Consumer, Message, running
from eip.errors import ChannelNotFound
from eip.retry import Backoff
from eip.stores import MemoryStore
from eip.streams import Cursor, GroupOptions, Lease, Page, Position, Shard
from tests.streams.scripted import SHARD, ScriptedLog, until

CHILD = "shardId-000000000001"
QUICK = GroupOptions(failover=9.0, checkpoint_interval=1.0, discovery_interval=10.0)


class _Gone(Cursor):
    async def read(self, limit: int) -> Page:
        raise ChannelNotFound(f"shard {SHARD} does not exist")


class Resharded(ScriptedLog):
    """A shard and its child; the parent can vanish, from the list and for its readers."""

    def __init__(self) -> None:
        super().__init__()
        self.child = ScriptedLog()
        self.listed = [Shard(SHARD, closed=True), Shard(CHILD, (SHARD,))]

    def vanish(self) -> None:
        self.listed = self.listed[1:]
        self.failures = [ChannelNotFound(f"shard {SHARD} does not exist")] * 1000
        self.changed.set()

    async def shards(self):
        return self.listed

    def cursor(self, shard, position, *, group):
        if shard == CHILD:
            return self.child.cursor(shard, position, group=group)
        return super().cursor(shard, position, group=group) if len(self.listed) == 2 else _Gone()


@pytest.fixture
def log():
    made = Resharded()
    made.put(b'"of the parent"', key="k")
    made.child.put(b'"of the child"', key="k")
    return made


async def test_a_held_shard_that_vanished_ends_and_its_children_begin(log, caplog):
    """Fault 46: read in vain until the process was restarted, and its children overtook what was still held of it."""
    seen, failing = [], True

    async def handle(message: Message) -> None:
        if failing:
            raise OSError("away")
        seen.append(message.body)

    group = log.group(options=QUICK)
    consumer = Consumer(group, handle, retry=Backoff(base=1.0, cap=1.0))
    with caplog.at_level(logging.INFO):
        async with running(consumer):
            await until(lambda: consumer.stats.retried)
            log.vanish()
            await until(lambda: "shard_vanished" in caplog.text)
            assert "has vanished from the stream" in str(group.health().reason)
            await asyncio.sleep(30)
            assert [each.shard for each in group.shards] == [SHARD]
            assert group.health().ok
            failing = False
            await until(lambda: seen == ["of the parent", "of the child"], within=30)
            lease = await (await group.table()).get(SHARD)
            assert lease is not None
            assert (lease.ended, lease.owner) == (True, None)
    assert caplog.text.count("shard_vanished") == 1


async def test_a_shard_that_nobody_holds_any_more_ends_once_it_vanished(log):
    """Fault 46: its lease stayed for ever."""
    seen: list = []

    async def handle(message: Message) -> None:
        seen.append(message.body)

    group = log.group(options=QUICK)
    table = await group.table()
    await table.write(Lease(shard=SHARD, position=Position(sequence="0")))
    log.vanish()
    async with running(Consumer(group, handle)):
        await until(lambda: seen == ["of the child"], within=30)
    lease = await table.get(SHARD)
    assert lease is not None
    assert lease.ended


async def test_children_wait_for_a_vanished_shard_that_another_worker_has_records_of(log):
    """A key's later records are in the child."""
    leases, seen, free = MemoryStore(), [], asyncio.Event()

    async def held_up(message: Message) -> None:
        await free.wait()
        seen.append(message.body)

    async def handle(message: Message) -> None:
        seen.append(message.body)

    first = log.group(options=QUICK, leases=leases)
    async with running(Consumer(first, held_up)):
        await until(lambda: first.shards and first.shards[0].held)
        log.vanish()
        async with running(Consumer(log.group(options=QUICK, leases=leases), handle)):
            await asyncio.sleep(60)
            assert seen == []
            free.set()
            await until(lambda: seen == ["of the parent", "of the child"], within=30)


async def test_a_shard_that_one_list_left_out_is_read_on(log):
    """Nor one that is read all the same: a list may be wrong for a moment."""
    seen: list = []

    async def handle(message: Message) -> None:
        seen.append(message.body)

    group = log.group(options=QUICK)
    async with running(Consumer(group, handle)):
        await until(lambda: seen == ["of the parent"])
        listed, log.listed = log.listed, log.listed[1:]
        await asyncio.sleep(60)
        log.listed = listed
        log.put(b'"more"')
        await until(lambda: seen == ["of the parent", "more"])
