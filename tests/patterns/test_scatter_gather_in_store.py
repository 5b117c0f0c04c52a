"""Scatter-gather in a store: any number of processes are one, and nothing is lost when they end."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest

from eip import Consumer, Message, ReturnAddresses, clock
from eip.errors import ConfigurationError, ConnectionLost, EipError, RequestTimeout, StoreError
from eip.patterns._gathering_records import RequestRecord
from eip.patterns.scatter_gather import Gathered, ScatterGather
from eip.stores import MemoryStore, SqliteStore
from eip.testing import FaultPlan
from eip.transports.memory import MemoryTransport
from tests.runtime.scripted import until


class Processes:
    """Scatter-gathers over the same channels and store, as many processes would have them."""

    def __init__(self, transport: MemoryTransport, store: Any = None, **options: Any) -> None:
        self.asked, self.replies = transport.queue("asked"), transport.queue("replies")
        self.store, self._options = MemoryStore() if store is None else store, options

    def one(self) -> ScatterGather:
        return ScatterGather(self.asked, self.replies, store=self.store, **self._options)

    async def answer(self, *bodies: Any, number: int = 0, **envelope: Any) -> None:
        request = self.asked.messages()[number]
        await self.replies.send(*(request.reply(body, **envelope) for body in bodies))
        await until(lambda: len(self.replies) == 0)


@asynccontextmanager
async def processes(count: int, **options: Any):
    async with MemoryTransport() as transport, AsyncExitStack() as stack:
        world = Processes(transport, **options)
        yield world, [await stack.enter_async_context(world.one()) for _ in range(count)]


def bodies(result: Gathered | None) -> list[Any]:
    assert result is not None
    return [reply.body for reply in result.replies]


async def test_any_process_takes_replies_completes_and_has_the_result():
    async with processes(3) as (world, (one, two, three)):
        key = await one.request("?", expected=3, deadline=60).start()
        watched = [asyncio.ensure_future(_watched(each, key)) for each in (one, two, three)]
        await world.answer(1)
        await world.answer(2, 3)
        results = [await each.result(key) for each in (one, two, three)]
        assert [sorted(bodies(each)) for each in results] == [[1, 2, 3]] * 3
        assert {each.completed_by for each in results} == {"expected"}
        assert [sorted(each) for each in await asyncio.gather(*watched)] == [[1, 2, 3]] * 3
        assert await three.get(key) == results[0]


async def test_a_clock_that_is_set_back_does_not_keep_who_waits():
    """Fault 41c: the request was over only when the clock on the wall had come to its deadline again."""
    loop = asyncio.get_running_loop()
    async with processes(1) as (world, (one,)):
        before, began = clock.now() - loop.time(), loop.time()
        asking = asyncio.ensure_future(one.request("?", deadline=5))
        await until(lambda: len(world.asked) == 1)
        with clock.use_clock(lambda: before - 7200 + loop.time()):
            await world.answer(1)
            result = await asking
        assert bodies(result) == [1]
        assert result.completed_by == "deadline"
        assert loop.time() - began < 8


async def test_another_process_listens_to_the_reply_channel_of_one_that_ended():
    async with MemoryTransport() as transport:
        world, own = Processes(transport), transport.queue("own")
        async with world.one() as one:
            key = await one.request("?", expected=1, deadline=60, replies=own).start()
        await own.send(world.asked.messages()[0].reply("!"))
        async with world.one() as two:
            await two.listen(own)
            assert bodies(await two.result(key)) == ["!"]


async def _watched(gather: ScatterGather, key: str) -> list[Any]:
    return [reply.body async for reply in gather.watch(key)]


async def test_conditions_and_errors_as_in_memory():
    async with processes(1) as (world, (gather,)):
        count = asyncio.ensure_future(gather.request("?", count=2, deadline=60))
        await until(lambda: len(world.asked) == 1)
        await world.answer("no", type="error")
        await world.answer(1, 2)
        result = await count
        assert (result.completed_by, bodies(result), len(result.errors)) == ("count", [1, 2], 1)
        names = asyncio.ensure_future(gather.request("?", expected=["a", "b"], deadline=5))
        await until(lambda: len(world.asked) == 2)
        await world.answer(1, number=1, source="a")
        result = await names
        assert (result.completed_by, result.missing) == ("deadline", {"b"})
        assert (await gather.request("?", expected=0, deadline=5)).completed_by == "expected"
        assert len(world.asked) == 2
        with pytest.raises(ConfigurationError, match="until cannot be stored"):
            gather.request("?", until=bool, deadline=5)
        with pytest.raises(KeyError):
            await gather.result("0" * 32)
        assert await gather.get("../../etc") is None


async def test_a_predicate_of_the_component_is_evaluated_by_whoever_takes_a_reply():
    async with processes(2, until=lambda replies: sum(each.body for each in replies) > 5) as (world, (one, two)):
        key = await one.request("?", deadline=60).start()
        await world.answer(3)
        assert (await two.get(key)).completed_by is None
        await world.answer(4)
        assert (await two.result(key)).completed_by == "predicate"


async def test_late_unknown_and_repeated_replies_change_nothing():
    """Fault 19: counted apart, and the result stays as it was told."""
    async with processes(2) as (world, both):
        key = await both[0].request(Message("?", correlation_id="order-7"), expected=1, deadline=60).start()
        request = world.asked.messages()[0]
        reply = request.reply(1)
        await world.replies.send(reply)
        result = await both[1].result(key)
        await world.replies.send(reply, request.reply(2), reply.with_body("forged"))
        await world.replies.send(Message(0), Message(0, headers={"request-id": "f" * 32}))
        await world.replies.send(Message(0, headers={"request-id": "x"}))
        await until(lambda: len(world.replies) == 0)
        now = await both[0].get(key)
        assert now is not None
        assert (bodies(now), now.completed_at) == (bodies(result), result.completed_at) == ([1], result.completed_at)
        assert [each.body for each in now.late_replies or ()] == [2]
        assert (sum(each.late for each in both), sum(each.unknown for each in both)) == (1, 3)
        assert sum(each.taken for each in both) == 3  # the repeated ones belong to it as well


async def test_a_surplus_reply_is_late_also_where_it_was_stored_before_completion():
    """Replies count in the order of their arrival up to the one that completes the request, as in memory."""
    for options, counted in (({"expected": 2}, 2), ({"count": 3}, 3), ({"expected": ["a"]}, 1), ({}, 4)):
        async with processes(1, until=lambda replies: len(replies) == 4) as (world, (gather,)):
            store, hold = world.store, asyncio.Event()
            get = store.get

            async def slow(key: str, get: Any = get, hold: asyncio.Event = hold) -> Any:
                await hold.wait()
                return await get(key)

            key = await gather.request("?", deadline=60, **options).start()
            store.get = slow  # all five are stored before the first look
            request = world.asked.messages()[0]
            await world.replies.send(*(request.reply(number, source=name) for number, name in enumerate("abcde")))
            await asyncio.sleep(1)
            hold.set()
            result = await gather.result(key)
            assert bodies(result) == [0, 1, 2, 3, 4][:counted]
            assert [each.body for each in result.late_replies or ()] == [0, 1, 2, 3, 4][counted:]
            await until(lambda: len(world.replies) == 0)
            assert (gather.late, gather.taken) == (5 - counted, counted)


async def test_a_reply_that_is_delivered_again_changes_no_result():
    """Neither the order of a result nor what is in it, also where another message carries its id."""
    async with processes(2) as (world, both):
        key = await both[0].request("?", expected=2, deadline=60).start()
        request = world.asked.messages()[0]
        first, second = request.reply(1), request.reply(2)
        await world.replies.send(first, first)
        await until(lambda: len(world.replies) == 0)
        await world.replies.send(second)
        result = await both[1].result(key)
        await world.replies.send(first.with_body("forged"))
        await until(lambda: len(world.replies) == 0)
        await world.replies.send(first, second, first)
        await until(lambda: len(world.replies) == 0)
        assert await both[0].get(key) == await both[1].result(key) == result
        assert bodies(result) == [1, 2]
        assert [each.body async for each in both[1].watch(key)] == [1, 2]


async def test_what_is_known_of_a_request_from_any_process():
    """The request itself, who was asked, and when it ended; requests that are open are listed."""
    async with processes(2) as (world, (one, two)):
        asking = Message({"from": "A"}, type="Ride", attributes={"zone": 7}, correlation_id="order-7")
        key = await one.request(asking, expected=["a", "b"], deadline=60).start()
        assert await one.open_requests() == await two.open_requests() == [key]
        await world.answer(1, source="a")
        found = await two.get(key)
        assert found is not None
        assert found.request is not None
        assert (found.request.body, found.request.type, found.request.attributes) == (
            {"from": "A"},
            "Ride",
            {"zone": 7},
        )
        assert (found.names, found.completed_at) == ({"a", "b"}, None)
        await world.answer(2, source="b")
        result = await two.result(key)
        assert (result.completed_at, result.missing) == (pytest.approx(clock.now(), abs=1), frozenset())
        assert await two.open_requests() == []


async def test_a_store_that_fails_is_told_by_health():
    """What it failed to store comes again, and is in the result."""
    async with processes(1) as (world, (gather,)):
        assert gather.health().ok
        key = await gather.request("?", expected=1, deadline=600).start()
        put_part = world.store.put_part

        async def failing(*arguments: Any, **options: Any) -> None:
            raise StoreError("the database is away")

        world.store.put_part = failing
        await world.replies.send(world.asked.messages()[0].reply(1))
        await until(lambda: not gather.health().ok)
        assert "the database is away" in (gather.health().reason or "")
        world.store.put_part = put_part
        assert bodies(await gather.result(key)) == [1]
        assert gather.health().ok


async def test_foreign_replies_are_matched_where_that_is_unambiguous():
    """Fault 19: by correlation id, whichever process takes them."""
    async with processes(2) as (world, both):
        keys = [await both[0].request(ask, expected=1, deadline=60).start() for ask in ("?", Message("?", id="q"))]
        for number in range(2):
            correlation_id = world.asked.messages()[number].correlation_id
            await world.replies.send(Message(number, correlation_id=correlation_id))
        assert [bodies(await both[1].result(key)) for key in keys] == [[0], [1]]
        ask = Message("?", correlation_id="same")
        shared = [await each.request(ask, expected=1, deadline=5).start() for each in both]
        await world.replies.send(Message(0, correlation_id="same"))
        await until(lambda: sum(each.ambiguous for each in both) == 1)
        assert [bodies(await both[0].result(key)) for key in shared] == [[], []]


async def test_a_deadline_that_passes_while_all_are_down():
    async with processes(1) as (world, (first,)):
        key = await first.request("?", expected=2, deadline=60).start()
        await world.answer("in time")
        await first.stop()
        await asyncio.sleep(3600)
        async with world.one() as second:
            result = await second.result(key)
            assert (bodies(result), result.completed_by) == (["in time"], "deadline")


async def test_a_reply_that_comes_while_the_request_is_completed_is_in_or_late_for_everyone():
    """Whatever the moment: what was acknowledged as taken is in the result, the rest is late."""
    for moment in range(12):
        async with processes(2) as (world, both):
            steps = itertools.count()
            key = await both[0].request("?", deadline=5).start()
            request = world.asked.messages()[0]

            step = _at(moment, steps, lambda request=request: world.replies.send(request.reply("late or not")))
            await asyncio.sleep(4.9)
            for name in ("get", "put", "parts"):
                call = getattr(world.store, name)
                setattr(world.store, name, step(call))
            result = await both[1].result(key)
            await asyncio.sleep(10)
            late = sum(each.late for each in both)
            assert (len(result.replies) + late) == (1 if next(steps) > moment else 0)
            assert bodies(await both[0].get(key)) == bodies(result)


def _at(moment: int, steps: Any, act: Any) -> Any:
    """Wraps the calls of a store: before the one of that number, something happens."""

    def wrapped(call: Any) -> Any:
        async def acting(*arguments: Any, **options: Any) -> Any:
            if next(steps) == moment:
                await act()
                await asyncio.sleep(0.01)
            return await call(*arguments, **options)

        return acting

    return wrapped


async def test_a_process_that_ends_at_any_store_call_costs_nothing():
    """Killed before or after each write and read; another goes on, and each request is completed once, with all."""
    for moment in range(14):
        async with MemoryTransport() as transport:
            world = Processes(transport)
            steps = itertools.count()
            dying = Processes(transport, store=_Dying(world.store, steps, moment))
            first = dying.one()
            with suppress(StoreError):
                async with first:
                    await first.request("?", expected=2, deadline=30).start()
                    request = world.asked.messages()[0]
                    await world.replies.send(request.reply(1), request.reply(2))
                    await asyncio.sleep(1)
            await asyncio.sleep(1)
            if not world.asked.messages():
                continue
            async with world.one() as second:
                key = world.asked.messages()[0].headers["request-id"]
                found = await second.get(key)
                if found is not None:  # otherwise it was withdrawn, and its caller knows
                    assert sorted(bodies(await second.result(key))) == [1, 2]


class _Dying:
    """A store whose process loses it for good at one of its calls."""

    def __init__(self, store: MemoryStore, steps: Any, moment: int) -> None:
        self._store, self._steps, self._moment = store, steps, moment

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._store, name)

        async def dying(*arguments: Any, **options: Any) -> Any:
            if next(self._steps) >= self._moment:
                raise StoreError("gone")
            return await call(*arguments, **options)

        return dying


class _Weather:
    """A store that fails now and then, before or after the write, and whose process may be cancelled at any call."""

    def __init__(self, store: MemoryStore, seed: int, *, failures: float = 0.0) -> None:
        self._store, self._dice, self._failures = store, random.Random(seed), failures
        self.at_call: dict[int, Any] = {}
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._store, name)

        async def weathered(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            self.at_call.pop(self.calls, lambda: None)()
            await asyncio.sleep(0)
            if self._dice.random() < self._failures:
                raise StoreError("refused")
            done = await call(*arguments, **options)
            if self._dice.random() < self._failures:
                raise StoreError("no answer")
            return done

        return weathered


@pytest.mark.parametrize("seed", range(8))
async def test_faults_and_kills_of_three_processes(seed):
    """Duplicates, lost acks, failing sends and writes, two kills: each request ends once, alike for all."""
    plan = FaultPlan(
        seed=seed, duplicates=0.2, reordering=0.3, delays=0.1, max_delay=5, lost_acks=0.2, lost_deliveries=0.05,
        send_failures=0.1, receive_failures=0.1,
    )  # fmt: skip
    truth, ends = MemoryStore(), Counter[str]()
    put = truth.put

    async def counted(key: str, value: bytes, **options: Any) -> str | None:
        written = await put(key, value, **options)
        if written is not None and not key.startswith("correlation") and RequestRecord.load(value).completed:
            ends[key] += 1
        return written

    truth.put = counted
    async with MemoryTransport() as memory, AsyncExitStack() as stack:
        for name in ("asked", "replies"):
            memory.queue(name, visibility=10)

        async def respond(request: Message) -> list[Message]:
            return [request.reply(request.body, source=name, id=f"{request.id}-{name}") for name in "abc"]

        addresses = ReturnAddresses(memory, prefix="replies")
        await stack.enter_async_context(Consumer(memory.queue("asked"), respond, replies=addresses))
        services = [plan.wrap(memory) for _ in range(3)]
        gathers = []
        for number, service in enumerate(services):
            store = _Weather(truth, seed * 10 + number, failures=0.1)
            gather = ScatterGather(service.queue("asked"), service.queue("replies"), store=store, grace=1)
            gathers.append(await stack.enter_async_context(gather))
        keys = []
        for number in range(60):
            if number in (20, 40):
                services[number // 20].kill()
            for gather in gathers[:1] if number > 40 else gathers:
                with suppress(StoreError, EipError):
                    keys.append(await gather.request(number, expected=["a", "b", "c"], deadline=120).start())
        async with ScatterGather(memory.queue("asked"), memory.queue("replies"), store=truth) as witness:
            results = [await witness.result(key) for key in keys]
            await asyncio.sleep(600)
            assert [await witness.get(key) for key in keys] == results
        assert len(keys) > 50
        for result in results:
            assert sorted(each.source or "" for each in result.replies) == ["a", "b", "c"]
            assert result.completed_by == "expected"
        assert set(ends.values()) == {1}


async def test_cancelled_at_any_store_call():
    """Whoever starts a request may be cancelled: the request is over at its deadline, or was never written."""
    for moment in range(1, 12):
        async with MemoryTransport() as transport:
            store = MemoryStore()
            weather = _Weather(store, 0)
            world = Processes(transport, store=weather, until=bool)
            async with world.one() as gather:
                ask = Message("?", correlation_id="order-7")
                task = asyncio.ensure_future(gather.request(ask, expected=2, deadline=30))
                weather.at_call[weather.calls + moment] = task.cancel
                await asyncio.sleep(1)
                if not task.done():
                    request = world.asked.messages()[0]
                    await world.replies.send(request.reply(1), request.reply(2))
                await asyncio.wait((task,), timeout=60)
                assert task.done()
                await asyncio.sleep(31)
                assert await gather.open_requests() == []
                state: Any = gather._gatherer
                assert (state._checks, state._waiting) == ({}, {})


async def test_stopped_at_any_store_call_while_replies_come():
    """What was not stored is delivered again, and whoever comes next completes the request with it."""
    for moment in range(1, 12):
        async with MemoryTransport() as transport:
            for name in ("asked", "replies"):
                transport.queue(name, visibility=5)
            store = MemoryStore()
            weather = _Weather(store, 0)
            world, after = Processes(transport, store=weather, grace=0), Processes(transport, store=store)
            async with world.one() as gather:
                key = await gather.request("?", expected=2, deadline=300).start()
                request = world.asked.messages()[0]
                stopping: list[asyncio.Task[None]] = []
                weather.at_call[weather.calls + moment] = lambda gather=gather, stopping=stopping: stopping.append(
                    asyncio.create_task(gather.stop(grace=0))
                )
                await world.replies.send(request.reply(1), request.reply(2))
                await asyncio.sleep(8)
            async with after.one() as other:
                result = await other.result(key)
                assert (sorted(bodies(result)), result.completed_by) == ([1, 2], "expected")


async def test_a_request_that_cannot_be_sent_is_withdrawn():
    """Fault 29: and its deadline bounds sending."""
    async with processes(1) as (world, (gather,)):
        error: Exception | None = ConnectionLost("gone")

        async def send(*messages: Message, **options: Any) -> None:
            if error is not None:
                raise error
            await asyncio.sleep(3600)

        world.asked.send = send
        with pytest.raises(ConnectionLost):
            await gather.request("?", deadline=5)
        assert len(world.store) == 0
        error = None
        with pytest.raises(RequestTimeout):
            await gather.request("?", deadline=5)


async def test_one_write_per_reply_and_results_expire():
    writes: list[str] = []

    class Counting(MemoryStore):
        async def put(self, key: str, value: bytes, **options: Any) -> str | None:
            writes.append("put")
            return await super().put(key, value, **options)

        async def put_part(self, key: str, part: str, value: bytes, **options: Any) -> int | None:
            writes.append("part")
            return await super().put_part(key, part, value, **options)

        async def parts(self, key: str) -> dict[str, bytes]:
            writes.append("read")
            return await super().parts(key)

    async with processes(1, store=Counting(), retention=100) as (world, (gather,)):
        key = await gather.request("?", expected=10, deadline=60).start()
        await world.answer(*range(9))
        assert writes.count("read") == 0  # the store counts: nobody looks before the request can be complete
        await world.answer(9)
        assert len(bodies(await gather.result(key))) == 10
        assert (writes.count("part"), writes.count("put")) == (10, 2)
        await asyncio.sleep(101)
        assert await gather.get(key) is None


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize(
    "condition", [{"expected": 6}, {"expected": [*"abcdef"]}, {"count": 6}], ids=["number", "names", "count"]
)
async def test_the_last_of_replies_that_three_processes_take_completes_at_once(condition, counts):
    """Whoever writes it knows by the store's count, also where none took most; if a store does not count, it looks."""

    class Uncounted(MemoryStore):
        async def put_part(self, key: str, part: str, value: bytes, **options: Any) -> None:
            await super().put_part(key, part, value, **options)

    async with processes(3, store=MemoryStore() if counts else Uncounted()) as (world, gathers):
        begun = asyncio.get_running_loop().time()
        key = await gathers[0].request("?", deadline=600, **condition).start()
        request = world.asked.messages()[0]
        taken = [request.reply(name, source=name) for name in "abcdef"]
        for number, reply in enumerate(taken):
            await gathers[number % 3]._gatherer.take(reply)
        result = await gathers[1].result(key)
        assert asyncio.get_running_loop().time() - begun < 2
        assert sorted(bodies(result)) == [*"abcdef"]


@pytest.mark.parametrize("requests", [5_000, pytest.param(100_000, marks=pytest.mark.soak)])
async def test_many_requests_leave_nothing_in_memory(requests):
    """What a process holds is of requests that are open: memory is as flat as the store's."""
    batch, sizes = 500, []
    async with processes(2, retention=5) as (world, (one, two)):
        for number in range(requests // batch):
            keys = [await one.request("?", expected=1, deadline=60).start() for _ in range(batch)]
            receiver = world.asked.receiver(capacity=batch)
            while world.asked.messages():
                asked = await receiver.receive(batch)
                await world.replies.send(*(each.message.reply(1) for each in asked))
                for each in asked:
                    await each.ack()
            assert {len((await two.result(key)).replies) for key in keys} == {1}
            await asyncio.sleep(6)
            if number % 4 == 1:
                gc.collect()
                sizes.append(len(gc.get_objects()))
        await asyncio.sleep(60)
        for gather in (one, two):
            state: Any = gather._gatherer
            assert (gather.in_flight, len(state._checks), len(state._waiting)) == (0, 0, 0)
            assert len(state._open) < 20 * batch
        assert len(world.store) < 2 * batch
        assert max(sizes[1:]) < sizes[0] * 1.1


PROCESS = """
import asyncio, os, signal, sys
from eip import Message
from eip.patterns.scatter_gather import ScatterGather
from eip.stores import SqliteStore
from eip.transports.memory import MemoryTransport

async def main(path, dies_after):
    store = SqliteStore(path)
    put_part, taken = store.put_part, 0
    async def counted(*arguments, **options):
        nonlocal taken
        await put_part(*arguments, **options)
        taken += 1
        if taken == dies_after:
            os.kill(os.getpid(), signal.SIGKILL)
    store.put_part = counted
    async with MemoryTransport() as transport:
        asked = transport.queue("asked")
        async with ScatterGather(asked, transport.queue("replies"), store=store) as gather:
            key = await gather.request("?", expected=5, deadline=2).start()
            print(key, flush=True)
            await transport.queue("replies").send(*(asked.messages()[0].reply(n) for n in range(4)))
            print(len((await gather.result(key)).replies), flush=True)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


@pytest.mark.parametrize("dies_after", [1, 3])
def test_what_a_killed_process_had_stored_is_completed_by_the_next(tmp_path, dies_after):
    """kill -9 between two replies: the next process completes the request with those that were stored."""
    path = str(tmp_path / "requests.sqlite")
    command = [sys.executable, "-c", PROCESS, path, str(dies_after)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    async def next_process() -> Gathered:
        store = SqliteStore(path)
        async with MemoryTransport() as transport:
            gather = ScatterGather(transport.queue("asked"), transport.queue("replies"), store=store)
            async with gather, asyncio.timeout(30):
                result = await gather.result(killed.stdout.split()[0])
        await store.aclose()
        return result

    result = asyncio.run(next_process())
    assert len(result.replies) >= dies_after
    assert result.completed_by == "deadline"


async def test_the_clock_of_the_store_is_the_clock_of_deadlines():
    """A deadline that is far away is no timer of this process only."""
    async with processes(1) as (world, (gather,)):
        await gather.request("?", deadline=60).start()
        assert await world.store.next_due() == pytest.approx(clock.now() + 60, abs=1)


@pytest.mark.parametrize("value", [b"\xff", b"[]\n{}", b'["soon",1,2,3]\n{}', b'[1.0,false,"id","a"]\nno message'])
async def test_a_part_that_is_no_reply_stops_no_request(value):
    """Every look at the request raised what reading it raises: neither the replies nor the deadline completed it."""
    async with processes(1, until=lambda answers: len(answers) == 2) as (world, (gather,)):
        key = await gather.request("?", deadline=60).start()
        await world.store.put_part(key, "odd", value)
        await world.answer(1)
        await world.answer(2)
        result = await gather.result(key)
        assert (result.completed_by, bodies(result)) == ("predicate", [1, 2])
        assert await _watched(gather, key) == [1, 2]


async def test_a_request_s_record_of_another_program_is_a_store_error():
    async with processes(1) as (world, (gather,)):
        key = await gather.request("?", deadline=60).start()
        await world.store.put(key, b"\xff", due=clock.now() + 60)
        for reading in (gather.get(key), gather.result(key)):
            with pytest.raises(StoreError, match="another program's"):
                await reading
