"""Redrive: nothing lost, order kept, filtered, paced, resumable."""

from __future__ import annotations

import asyncio

import pytest

from eip import Consumer, Message
from eip.errors import ConfigurationError, ConnectionLost, Reject
from eip.matching import FilterPolicy
from eip.patterns.redrive import Progress, redrive
from eip.testing import FaultPlan
from eip.transports.memory import MemoryTransport

FAILED = {"dead-letter-reason": "ValueError: broken", "dead-letter-source": "q", "dead-letter-count": "5"}


@pytest.fixture
async def memory():
    async with MemoryTransport(visibility=10) as transport:
        yield transport


def bodies(queue) -> list:
    return [each.body for each in queue.messages()]


async def test_unfiltered_the_service_moves_them(memory):
    dead, queue = memory.queue("dead"), memory.queue("q")
    await dead.send(*(Message(number, headers=FAILED) for number in range(25)))
    assert await redrive(dead, queue) == Progress(moved=25)
    assert bodies(queue) == list(range(25))
    assert len(dead) == 0


@pytest.mark.parametrize("native", [True, False])
async def test_the_traces_of_the_failure_are_gone_and_the_rest_stays(memory, native):
    dead, queue = memory.queue("dead"), memory.queue("q")
    await dead.send(Message("x", id="m", headers={**FAILED, "kept": "yes"}, attributes={"a": 1}))
    progress = await redrive(dead, queue, rate=None if native else 100)
    (found,) = queue.messages()
    assert progress.moved == 1
    assert (found.id, dict(found.headers), dict(found.attributes)) == ("m", {"kept": "yes"}, {"a": 1})


async def test_a_filter_leaves_the_others_where_they_are(memory):
    dead, queue = memory.queue("dead"), memory.queue("q")
    await dead.send(*(Message(number, attributes={"kind": "ab"[number % 2]}, headers=FAILED) for number in range(40)))
    progress = await redrive(dead, queue, filter=FilterPolicy({"kind": ["a"]}))
    assert (progress.moved, progress.left, progress.failed) == (20, 20, 0)
    assert progress.reasons == {"ValueError: broken": 40}
    assert bodies(queue) == list(range(0, 40, 2))
    assert sorted(bodies(dead)) == list(range(1, 40, 2))
    assert dead.store.ready == 20


async def test_a_dry_run_moves_nothing_and_says_what_would_be(memory):
    dead, queue = memory.queue("dead"), memory.queue("q")
    await dead.send(*(Message(number) for number in range(30)))
    assert (await redrive(dead, queue, dry_run=True, limit=12)).moved == 12
    assert (await redrive(dead, dry_run=True, limit=12)).moved == 12
    assert len(queue) == 0
    assert dead.store.ready == 30


async def test_a_limit_and_a_transformation(memory):
    dead, queue = memory.queue("dead"), memory.queue("q")
    await dead.send(*(Message(number) for number in range(30)))
    assert (await redrive(dead, queue, limit=7, transform=lambda each: each.with_body(each.body * 10))).moved == 7
    assert bodies(queue) == [number * 10 for number in range(7)]
    assert dead.store.ready == 23


async def test_a_rate_and_progress(memory):
    dead, queue = memory.queue("dead"), memory.queue("q")
    await dead.send(*(Message(number) for number in range(50)))
    begun, seen = asyncio.get_running_loop().time(), []
    await redrive(dead, queue, rate=10, on_progress=lambda progress: seen.append(progress.moved))
    assert 4.5 <= asyncio.get_running_loop().time() - begun - 2.0 <= 6
    assert seen == list(range(1, 51)), "after each call"


async def test_the_order_of_a_group_is_kept_and_a_group_that_is_held_up_stays(memory):
    dead, queue = memory.queue("dead.fifo"), memory.queue("q.fifo")
    await dead.send(*(Message((group, number), group_id=group) for number in range(10) for group in "ab"))
    progress = await redrive(dead, queue, filter=lambda each: each.body != ["a", 4])
    assert progress.left == 1  # what is behind it was not even received
    assert [number for group, number in bodies(queue) if group == "a"] == list(range(4))
    assert [number for group, number in bodies(queue) if group == "b"] == list(range(10))
    assert [number for group, number in bodies(dead)] == list(range(4, 10))
    again = await redrive(dead, queue)
    assert again.moved == 6
    assert [number for group, number in bodies(queue) if group == "a"] == list(range(10))


async def test_what_cannot_be_sent_stays(memory):
    dead = memory.queue("dead")
    await dead.send(*(Message(number) for number in range(10)))

    class Half:
        name = address = "half"

        async def send(self, message):
            if message.body % 2:
                raise ConnectionLost("no answer")

    progress = await redrive(dead, Half(), rate=1e6)  # type: ignore[arg-type]
    assert (progress.moved, progress.failed) == (5, 5)
    assert sorted(bodies(dead)) == [1, 3, 5, 7, 9]


@pytest.mark.parametrize("seed", range(10))
async def test_killed_half_way_it_loses_nothing_and_can_be_started_again(memory, seed):
    dead, queue = memory.queue("dead.fifo"), memory.queue("q.fifo")
    await dead.send(*(Message(number, group_id=f"g{number % 3}", id=f"m{number}") for number in range(30)))
    process = FaultPlan(seed=seed, lost_acks=0.1, send_failures=0.1).wrap(memory)
    task = asyncio.create_task(redrive(process.queue("dead.fifo"), process.queue("q.fifo"), rate=10))
    await asyncio.sleep(1.0 + seed / 10)
    process.kill()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(11)
    await redrive(dead, queue)
    assert len(dead) == 0
    groups: dict[str, list[int]] = {}
    for message in queue.messages():
        groups.setdefault(str(message.group_id), []).append(message.body)
    for number, got in ((number, groups[f"g{number}"]) for number in range(3)):
        assert list(dict.fromkeys(got)) == list(range(number, 30, 3))


@pytest.mark.parametrize("native", [True, False])
async def test_a_message_that_dies_twice_within_the_deduplication_window_is_not_dropped(memory, native):
    dead, queue = memory.queue("dead.fifo"), memory.queue("q.fifo")
    await queue.send(Message("x", group_id="g", id="m", deduplication_id="d"))

    async def refuse(_: Message) -> None:
        raise Reject("broken")

    for _ in range(3):
        consumer = Consumer(queue, refuse, dead_letters=dead)
        task = asyncio.create_task(consumer.run())
        await asyncio.sleep(1)
        await consumer.stop()
        await task
        assert [each.id for each in dead.messages()] == ["m"]
        await redrive(dead, queue, rate=None if native else 100)
        assert [each.id for each in queue.messages()] == ["m"]


async def test_a_queue_that_cannot_be_read_for_the_moment_is_read_again_and_otherwise_all_is_given_back(memory):
    dead, queue = memory.queue("dead"), memory.queue("q")
    await dead.send(*(Message(number) for number in range(30)))
    shaky = FaultPlan(seed=3, receive_failures=0.4).wrap(memory)
    assert (await redrive(shaky.queue("dead"), queue, rate=1000)).moved == 30
    await dead.send(Message("left"))
    away = FaultPlan(receive_failures=1.0).wrap(memory)
    with pytest.raises(ConnectionLost):
        await redrive(away.queue("dead"), queue, rate=1000)
    assert dead.store.ready == 1


async def test_options_that_cannot_be(memory):
    dead = memory.queue("dead")
    for wrong in (
        redrive(dead, dead),
        redrive(dead, memory.queue("q"), rate=0),
        redrive(dead, memory.queue("q"), limit=0),
    ):
        with pytest.raises(ConfigurationError):
            await wrong


@pytest.mark.parametrize("native", [True, False])
async def test_what_fails_again_at_once_stays_dead_and_ends_the_redrive(memory, native):
    """Its consumer rejects all of it as fast as it comes."""
    dead = memory.queue("dead")
    queue = memory.queue("q", dead_letters=dead, max_receive_count=5)

    async def reject(message: Message) -> None:
        raise Reject("still broken")

    await dead.send(*(Message(number, headers=FAILED) for number in range(30)))
    consumer = Consumer(queue, reject, concurrency=50)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(consumer.run())
        progress = await redrive(dead, queue, rate=None if native else 1000)
        await asyncio.sleep(60)
        await consumer.stop()
    assert progress.moved == 30
    assert sorted(bodies(dead)) == list(range(30))


async def test_leases_that_cannot_be_extended_count_no_message_twice(monkeypatch):
    """Fault 40: what could not be kept was read again and again, and ``left`` was 10,002."""
    async with MemoryTransport() as transport:
        dead, to = transport.queue("dead", visibility=6), transport.queue("to")
        await dead.send(*(Message(number, id=f"{number}") for number in range(3)))
        receiver_of = dead.receiver

        def failing(**options):
            receiver = receiver_of(**options)

            async def extend(*_):
                raise ConnectionResetError("away")

            monkeypatch.setattr(receiver, "extend", extend)
            return receiver

        monkeypatch.setattr(dead, "receiver", failing)
        progress = await redrive(dead, to, filter=lambda message: message.body == 1, idle=20)
    assert (progress.moved, progress.left) == (1, 2)
