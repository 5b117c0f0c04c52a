"""The function that is called with each complete request: at least once, whatever dies, fails or hangs."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import subprocess
import sys
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Any

import pytest

from eip.errors import ConfigurationError, StoreError
from eip.patterns.scatter_gather import Gathered, ScatterGather
from eip.stores import MemoryStore, SqliteStore
from eip.transports.memory import MemoryTransport
from tests.patterns.test_scatter_gather_in_store import Processes, _Dying, _Weather, bodies
from tests.runtime.scripted import until


class Calls:
    """Notes what it is called with; fails as often as it is to."""

    def __init__(self, *failures: Any) -> None:
        self.of: list[Gathered] = []
        self._failures = list(failures)

    async def __call__(self, gathered: Gathered) -> None:
        self.of.append(gathered)
        if self._failures:
            failure = self._failures.pop(0)
            if isinstance(failure, Exception):
                raise failure
            await asyncio.sleep(failure)

    @property
    def ids(self) -> list[str]:
        return [each.id for each in self.of]


async def test_it_is_called_once_with_the_result_whichever_process_completes():
    async with MemoryTransport() as transport, AsyncExitStack() as stack:
        calls = Calls()
        world = Processes(transport, on_complete=calls)
        one, two = [await stack.enter_async_context(world.one()) for _ in range(2)]
        whole = await one.request("?", expected=2, deadline=60).start()
        silent = await two.request("?", expected=2, deadline=5).start()
        nobody = await two.request("?", expected=0, deadline=5).start()
        await world.answer(1, 2)
        results = {key: await one.result(key) for key in (whole, silent, nobody)}
        await asyncio.sleep(100)
        assert sorted(calls.ids) == sorted(results)
        assert all(results[each.id] == each for each in calls.of)
        assert await one.open_requests() == []
        assert await world.store.next_due() is None


async def test_it_is_called_soon_and_not_for_requests_without_it():
    async with MemoryTransport() as transport:
        calls = Calls()
        async with Processes(transport, on_complete=calls).one() as gather:
            await gather.request("?", deadline=5, notify=False)
            key = (await gather.request("?", deadline=5)).id
            await asyncio.sleep(0.5)
            assert calls.ids == [key]


async def test_a_failure_is_tried_again_by_any_process_and_hides_no_other():
    """It raises three times, hangs once; other requests do not wait for that."""
    async with MemoryTransport() as transport, AsyncExitStack() as stack:
        calls = Calls(OSError("no route"), OSError("no route"), 3600, ValueError("no"))
        world = Processes(transport, on_complete=calls)
        for _ in range(2):
            gather = await stack.enter_async_context(world.one())
        key = (await gather.request("?", deadline=1)).id
        await until(lambda: len(calls.of) == 3)
        other = (await gather.request("?", deadline=1)).id
        assert await gather.open_requests(limit=1) == []
        await until(lambda: len(calls.of) == 6)
        assert sorted(calls.ids) == sorted([key] * 4 + [other] * 2)
        await asyncio.sleep(1000)
        assert len(calls.of) == 6
        assert await world.store.next_due() is None


async def test_a_function_that_always_fails_is_called_until_the_result_expires(caplog):
    """Each attempt put the end of the attempts off: it was called for ever, at last for a result that was gone."""
    async with MemoryTransport() as transport:
        calls = Calls(*[OSError("no route")] * 1000)
        world = Processes(transport, on_complete=calls, retention=3600)
        async with world.one() as gather:
            key = (await gather.request("?", deadline=1)).id
            await asyncio.sleep(3000)
            assert not gather.health().ok
            await asyncio.sleep(1000)
            attempts = len(calls.of)
            assert await gather.get(key) is None
            await asyncio.sleep(10_000)
            assert len(calls.of) == attempts
            assert await world.store.next_due() is None
            assert gather.health().ok
    assert any("on_complete_given_up" in each.getMessage() for each in caplog.records)


async def test_a_process_that_ends_at_any_store_call_loses_no_call():
    """Killed before each write and read, between noting and completing too."""
    for moment in range(20):
        async with MemoryTransport() as transport:
            calls, steps = Calls(), itertools.count()
            world = Processes(transport, on_complete=calls)
            dying = Processes(transport, store=_Dying(world.store, steps, moment), on_complete=calls)
            with suppress(StoreError):
                async with dying.one() as first:
                    await first.request("?", expected=2, deadline=30).start()
                    request = world.asked.messages()[0]
                    await world.replies.send(request.reply(1), request.reply(2))
                    await asyncio.sleep(5)
            await asyncio.sleep(1)
            async with world.one() as second:
                await asyncio.sleep(300)
                for request in world.asked.messages():
                    key = request.headers["request-id"]
                    found = await second.get(key)
                    if found is not None:
                        assert set(calls.ids) == {key}
                        assert all(sorted(bodies(each)) == [1, 2] for each in calls.of)
                assert await world.store.next_due() is None


@pytest.mark.parametrize("seed", range(4))
async def test_faults_of_store_and_function_in_three_processes(seed):
    dice = random.Random(seed)
    called: list[Gathered] = []

    async def on_complete(gathered: Gathered) -> None:
        await asyncio.sleep(dice.uniform(0, 0.5))
        if dice.random() < 0.3:
            raise OSError("away")
        called.append(gathered)

    async with MemoryTransport() as transport, AsyncExitStack() as stack:
        transport.queue("replies", visibility=5)
        truth = MemoryStore()
        gathers = []
        for number in range(3):
            store = _Weather(truth, seed * 10 + number, failures=0.1)
            world = Processes(transport, store=store, on_complete=on_complete, grace=1)
            gathers.append(await stack.enter_async_context(world.one()))
        keys = []
        for number in range(40):
            if number == 20:
                await gathers[0].stop(grace=0)
            with suppress(StoreError):
                deadline = dice.choice((3, 60))
                keys.append(await gathers[1 + number % 2].request(number, expected=1, deadline=deadline).start())
        for request in world.asked.messages()[::2]:
            await world.replies.send(request.reply(request.body))
        await asyncio.sleep(3000)
        results = {key: await ScatterGather(world.asked, world.replies, store=truth).get(key) for key in keys}
        assert {each.id for each in called} >= set(keys)
        for each in called:
            if (kept := results.get(each.id)) is not None:  # replies may have come since, too late
                assert replace(kept, late=each.late, late_replies=each.late_replies) == each
        assert await truth.next_due() is None


async def test_without_the_function_a_process_completes_and_another_calls():
    async with MemoryTransport() as transport:
        calls, world = Calls(), Processes(transport)
        with_it = Processes(transport, store=world.store, on_complete=calls)
        async with with_it.one() as asking:
            key = await asking.request("?", expected=1, deadline=60).start()
        async with world.one() as other:
            await world.answer("!")
            assert bodies(await other.result(key)) == ["!"]
            await asyncio.sleep(100)
        async with with_it.one():
            await until(lambda: calls.ids == [key])


async def test_it_needs_a_store_and_a_function():
    async with MemoryTransport() as transport:
        with pytest.raises(ConfigurationError, match="on_complete needs a store"):
            ScatterGather(transport.queue("a"), transport.queue("b"), on_complete=Calls())
        wrong: Any = 7
        with pytest.raises(TypeError, match="on_complete must be a function"):
            ScatterGather(transport.queue("a"), transport.queue("b"), on_complete=wrong)


PROCESS = """
import asyncio, os, signal, sys
from eip.patterns import _completion_notices
from eip.patterns.scatter_gather import ScatterGather
from eip.stores import SqliteStore
from eip.transports.memory import MemoryTransport

_completion_notices._CALL_TIMEOUT_S = 0.1

async def killed(gathered):
    print(gathered.id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

async def main(path):
    async with MemoryTransport() as transport:
        asked, replies, store = transport.queue("asked"), transport.queue("replies"), SqliteStore(path)
        async with ScatterGather(asked, replies, store=store, on_complete=killed) as gather:
            await gather.request("?", deadline=0.1).start()
            await asyncio.sleep(60)

asyncio.run(main(sys.argv[1]))
"""


def test_a_process_that_is_killed_in_the_function_is_followed_by_another(tmp_path):
    path = str(tmp_path / "requests.sqlite")
    command = [sys.executable, "-c", PROCESS, path]
    killed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    async def next_process() -> list[str]:
        calls, store = Calls(), SqliteStore(path)
        async with MemoryTransport() as transport:
            world = Processes(transport, store=store, on_complete=calls)
            async with world.one(), asyncio.timeout(30):
                while not calls.of:
                    await asyncio.sleep(0.05)
        await store.aclose()
        return calls.ids

    assert asyncio.run(next_process()) == [killed.stdout.strip()]
