"""A process manager that dies at any of its awaits: another one goes on, and repeats at most what was under way."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import count

import pytest

from eip import Message
from eip.errors import Reject
from eip.patterns.process_manager import Instance, Process, ProcessManager, Steps
from eip.stores import MemoryStore
from eip.testing import run
from tests.patterns.test_process_branches import Order, Page

DEADLY = ("get", "put", "put_part", "parts", "delete_parts")
OTHERS = ("delete", "due", "next_due")
"""Where the loop of the scheduler is at, which has nothing in hand then."""


class Life:
    """Of a process that dies at its n-th await of a store, a channel or a step; then nothing goes on in it."""

    def __init__(self, awaits: float) -> None:
        self.left = awaits
        self.awaits = 0

    async def goes_on(self) -> None:
        self.awaits += 1
        self.left -= 1
        if self.left < 0:
            await asyncio.Event().wait()

    def store(self, shared: MemoryStore) -> MemoryStore:
        """The shared store as this process sees it: it may die before an operation, or when that was done."""
        mortal = MemoryStore()
        for name in (*DEADLY, *OTHERS):
            operation = getattr(shared, name)
            setattr(mortal, name, self._mortal(operation) if name in DEADLY else operation)
        return mortal

    def _mortal(self, operation):
        async def call(*arguments, **options):
            await self.goes_on()
            result = await operation(*arguments, **options)
            await self.goes_on()
            return result

        return call


class World:
    """What steps did, whichever process made them; some are rejected."""

    def __init__(self, rejected: frozenset[str] = frozenset()) -> None:
        self.log: list[str] = []
        self.rejected = rejected

    def does(self, name: str, life: Life):
        async def act(state) -> None:
            await life.goes_on()
            self.log.append(name)
            await life.goes_on()
            if name in self.rejected:
                raise Reject(name)
            if isinstance(state, Order):
                state.log.append(name)

        act.__name__ = name
        return act

    def steps(self, life: Life, *names: str) -> Steps:
        steps = Steps()
        for name in names:
            steps.step(self.does(name, life), compensate=self.does(f"-{name}", life))
        return steps

    def definition(self, life: Life) -> Process[Order]:
        """Every kind of element there is."""

        async def paid(order: Order, message: Message) -> None:
            await self.does("paid", life)(order)

        def join(order: Order, ends: dict[str, Order]) -> None:
            order.log += [each for end in ends.values() for each in end.log[len(order.log) :]]

        page = Process("page", state=Page).step(self.does("page", life), compensate=self.does("-page", life))
        body = (
            self.steps(life, "b")
            .parallel({"l": self.steps(life, "l1", "l2"), "r": self.steps(life, "r1")}, join=join, name="fork")
            .map(page, items=lambda _: [Page(number=1), Page(number=2)], max_concurrency=1)
        )
        made = Process("p", state=Order)
        made.step(self.does("a", life), compensate=self.does("-a", life))
        made.catch(body.step(self.does("c", life)), failed=self.steps(life, "f"))
        made.choice([(lambda order: order.kind == "toy", Steps().complete())], otherwise=self.steps(life, "d"))
        return made.receive(paid, within=1e6).wait(10).step(self.does("z", life))


class Sent:
    name = address = "ends"

    def __init__(self, life: Life, messages: list[Message]) -> None:
        self._life, self._messages = life, messages

    async def send(self, *messages: Message) -> None:
        await self._life.goes_on()
        self._messages += messages
        await self._life.goes_on()


async def lives(world: World, *awaits: float) -> tuple[Instance, Order, list[Message], int]:
    """One process after the other, the last of which does not die."""
    shared, dead, lived = MemoryStore(), [], []
    sent: list[Message] = []
    await ProcessManager(shared, [world.definition(Life(1e9))]).start("p", Order(), id="1")
    await ProcessManager(shared, [world.definition(Life(1e9))]).receive(Message("cash", correlation_id="1"))
    for number in (*awaits, 1e9):
        life = Life(number)
        lived.append(life)
        output = Sent(life, sent)
        manager = ProcessManager(life.store(shared), [world.definition(life)], output=output)  # type: ignore[arg-type]
        task = asyncio.create_task(manager.run())
        if number == 1e9:
            ended = await manager.ended("1")
            await asyncio.sleep(1)
            await manager.stop()
            state = await manager.state("1")
        else:
            await asyncio.sleep(50)
            dead.append(task)
    for task in dead:
        task.cancel()
    await asyncio.gather(*dead, return_exceptions=True)
    assert len(shared) > 0
    return ended, state, sent, lived[0].awaits


def effects(log: list[str]) -> list[str]:
    """The first time that each was done: repetitions are left out."""
    return list(dict.fromkeys(log))


SCENARIOS = {
    "goes through": (frozenset(), "completed", ["paid", "z"]),
    "fails in a branch": (frozenset({"l2"}), "completed", ["-l1", "-b", "f", "d", "paid", "z"]),
    "fails after its branches": (frozenset({"c"}), "completed", ["-l2", "-l1", "-b", "f", "d", "paid", "z"]),
    "fails at the end": (frozenset({"z"}), "compensated", ["-d", "-page", "-r1", "-l2", "-l1", "-b", "-a"]),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_it_dies_and_nothing_is_lost_or_made_twice(scenario):
    kill_everywhere(scenario, stride=7)


@pytest.mark.soak
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_it_dies_at_each_await(scenario):
    kill_everywhere(scenario, stride=1)


def kill_everywhere(scenario: str, *, stride: int) -> None:
    rejected, status, tail = SCENARIOS[scenario]
    ended, calm, _, awaits = run(lives(World(rejected), 2e9))
    for dies_at in range(len(scenario) % stride, awaits, stride):
        world = World(rejected)
        ended, state, sent, _ = run(lives(world, dies_at))
        place = f"died at await {dies_at} of {awaits}: {world.log}"
        assert ended.status == status, place
        assert sorted(state.log) == sorted(calm.log), place
        repeated = {name: times - (2 if "page" in name else 1) for name, times in Counter(world.log).items()}
        # Both branches may be under way at the same time.
        assert sum(repeated.values()) <= 2, place
        assert max(repeated.values()) <= 1, place
        done = [each for each in effects(world.log) if each in tail]
        assert done == tail, place
        assert {each.id for each in sent} == {f"1/{status}"}, place


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_it_dies_again_and_again(scenario):
    """A chain of processes, each of which dies soon after it has taken over."""
    rejected, status, tail = SCENARIOS[scenario]
    for step in (5, 17):
        world = World(rejected)
        deaths = [number for number, _ in zip(count(step, step), range(4), strict=False)]
        ended, *_ = run(lives(world, *deaths))
        assert ended.status == status
        assert [each for each in effects(world.log) if each in tail] == tail
