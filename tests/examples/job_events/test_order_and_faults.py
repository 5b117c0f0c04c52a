"""The whole application in virtual time, with faults on and services killed: nothing lost, doubled or out of order."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from eip import Backoff
from eip.errors import StoreError, TransportError
from eip.patterns.redrive import redrive
from eip.runtime.service import Runnable
from eip.stores import MemoryStore
from eip.stores.objects import MemoryObjects
from eip.testing import FaultPlan, run
from eip.transports.memory import MemoryTransport
from examples.job_events import channels as names
from examples.job_events.agency import Agency
from examples.job_events.analytics import Analytics
from examples.job_events.channels import topology
from examples.job_events.database import SqliteDatabase
from examples.job_events.inventory import Inventory
from examples.job_events.inventory_tables import SqliteInventory
from examples.job_events.lake import Lake
from examples.job_events.publisher import Publisher
from examples.job_events.sqlite_capture import SqliteCapture
from examples.job_events.translation import UntranslatableChange, translate
from examples.job_events.wiring import TransportChannels

JOBS = 500
PLAN = FaultPlan(
    duplicates=0.02,
    lost_acks=0.02,
    lost_extensions=0.01,
    send_failures=0.1,
    receive_failures=0.05,
    lost_deliveries=0.01,
)


class Watched(SqliteCapture):
    """Notes the events that there should be: those of every change that was read."""

    def __init__(self, path, events):
        super().__init__(path)
        self.events = events

    async def changes(self, most):
        async for batch in super().changes(most):
            for change in batch:
                try:
                    self.events[change.position.commit] = translate(change, self.origin)
                except UntranslatableChange:
                    self.events[change.position.commit] = None
            yield batch


class Flaky:
    """A store that fails now and then, before or after the work was done, and for good once the process was killed."""

    def __init__(self, inner, faulty, dice):
        self._inner, self._faulty, self._dice = inner, faulty, dice

    def __getattr__(self, name):
        method = getattr(self._inner, name)

        async def call(*arguments, **options):
            fails = self._faulty.killed or self._dice.random() < 0.005
            if fails and self._dice.random() < 0.5:
                raise StoreError("failed before")
            answer = await method(*arguments, **options)
            if fails:
                raise StoreError("failed after")
            return answer

        return call


class World:
    """What survives a kill: the database, the broker, the stores; and who saw which event when."""

    def __init__(self, folder, seed):
        self.database_path, self.inventory_path = folder / "jobs.sqlite", folder / "inventory.sqlite"
        self.dice = random.Random(seed)
        self.plan = PLAN
        self.objects, self.claims = MemoryObjects(), MemoryStore()
        self.events = {}
        self.duplicates = self.stale = 0
        self.seen: dict[str, dict[int, list[str]]] = {"analytics": defaultdict(list), "inventory": defaultdict(list)}
        self.faults = 0

    @asynccontextmanager
    async def services(self, memory):
        """Publisher and both services as one process each, over the faulty transport."""
        faulty = self.plan.wrap(memory)
        faulty._dice = self.dice
        channels = TransportChannels(faulty)
        retry = Backoff(base=0.5, cap=5.0)
        options: dict[str, Any] = {"retry": retry, "grace": 1}
        lake = Lake(*(Flaky(each, faulty, self.dice) for each in (self.objects, self.claims)))
        analytics = Analytics(channels, lake, **options)
        table = SqliteInventory(self.inventory_path)
        inventory = Inventory(channels, Flaky(table, faulty, self.dice), **options)
        self.watch("analytics", analytics.consumer)
        self.watch("inventory", inventory.consumer)
        capture = Watched(self.database_path, self.events)
        services: list[Runnable] = [Publisher(capture, channels, batch=100, retry=retry), analytics, inventory]
        try:
            async with asyncio.TaskGroup() as tasks:
                for each in services:
                    tasks.create_task(each.run())
                yield faulty
                for each in services:
                    tasks.create_task(each.stop())
        finally:
            self.faults += faulty.faults
            self.duplicates += lake.duplicates
            self.stale += inventory.stale
            table.close()

    def watch(self, name, consumer):
        """Note the events of each job in the order in which they were first given to the handler."""
        settings, seen = consumer._settings, self.seen[name]
        handle = settings.handler

        async def watched(message):
            job = message.body["job_id"]
            if message.id not in seen[job]:
                seen[job].append(message.id)
            await handle(message)

        object.__setattr__(settings, "handler", watched)

    def lines(self):
        return [json.loads(line) for data in self.objects.objects.values() for line in data.splitlines()]


async def scenario(world, changes, kills):
    expected = 0
    async with MemoryTransport() as memory, SqliteDatabase(world.database_path) as database:
        await topology().apply(memory)
        agency = Agency(world.dice, JOBS, set())

        async def work(count):
            """The agency's changes, some hundred a second."""
            nonlocal expected
            done = 0
            while done < count:
                before = database._db.total_changes
                await database.commit(*agency.next())
                made = (database._db.total_changes - before) // 2  # the row, and what its trigger notes
                done += made
                expected += made
                if database._db.total_changes % 50 < 3:
                    await asyncio.sleep(0.2)

        for _ in range(kills):
            try:
                async with world.services(memory) as faulty:
                    await work(changes // (kills + 1))
                    await asyncio.sleep(world.dice.uniform(0, 3))
                    faulty.kill()
            except* TransportError:
                pass  # connecting failed: as good as killed
        async with world.services(memory):
            await work(changes - expected)
            await asyncio.sleep(600)
            dead = [each.id for name in names.DEAD_LETTERS.values() for each in memory.queue(name).messages()]
            for label, name in names.DEAD_LETTERS.items():
                to = names.ANALYTICS if label.startswith("analytics") else names.INVENTORY
                await redrive(memory.queue(name), memory.queue(to))
            await asyncio.sleep(600)
        assert [len(memory.queue(name)) for name in (names.ANALYTICS, names.INVENTORY)] == [0, 0]
        invalid = [each.body for each in memory.queue(names.INVALID).messages()]
        salaries = dict(database._db.execute("SELECT job_no, sal_minor FROM tbl_job WHERE sal_minor IS NOT NULL"))
        return await database.jobs(), salaries, expected, dead, invalid


def check(world, changes, jobs, salaries, expected, dead, invalid):
    assert expected >= changes
    assert sorted(world.events) == list(range(1, expected + 1))
    wanted = {each.id for each in world.events.values() if each is not None}
    assert len(wanted) > changes / 2
    # Inventory equals the database.
    table = SqliteInventory(world.inventory_path)

    async def available():
        return {job.job_id: (job.title, job.employer, job.city) async for job in table.available()}

    assert run(available()) == jobs
    table.close()
    # Analytics holds every event exactly once, and in the end what the database says.
    lines = world.lines()
    assert Counter(each["id"] for each in lines) == dict.fromkeys(wanted, 1)
    state: dict[int, Decimal] = {}
    for each in sorted(lines, key=lambda line: line["position"]):
        if each["type"] == "JobDeleted":
            state.pop(each["job_id"], None)
        else:
            state[each["job_id"]] = Decimal(each["salary"]["amount"]) * 100
    assert state == salaries
    assert {each["operation"] for each in invalid} >= {"insert"}
    # Order per job, save for what went to a dead-letter queue and was sent back.
    # A batch in hand at a kill has one attempt left, as its receive counts as all that it can have had.
    assert len(dead) < expected / 200
    for seen in world.seen.values():
        for ids in seen.values():
            alive = [each for each in ids if each not in dead]
            assert alive == sorted(alive)
    assert world.faults > expected / 40
    assert world.duplicates > 0
    assert world.stale > 0


@pytest.mark.parametrize(("changes", "kills"), [(20_000, 6)], ids=["20,000 changes"])
def test_faults_and_kills_lose_nothing_double_nothing_and_keep_the_order_of_each_job(tmp_path, changes, kills):
    world = World(tmp_path, seed=7)
    random.seed(7)
    check(world, changes, *run(scenario(world, changes, kills)))
