"""The process manager under any failures and crashes: it always ends, and what it did is in order."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from eip.errors import ConnectionLost, Reject
from eip.patterns.process_manager import Instance, Process, ProcessManager
from eip.stores import MemoryStore
from eip.testing import run
from tests.patterns.test_process_manager import Dying

STEPS = ("a", "b", "c", "d")
TROUBLE = st.sampled_from(["error", "reject", "timeout", "none"])

outcomes = st.fixed_dictionaries({name: st.lists(TROUBLE, max_size=3) for name in STEPS})
undoings = st.fixed_dictionaries({name: st.lists(st.sampled_from(["error", "none"]), max_size=2) for name in STEPS})


class World:
    """Logs what begins and what has an effect; has the trouble that it is told, in this order."""

    def __init__(self, outcomes: dict[str, list[str]], undoings: dict[str, list[str]]) -> None:
        self.outcomes = {name: list(each) for name, each in outcomes.items()}
        self.undoings = {name: list(each) for name, each in undoings.items()}
        self.begun: list[str] = []
        self.effects: set[str] = set()

    def process(self) -> Process:
        process = Process("p", deadline=1e6)
        for name in STEPS:
            process.step(self.doing(name), name=name, compensate=self.undoing(name), timeout=10, max_attempts=3)
        return process

    def doing(self, name: str):
        async def do(state: dict) -> dict:
            self.begun.append(name)
            trouble = self.outcomes[name].pop(0) if self.outcomes[name] else "none"
            if trouble == "reject":
                raise Reject(name)
            self.effects.add(name)
            if trouble == "error":
                raise ConnectionLost(name)
            if trouble == "timeout":
                await asyncio.sleep(100)
            return {**state, name: True}

        return do

    def undoing(self, name: str):
        async def undo(state: dict) -> None:
            self.begun.append(f"undo {name}")
            if self.undoings[name] and self.undoings[name].pop(0) == "error":
                raise ConnectionLost(name)
            self.effects.discard(name)

        return undo


async def scenario(world: World, deaths: list[int]) -> tuple[Instance, dict]:
    """One process manager after the other, each but the last stuck for ever after so many writes."""
    store, tasks = MemoryStore(), []
    await ProcessManager(store, [world.process()]).start("p", {}, id="1")
    for writes in deaths:
        tasks.append(asyncio.create_task(ProcessManager(Dying(store, writes), [world.process()]).run()))
        await asyncio.sleep(50)
    manager = ProcessManager(store, [world.process()])
    async with asyncio.TaskGroup() as group:
        group.create_task(manager.run())
        ended = await manager.ended("1")
        state = await manager.state("1")
        await manager.stop()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return ended, state


@given(outcomes, undoings, st.lists(st.integers(0, 6), max_size=2))
def test_it_ends_whole_or_undone_whatever_fails_and_whoever_dies(outcomes, undoings, deaths):
    world = World(outcomes, undoings)
    ended, state = run(scenario(world, deaths))
    forward = [each for each in dict.fromkeys(world.begun) if not each.startswith("undo")]
    back = [each.removeprefix("undo ") for each in dict.fromkeys(world.begun) if each.startswith("undo")]
    assert forward == list(STEPS[: len(forward)])
    assert back == sorted(back, reverse=True)
    if ended.status == "completed":
        assert (world.effects, list(state), back) == (set(STEPS), list(STEPS), [])
    else:
        assert ended.status == "compensated"
        assert world.effects == set()
