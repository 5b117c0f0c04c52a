"""The batch consumer's levers: size, window, parallelization, bisecting, attempts, age, and the destination."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from eip import Backoff, Message, running
from eip.errors import ConfigurationError, Reject
from eip.streams import BatchConsumer, BatchFailure, GroupOptions
from tests.streams.scripted import until

ONCE = Backoff(base=1.0, cap=1.0, max_attempts=3)


def bodies(batches):
    return [[each.body for each in batch] for batch in batches]


def stream_of(memory, count=0, *, keys=1, shards=1):
    stream = memory.stream("s", shards=shards)
    return stream, [Message(number, group_id=f"k{number % keys}") for number in range(count)]


async def test_a_batch_is_as_large_as_asked_for(memory):
    stream, messages = stream_of(memory, 25, keys=5)
    await stream.send(*messages)
    batches = []

    async def handle(batch):
        batches.append(batch)

    group = stream.group("g", start="trim_horizon")
    async with running(BatchConsumer(group, handle, batch_size=10)):
        await until(lambda: sum(map(len, batches)) == 25)
    assert bodies(batches) == [list(range(10)), list(range(10, 20)), list(range(20, 25))]
    assert {each.headers["shard"] for batch in batches for each in batch} == {"shardId-000000000000"}


async def test_ten_thousand_at_once(memory):
    stream, messages = stream_of(memory, 25_000)
    await stream.send(*messages)
    sizes = []

    async def handle(batch):
        sizes.append(len(batch))

    group = stream.group("g", start="trim_horizon")
    async with running(BatchConsumer(group, handle, batch_size=10_000, batch_window=5)):
        await until(lambda: sum(sizes) == 25_000)
    assert sizes == [10_000, 10_000, 5_000]


async def test_a_window_gathers_and_a_full_batch_does_not_wait(memory):
    stream, messages = stream_of(memory, 7)
    loop = asyncio.get_running_loop()
    came = []

    async def handle(batch):
        came.append((loop.time() - begun, len(batch)))

    async with running(BatchConsumer(stream.group("g"), handle, batch_size=4, batch_window=30)):
        begun = loop.time()
        for message in messages[:3]:
            await stream.send(message)
            await asyncio.sleep(1)
        assert came == []
        await stream.send(messages[3])
        await until(lambda: came)
        await stream.send(*messages[4:])
        await until(lambda: len(came) == 2)
    assert [(round(at), count) for at, count in came] == [(3, 4), (33, 3)]


async def test_a_window_ends_when_no_more_may_be_held(memory):
    stream = memory.stream("s", shards=1)
    sizes = []

    async def handle(batch):
        sizes.append(len(batch))

    group = stream.group("g", options=GroupOptions(max_read_ahead_bytes=10_000))
    async with running(BatchConsumer(group, handle, batch_size=1000, batch_window=300)):
        for _ in range(30):
            await stream.send(Message("x" * 1000, group_id="k"))
            await asyncio.sleep(0.01)
        await until(lambda: sizes, within=10)
    assert 5 <= sizes[0] <= 15


@pytest.mark.parametrize("lanes", [1, 3, 10])
async def test_lanes_run_side_by_side_and_keep_the_order_of_each_key(memory, lanes):
    stream, messages = stream_of(memory, 400, keys=40)
    await stream.send(*messages)
    seen: list = []
    busy = most = 0

    async def handle(batch):
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(1)
        busy -= 1
        seen.extend((each.group_id, each.body) for each in batch)

    loop = asyncio.get_running_loop()
    begun = loop.time()
    group = stream.group("g", start="trim_horizon")
    async with running(BatchConsumer(group, handle, batch_size=10, parallelization=lanes)):
        await until(lambda: len(seen) == 400)
    assert most == lanes
    assert loop.time() - begun < 2.2 * 40 / lanes + 2
    for key in range(40):
        assert [number for each, number in seen if each == f"k{key}"] == list(range(key, 400, 40))


async def test_a_poisonous_record_is_found_by_halves_and_put_aside(memory):
    stream, messages = stream_of(memory, 16, keys=4)
    dead = memory.queue("dead")
    await stream.send(*messages)
    calls: list = []
    done: list = []

    async def handle(batch):
        calls.append([each.body for each in batch])
        if any(each.body == 5 for each in batch):
            raise ValueError("cannot")
        done.extend(each.body for each in batch)

    group = stream.group("g", start="trim_horizon")
    consumer = BatchConsumer(group, handle, batch_size=16, retry=ONCE, on_failure=dead)
    async with running(consumer):
        await until(lambda: len(done) == 15)
        await until(lambda: not group.shards[0].held)
    assert done == [number for number in range(16) if number != 5]
    assert calls.count([5]) == 3
    assert Counter(number for call in calls for number in call)[15] == 3 - 1  # the whole, and the second half
    async with dead.receiver() as morgue:
        (found,) = await morgue.receive(10)
    headers = found.message.headers
    assert found.message.body == 5
    assert (headers["shard"], headers["sequence-number"]) == ("shardId-000000000000", "6")
    assert (headers["dead-letter-reason"], headers["dead-letter-count"]) == ("ValueError: cannot", "3")
    assert headers["dead-letter-source"] == "s/g"
    assert (consumer.stats.handled, consumer.stats.dead_lettered) == (15, 1)


async def test_without_bisecting_all_of_a_batch_goes_aside_and_the_shard_goes_on(memory):
    stream, messages = stream_of(memory, 8)
    dead = memory.queue("dead")
    await stream.send(*messages)
    done: list = []

    async def handle(batch):
        if batch[0].body == 0:
            raise ValueError("cannot")
        done.extend(each.body for each in batch)

    group = stream.group("g", start="trim_horizon")
    async with running(BatchConsumer(group, handle, batch_size=4, bisect=False, retry=ONCE, on_failure=dead)):
        await until(lambda: len(done) == 4)
    assert done == [4, 5, 6, 7]
    assert [each.body for each in dead.store.messages()] == [0, 1, 2, 3]


async def test_what_is_too_old_when_it_fails_goes_aside(memory):
    stream, messages = stream_of(memory, 1)
    dead = memory.queue("dead")
    loop = asyncio.get_running_loop()
    await stream.send(*messages)
    tries = []

    async def handle(batch):
        tries.append(loop.time())
        raise ConnectionError("down")

    group = stream.group("g", start="trim_horizon")
    retry = Backoff(base=10, cap=10)
    async with running(BatchConsumer(group, handle, retry=retry, max_age=60, on_failure=dead)):
        await until(lambda: len(dead) == 1)
    assert tries[-1] >= 60 > tries[-2]


async def test_a_rejection_needs_no_more_attempts(memory):
    stream, messages = stream_of(memory, 3)
    dead = memory.queue("dead")
    await stream.send(*messages)
    calls = []

    async def handle(batch):
        calls.append([each.body for each in batch])
        if batch[0].body == 1:
            raise Reject("never")

    group = stream.group("g", start="trim_horizon", dead_letters=dead)
    async with running(BatchConsumer(group, handle, batch_size=1)):
        await until(lambda: len(calls) == 3)
    assert calls == [[0], [1], [2]]
    assert len(dead) == 1


async def test_without_a_destination_a_batch_is_tried_until_it_succeeds(memory):
    stream, messages = stream_of(memory, 4)
    await stream.send(*messages)
    failures = 0
    done: list = []

    async def handle(batch):
        nonlocal failures
        if failures < 20:
            failures += 1
            raise Reject("not yet")
        done.extend(each.body for each in batch)

    group = stream.group("g", start="trim_horizon")
    async with running(BatchConsumer(group, handle, batch_size=2, retry=Backoff(base=1, cap=1))):
        await until(lambda: len(done) == 4)
    assert done == [0, 1, 2, 3]


async def test_a_destination_that_fails_loses_nothing(memory):
    from tests.runtime.scripted import Outbox

    stream, messages = stream_of(memory, 2)
    await stream.send(*messages)
    dead = Outbox("dead")
    dead.refuse.extend([ConnectionError("down")] * 3)
    done: list = []

    async def handle(batch):
        if batch[0].body == 0:
            raise Reject("never")
        done.extend(each.body for each in batch)

    group = stream.group("g", start="trim_horizon")
    async with running(BatchConsumer(group, handle, batch_size=1, on_failure=dead, retry=Backoff(base=1, cap=1))):
        await until(lambda: done)
    assert [each.body for each in dead.sent] == [0]


async def test_a_handler_can_say_how_far_it_came(memory):
    stream, messages = stream_of(memory, 10)
    await stream.send(*messages)
    calls = []

    async def handle(batch):
        calls.append([each.body for each in batch])
        if len(calls) == 1:
            raise BatchFailure("the database went away", handled=4)

    group = stream.group("g", start="trim_horizon")
    async with running(BatchConsumer(group, handle, batch_size=10, bisect=False)):
        await until(lambda: len(calls) == 2)
    assert calls == [list(range(10)), list(range(4, 10))]


async def test_results_are_sent_before_the_batch_is_done(memory):
    from tests.runtime.scripted import Outbox

    stream, messages = stream_of(memory, 3)
    await stream.send(*messages)
    out = Outbox()
    out.refuse.append(ConnectionError("down"))

    async def handle(batch):
        return [each.derive(each.body * 10) for each in batch]

    group = stream.group("g", start="trim_horizon")
    async with running(BatchConsumer(group, handle, output=out, bisect=False, retry=Backoff(base=1, cap=1))):
        await until(lambda: out.sent)
        await until(lambda: not group.shards[0].held)
    assert [each.body for each in out.sent] == [0, 10, 20]


async def test_a_handler_that_hangs_has_failed(memory):
    stream, messages = stream_of(memory, 1)
    await stream.send(*messages)
    calls = 0

    async def handle(batch):
        nonlocal calls
        calls += 1
        if calls == 1:
            await asyncio.sleep(3600)

    group = stream.group("g", start="trim_horizon")
    async with running(BatchConsumer(group, handle, max_processing=5, retry=Backoff(base=1, cap=1))):
        await until(lambda: calls == 2, within=10)


async def test_stopped_it_finishes_its_batches_and_the_next_goes_on(memory):
    stream, messages = stream_of(memory, 20)
    await stream.send(*messages)
    done: list = []
    started = asyncio.Event()

    async def handle(batch):
        started.set()
        await asyncio.sleep(5)
        done.extend(each.body for each in batch)

    group = stream.group("g", start="trim_horizon")
    async with running(BatchConsumer(group, handle, batch_size=5)):
        await started.wait()
    assert done == [0, 1, 2, 3, 4]
    async with running(BatchConsumer(group, handle, batch_size=20)):
        await until(lambda: len(done) == 20)
    assert done == list(range(20))


async def test_shards_are_shared_out_and_handed_over_without_duplicates(memory):
    stream, messages = stream_of(memory, 600, keys=30, shards=4)
    done: list = []

    async def handle(batch):
        await asyncio.sleep(1)
        done.extend((each.group_id, each.body) for each in batch)

    options = GroupOptions(failover=6, checkpoint_interval=1)
    group = stream.group("g", start="trim_horizon", options=options)
    first, second = (BatchConsumer(group, handle, batch_size=5, parallelization=2) for _ in range(2))
    async with running(first):
        await stream.send(*messages)
        async with running(second):
            await asyncio.sleep(30)
        stream.reshard(2)
        await until(lambda: len(done) >= 600)
    assert Counter(number for _, number in done) == Counter(range(600))
    for key in range(30):
        assert [number for each, number in done if each == f"k{key}"] == list(range(key, 600, 30))
    assert second.stats.handled
    assert first.stats.lost == second.stats.lost == 0


async def test_what_cannot_be_is_refused(memory):
    group = memory.stream("s").group("g")

    async def handle(batch):
        pass

    for wrong in (
        {"batch_size": 10_001},
        {"batch_size": 0},
        {"batch_window": 301},
        {"parallelization": 11},
        {"max_age": 60},
        {"retry": ONCE},
        {"grace": -1},
        {"max_processing": 0},
    ):
        with pytest.raises(ConfigurationError):
            BatchConsumer(group, handle, **wrong)
