"""The aggregator: complete at the first condition, stored before acknowledged, released once however it crashes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from eip import Consumer, Message, SequenceInfo, clock
from eip.errors import ConfigurationError, ConnectionLost, Reject, StoreError
from eip.patterns.aggregator import Aggregator
from eip.stores import MemoryStore, SqliteStore
from eip.transports.memory import MemoryTransport
from tests.runtime.scripted import Outbox


@pytest.fixture(params=["memory", "sqlite"])
async def store(request, tmp_path):
    store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "groups.sqlite")
    yield store
    await store.aclose()


@asynccontextmanager
async def sweeping(*aggregators: Aggregator):
    async with asyncio.TaskGroup() as tasks:
        for each in aggregators:
            tasks.create_task(each.run())
        yield
        for each in aggregators:
            await each.stop()


def part(position: int, size: int | None = None, *, of: str = "g") -> Message:
    return Message(position, id=f"{of}-{position}", sequence=SequenceInfo(of, position, size))


async def test_complete_by_size(store):
    out = Outbox()
    aggregator = Aggregator(store, output=out, size=3)
    for number in range(3):
        await aggregator(Message(number, correlation_id="g"))
    (made,) = out.sent
    assert made.body == [0, 1, 2]
    assert made.correlation_id == "g"
    assert made.headers["completed-by"] == "size"
    assert aggregator.released == {"size": 1}
    assert await store.parts("g") == {}


async def test_complete_by_sequence_in_any_order_with_the_parts_in_theirs(store):
    out = Outbox()
    aggregator = Aggregator(store, output=out, sequence=True)
    for position, size in ((2, None), (3, 4), (0, None)):
        await aggregator(part(position, size))
    assert not out.sent
    await aggregator(part(1))
    assert out.sent[0].body == [0, 1, 2, 3]
    assert out.sent[0].headers["completed-by"] == "sequence"


async def test_a_sequence_is_not_complete_by_two_inputs_of_one_position(store):
    out = Outbox()
    aggregator = Aggregator(store, output=out, sequence=True)
    await aggregator(part(0, 2))
    await aggregator(part(0, 2).replace(id="another"))
    assert not out.sent
    await aggregator(part(1, 2))
    assert len(out.sent) == 1


async def test_complete_by_predicate(store):
    out = Outbox()
    aggregator = Aggregator(store, output=out, until=lambda inputs: sum(each.body for each in inputs) >= 10)
    for number in (4, 5, 1):
        await aggregator(Message(number, correlation_id="g"))
    assert out.sent[0].body == [4, 5, 1]
    assert out.sent[0].headers["completed-by"] == "predicate"


async def test_complete_by_deadline_whatever_came(store):
    out = Outbox()
    aggregator = Aggregator(store, output=out, size=10, deadline=60)
    async with sweeping(aggregator):
        await aggregator(Message(1, correlation_id="g"))
        await asyncio.sleep(59)
        await aggregator(Message(2, correlation_id="g"))
        assert not out.sent
        await asyncio.sleep(1.5)
        assert out.sent[0].body == [1, 2]
        assert out.sent[0].headers["completed-by"] == "deadline"


async def test_complete_by_inactivity_counted_from_the_latest_input(store):
    out = Outbox()
    aggregator = Aggregator(store, output=out, inactivity=10)
    async with sweeping(aggregator):
        for number in range(4):
            await aggregator(Message(number, correlation_id="g"))
            await asyncio.sleep(9)
        assert not out.sent
        await asyncio.sleep(2)
        assert out.sent[0].body == [0, 1, 2, 3]
        assert out.sent[0].headers["completed-by"] == "inactivity"


async def test_an_absolute_deadline_comes_from_the_first_input(store):
    out = Outbox()
    aggregator = Aggregator(store, output=out, deadline=lambda first: first.body["eta"])
    async with sweeping(aggregator):
        eta = clock.now() + 30
        await aggregator(Message({"eta": eta}, correlation_id="g"))
        await asyncio.sleep(29)
        assert not out.sent
        await asyncio.sleep(2)
        assert len(out.sent) == 1


async def test_deadlines_survive_the_process(tmp_path):
    first = SqliteStore(tmp_path / "groups.sqlite")
    await Aggregator(first, output=Outbox(), size=10, deadline=60)(Message("kept", correlation_id="g"))
    await first.aclose()
    await asyncio.sleep(100)
    out, second = Outbox(), SqliteStore(tmp_path / "groups.sqlite")
    async with sweeping(Aggregator(second, output=out, size=10, deadline=60)):
        await asyncio.sleep(1)
    assert out.sent[0].body == ["kept"]
    await second.aclose()


async def test_two_processes_release_each_group_once(store):
    out = Outbox()
    both = [Aggregator(store, output=out, size=100, deadline=5) for _ in range(2)]
    async with sweeping(*both):
        for number in range(50):
            await both[number % 2](Message(number, correlation_id=f"g{number % 10}"))
        await asyncio.sleep(20)
    assert sorted(str(each.correlation_id) for each in out.sent) == sorted(f"g{number}" for number in range(10))
    assert sorted(number for each in out.sent for number in each.body) == list(range(50))


async def test_concurrent_inputs_of_one_group_are_all_there(store):
    out = Outbox()
    both = [Aggregator(store, output=out, size=40) for _ in range(2)]
    await asyncio.gather(*(both[number % 2](Message(number, correlation_id="g")) for number in range(40)))
    (made,) = out.sent
    assert sorted(made.body) == list(range(40))


async def test_duplicates_are_ignored_before_and_after_the_release(store):
    out = Outbox()
    aggregator = Aggregator(store, output=out, size=2)
    one, two = (Message(number, correlation_id="g") for number in range(2))
    for message in (one, one, two, two, one):
        await aggregator(message)
    assert [each.body for each in out.sent] == [[0, 1]]
    assert (aggregator.duplicates, aggregator.late) == (3, 0)


@pytest.mark.parametrize("policy", ["drop", "dead_letter", "channel"])
async def test_late_inputs_by_policy(store, policy):
    out, aside = Outbox(), Outbox("late")
    aggregator = Aggregator(store, output=out, size=1, on_late=aside if policy == "channel" else policy)
    await aggregator(Message(1, correlation_id="g"))
    late = Message(2, correlation_id="g")
    if policy == "dead_letter":
        with pytest.raises(Reject, match="too late"):
            await aggregator(late)
    else:
        await aggregator(late)
    assert [each.body for each in aside.sent] == ([2] if policy == "channel" else [])
    assert aggregator.late == 1
    assert len(out.sent) == 1


async def test_a_key_that_was_forgotten_opens_a_new_group(store):
    out = Outbox()
    aggregator = Aggregator(store, output=out, size=1, retention=60)
    await aggregator(Message(1, correlation_id="g"))
    await asyncio.sleep(61)
    await aggregator(Message(2, correlation_id="g"))
    assert [each.body for each in out.sent] == [[1], [2]]
    assert out.sent[0].id != out.sent[1].id


async def test_a_send_that_fails_is_tried_again_with_the_same_id(store):
    out = Outbox()
    out.refuse.extend([ConnectionLost("no answer"), ConnectionLost("no answer")])
    aggregator = Aggregator(store, output=out, size=1)
    message = Message(1, correlation_id="g")
    with pytest.raises(ConnectionLost):
        await aggregator(message)
    async with sweeping(aggregator):
        await aggregator(message)  # as it comes again
        await asyncio.sleep(5)
    assert [each.body for each in out.sent] == [[1]]


async def test_a_claim_of_a_dead_process_is_taken_over(store):
    out = Outbox()

    class Dies(Outbox):
        async def send(self, *messages):
            await asyncio.sleep(1e9)

    dying = Aggregator(store, output=Dies(), size=1)
    task = asyncio.create_task(dying(Message(1, correlation_id="g")))
    await asyncio.sleep(0.1)
    # A killed process writes nothing more.
    dying._store = dying._groups._store = MemoryStore()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with sweeping(Aggregator(store, output=out, size=1)):
        await asyncio.sleep(50)
        assert not out.sent
        await asyncio.sleep(20)
    assert [each.body for each in out.sent] == [[1]]


async def test_one_group_that_cannot_be_combined_holds_up_no_other(store):
    out = Outbox()

    def combine(aggregate):
        if aggregate.key == "bad":
            raise ValueError("cannot be combined")
        return [each.body for each in aggregate.messages]

    aggregator = Aggregator(store, output=out, deadline=1, combine=combine)
    async with sweeping(aggregator):
        await aggregator(Message(0, correlation_id="bad"))
        for number in range(5):
            await aggregator(Message(number, correlation_id=f"g{number}"))
        await asyncio.sleep(10)
    assert sorted(each.body for each in out.sent) == [[number] for number in range(5)]


async def test_a_store_that_fails_acknowledges_nothing_and_does_not_end_the_sweep():
    class Flaky(MemoryStore):
        down = True

        async def get(self, key):
            if self.down:
                raise StoreError("down")
            return await super().get(key)

        async def next_due(self):
            if self.down:
                raise StoreError("down")
            return await super().next_due()

    store, out = Flaky(), Outbox()
    aggregator = Aggregator(store, output=out, deadline=5)
    async with sweeping(aggregator), MemoryTransport() as transport:
        queue = transport.queue("in")
        consumer = Consumer(queue, aggregator)
        task = asyncio.create_task(consumer.run())
        await queue.send(Message(1, correlation_id="g"))
        await asyncio.sleep(3)
        assert consumer.stats.handled == 0
        store.down = False
        await asyncio.sleep(60)
        assert [each.body for each in out.sent] == [[1]]
        assert len(queue) == 0
        await consumer.stop()
        await task


async def test_without_correlation_it_is_rejected(store):
    with pytest.raises(Reject, match="no group"):
        await Aggregator(store, output=Outbox(), size=2)(Message(1))


def test_options_that_cannot_be():
    with pytest.raises(ConfigurationError, match="when is a group complete"):
        Aggregator(MemoryStore(), output=Outbox())
    with pytest.raises(ConfigurationError, match="size"):
        Aggregator(MemoryStore(), output=Outbox(), size=0)
    with pytest.raises(ConfigurationError, match="late"):
        Aggregator(MemoryStore(), output=Outbox(), size=1, on_late="ignore")  # type: ignore[arg-type]


async def test_records_of_somebody_else_stop_no_group():
    """Fault 7: a record that is no group failed outside of the group's own care, and ended `run`."""
    store, out = MemoryStore(), Outbox()
    for number in range(150):
        await store.put(f"foreign {number}", b"not a group", due=1.0)
    aggregator = Aggregator(store, output=out, deadline=5)
    async with sweeping(aggregator):
        await aggregator(Message(1, correlation_id="g"))
        await asyncio.sleep(60)
        assert [each.body for each in out.sent] == [[1]]
        with pytest.raises(StoreError, match="another program"):
            await aggregator(Message(1, correlation_id="foreign 1"))


async def test_strangers_correlation_ids_make_groups():
    """Fault 15: ids with NUL, or longer than a database's keys."""
    store, out = MemoryStore(), Outbox()
    aggregator = Aggregator(store, output=out, size=2)
    for key in ("order\0 7", "x" * 5000):
        for number in range(2):
            await aggregator(Message(number, correlation_id=key))
    assert [each.correlation_id for each in out.sent] == ["order\0 7", "x" * 5000]
