"""`run`: signals drain, failures are raised once the others have drained."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import Any

import pytest

from eip import Consumer, Message, Queue, run, running
from eip.errors import ConfigurationError
from eip.runtime._shutdown import Shutdown
from eip.transports.memory import MemoryTransport


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


async def test_one_that_fails_lets_the_others_drain_and_raises_its_own_error():
    """Fault 30: it came in an ExceptionGroup."""
    good, bad = Worker(), Worker(fails=True)
    with pytest.raises(ValueError, match="broken"):
        await run(good, bad)
    assert good.ended == "drained"


async def test_a_stop_that_raises_keeps_nobody_from_stopping():
    good, odd, bad = Worker(), Worker(), Worker(fails=True)

    async def stop() -> None:
        odd.stopping.set()
        raise RuntimeError("odd")

    odd.stop = stop
    with pytest.raises(ValueError, match="broken"):
        await run(odd, good, bad)
    assert (good.ended, odd.ended) == ("drained", "drained")


async def handle(_: Message) -> None: ...


async def test_a_block_begins_when_its_services_are_ready_and_drains_them_when_it_ends():
    async with MemoryTransport() as memory:
        consumers = [Consumer(memory.queue(name), handle) for name in "ab"]
        async with running(*consumers):
            assert [each.ready.is_set() for each in consumers] == [True, True]
            assert [each.health().ok for each in consumers] == [True, True]
        assert [each.ready.is_set() for each in consumers] == [False, False]
        async with consumers[0] as entered:
            assert entered is consumers[0]
            assert entered.ready.is_set()
        assert consumers[0].health().reason == "not running"


async def test_what_a_block_raises_is_raised_as_it_is():
    """Fault 30."""
    worker = Worker()
    with pytest.raises(KeyError, match="mine"):
        async with running(worker):
            raise KeyError("mine")
    assert worker.ended == "drained"


async def test_a_service_that_fails_ends_its_block_with_its_own_error():
    good, bad = Worker(), Worker()

    async def run_and_fail() -> None:
        bad.started.set()
        await bad.stopping.wait()
        raise ValueError("broken")

    bad.run = run_and_fail
    with pytest.raises(ValueError, match="broken"):  # noqa: PT012 - the block is what is tested
        async with running(good, bad):
            bad.stopping.set()
            await asyncio.sleep(3600)
    assert good.ended == "drained"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_service_that_cannot_start_is_an_error_at_the_beginning_of_the_block():
    class Refuses(Queue):
        name = address = "refuses"

        async def send(self, *messages, delay=0.0): ...

        def receiver(self, *, capacity=10):
            raise ConfigurationError("no such queue")

    with pytest.raises(ConfigurationError, match="no such queue"):
        async with Consumer(Refuses(), handle):
            raise AssertionError


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


class OnlyRuns:
    async def run(self) -> None:
        raise AssertionError("it was started")


@pytest.mark.parametrize("odd", [None, "service", [OnlyRuns()], OnlyRuns(), Consumer])
async def test_what_is_no_service_is_refused_before_any_is_started(odd: Any):
    """Fault 34: an AttributeError, and the first service was left running; one without `stop` failed at the signal."""
    first: Any = OnlyRuns()
    first.stop = first.run
    with pytest.raises(TypeError, match="must have run"):
        await run(first, odd)
    with pytest.raises(TypeError, match="must have run"):
        async with running(first, odd):
            pass


async def test_a_service_given_twice_is_refused_before_any_is_started():
    """Fault 34: it ran once, and failed as "running already" or stood twice."""
    queue = MemoryTransport().queue("q")

    async def handle(_: Message) -> None:
        return

    consumer, other = Consumer(queue, handle, name="billing"), Worker()
    with pytest.raises(ConfigurationError, match="<Consumer billing"):
        await run(consumer, other, consumer)
    with pytest.raises(ConfigurationError, match="<Consumer billing"):
        async with running(other, consumer, consumer):
            pytest.fail("not started")
    assert not consumer.ready.is_set()


async def test_a_signal_in_the_middle_of_a_line_of_the_log_does_not_wait_for_that(monkeypatch):
    """A logger's lock is held then by the thread that the signal interrupts: it waited for itself, for ever."""
    lock, drained = threading.Lock(), asyncio.Event()

    class Log:
        def info(self, *_: object, **__: object) -> None:
            with lock:
                return

    monkeypatch.setattr("eip.runtime._shutdown._log", Log())
    with Shutdown(drained.set, 30.0, describe=list):
        with lock:
            os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(20):
            await drained.wait()
