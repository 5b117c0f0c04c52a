"""Several real processes on one file: at the same time, and one after the other was killed with kill -9."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROLOGUE = """
import asyncio, os, signal, sys
from pathlib import Path
from eip import Message, SequenceInfo
from eip.channels import Sender
from eip.stores import SqliteStore
from eip.testing import run

folder, killed_at = Path(sys.argv[1]), sys.argv[2]

def note(what):
    with (folder / "log").open("a") as log:
        print(what, file=log)
    if what == killed_at:
        os.kill(os.getpid(), signal.SIGKILL)
"""

PROCESS = (
    PROLOGUE
    + """
from eip.patterns.process_manager import Process, ProcessManager, Steps

def does(name):
    async def act(state: dict) -> dict:
        note(name)
        return {"done": [*state["done"], name]}
    return act

async def main():
    branch = Steps().step(does("b"), name="b")
    process = Process("p").step(does("a"), name="a").parallel({"only": branch}, join=lambda _, ends: ends["only"])
    process.step(does("c"), name="c")
    manager = ProcessManager(SqliteStore(folder / "state.sqlite"), [process])
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(manager.run())
        await manager.start("p", {"done": []}, id="1")
        ended = await manager.ended("1")
        print(ended.status, await manager.state("1"))
        await manager.stop()

run(main())
"""
)

RESEQUENCER = (
    PROLOGUE
    + """
from eip.patterns.resequencer import Resequencer

class Log(Sender):
    name = address = "log"

    async def send(self, *messages):
        for message in messages:
            note(str(message.body))

async def main():
    resequencer = Resequencer(SqliteStore(folder / "state.sqlite"), output=Log())
    acked = folder / "acked"
    acked.touch()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(resequencer.run())
        for position in (2, 1, 3, 0, 4):
            if str(position) not in acked.read_text().split():
                await resequencer(Message(position, sequence=SequenceInfo("s", position)))
                with acked.open("a") as file:
                    print(position, file=file)
        await asyncio.sleep(100)
        await resequencer.stop()

run(main())
"""
)


RACE = (
    PROLOGUE
    + """
import random
from eip.patterns.resequencer import Resequencer

class Log(Sender):
    name = address = "log"

    async def send(self, *messages):
        for message in messages:
            note(str(message.body))

async def main():
    inputs = list(range(int(killed_at), 60, 3)) + list(range(0, 60, 7))
    random.Random(int(killed_at)).shuffle(inputs)
    resequencer = Resequencer(SqliteStore(folder / "state.sqlite"), output=Log())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(resequencer.run())
        await asyncio.gather(*(resequencer(Message(each, sequence=SequenceInfo("s", each, 60))) for each in inputs))
        while len((folder / "log").read_text().split() if (folder / "log").exists() else []) < 60:
            await asyncio.sleep(0.05)
        await resequencer.stop()

asyncio.run(main())
"""
).replace("if what == killed_at:", "if False:")


def execute(script: str, folder: Path, *, killed_at: str = "never") -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder), killed_at], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == (0 if killed_at == "never" else -signal.SIGKILL), done.stderr
    return done.stdout


@pytest.mark.parametrize("killed_at", ["a", "b", "c"])
def test_a_process_manager_goes_on_in_the_step_it_was_killed_in(tmp_path, killed_at):
    execute(PROCESS, tmp_path, killed_at=killed_at)
    assert "completed {'done': ['a', 'b', 'c']}" in execute(PROCESS, tmp_path)
    log = (tmp_path / "log").read_text().split()
    assert log == sorted([*"abc", killed_at])


@pytest.mark.parametrize("killed_at", ["0", "1", "3", "4"])
def test_a_resequencer_that_was_killed_while_it_released_loses_nothing(tmp_path, killed_at):
    execute(RESEQUENCER, tmp_path, killed_at=killed_at)
    execute(RESEQUENCER, tmp_path)
    log = (tmp_path / "log").read_text().split()
    assert list(dict.fromkeys(log)) == ["0", "1", "2", "3", "4"]


def test_three_processes_at_once_release_every_part_once_and_in_order(tmp_path):
    running = [subprocess.Popen([sys.executable, "-c", RACE, str(tmp_path), str(each)]) for each in range(3)]
    try:
        assert [each.wait(timeout=60) for each in running] == [0, 0, 0]
    finally:
        for each in running:
            each.kill()
            each.wait()
    assert (tmp_path / "log").read_text().split() == [str(each) for each in range(60)]
