"""`run`: signals drain, failures are raised once the others have drained."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from eip import run


class Worker:
    """A service that works until stopped, or fails."""

    def __init__(self, *, fails: bool = False, drains: float = 0.0) -> None:
        self.fails, self.drains = fails, drains
        self.started = asyncio.Event()
        self.stopping = asyncio.Event()
        self.ended = ""

    async def run(self) -> None:
        self.started.set()
        if self.fails:
            raise ValueError("broken")
        try:
            await self.stopping.wait()
            await asyncio.sleep(self.drains)
            self.ended = "drained"
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise

    async def stop(self) -> None:
        self.stopping.set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains(number):
    workers = [Worker(), Worker()]
    task = asyncio.create_task(run(*workers))
    await workers[1].started.wait()
    os.kill(os.getpid(), number)
    await task
    assert [each.ended for each in workers] == ["drained", "drained"]


async def test_a_second_signal_cancels():
    worker = Worker(drains=10_000)
    task = asyncio.create_task(run(worker))
    await worker.started.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await worker.stopping.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await task
    assert worker.ended == "cancelled"


async def test_one_that_fails_lets_the_others_drain():
    good, bad = Worker(), Worker(fails=True)
    with pytest.raises(ExceptionGroup) as caught:
        await run(good, bad)
    assert caught.group_contains(ValueError, match="broken")
    assert good.ended == "drained"


async def test_cancelling_run_cancels_the_services():
    worker = Worker()
    task = asyncio.create_task(run(worker))
    await worker.started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert worker.ended == "cancelled"


async def test_the_signal_handlers_are_put_back():
    worker = Worker()
    before = signal.getsignal(signal.SIGTERM)
    task = asyncio.create_task(run(worker))
    await worker.started.wait()
    await worker.stop()
    await task
    assert signal.getsignal(signal.SIGTERM) == before
