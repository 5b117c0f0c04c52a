"""The aggregator: complete at the first condition, stored before acknowledged, released once however it crashes."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import Any

import pytest

from eip import Consumer, Message, SequenceInfo, clock
from eip.envelope import dump_message, load_message
from eip.errors import ConfigurationError, ConnectionLost, InvalidMessage, InvalidResult, Reject, StoreError
from eip.patterns import _groups
from eip.patterns.aggregator import Aggregator
from eip.stores import MemoryStore, SqliteStore
from eip.transports.memory import MemoryTransport
from tests.runtime.scripted import Outbox, until


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
    dying._groups._store = dying._groups._records._store = MemoryStore()
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


class Counting(MemoryStore):
    """Counts calls, and the bytes of what is written."""

    def __init__(self):
        super().__init__()
        self.calls: list[tuple[str, int]] = []

    async def get(self, key):
        self.calls.append(("get", 0))
        return await super().get(key)

    async def put(self, key, value, **options):
        self.calls.append(("put", len(value)))
        return await super().put(key, value, **options)

    async def put_part(self, key, part, value, **options):
        self.calls.append(("put_part", len(value)))
        return await super().put_part(key, part, value, **options)

    async def parts(self, key):
        self.calls.append(("parts", 0))
        return await super().parts(key)


@pytest.mark.parametrize("how", ["size", "until", "fold"])
async def test_an_input_costs_the_same_however_many_there_were(how, monkeypatch):
    """Operations and bytes are counted: ids were written again, and inputs decoded again, with each input."""
    read: list[bytes] = []

    def noted(raw):
        read.append(raw)
        return load_message(raw)

    monkeypatch.setattr(_groups, "load_message", noted)
    options: dict[str, dict[str, Any]] = {
        "size": {"size": 5000},
        "until": {"until": lambda inputs: len(inputs) == 5000},
        "fold": {"fold": lambda total, each: (total or 0) + each.body, "size": 5000},
    }
    store, out = Counting(), Outbox()
    aggregator = Aggregator(store, output=out, **options[how])
    costs = []
    for number in range(4999):
        store.calls.clear()
        await aggregator(Message(number, id=f"{number:032}", correlation_id="g"))
        costs.append((len(store.calls), sum(size for _, size in store.calls)))
    late = costs[-1000:]
    assert sum(calls for calls, _ in late) <= (2000 if how != "fold" else 1000) + 1000 // 64 + 1
    assert max(size for _, size in late) < 7000
    assert len(read) == (4999 if how == "until" else 0)
    await aggregator(Message(4999, correlation_id="g"))
    assert out.sent[0].body == (sum(range(5000)) if how == "fold" else list(range(5000)))
    assert out.sent[0].headers["inputs"] == "5000"
    await asyncio.sleep(2 * 3600)
    assert len(store) == 0


async def test_duplicates_of_long_ago_are_known_by_every_process(store):
    out = Outbox()
    both = [Aggregator(store, output=out, size=300) for _ in range(2)]
    messages = [Message(number, id=f"m{number}", correlation_id="g") for number in range(300)]
    for number, message in enumerate(messages[:-1]):
        await both[number // 7 % 2](message)
    for message in messages[:-1]:
        await both[0](message)
        await both[1](message)
    third = Aggregator(store, output=out, size=300)
    await third(messages[3])
    assert [each.duplicates for each in (*both, third)] == [299, 299, 1]
    await third(messages[-1])
    await both[0](messages[0])
    assert [each.body for each in out.sent] == [list(range(300))]
    assert both[0].duplicates == 300


async def test_two_processes_take_turns_without_reading_all_ids_again():
    store = Counting()
    both = [Aggregator(store, output=Outbox(), size=10_000) for _ in range(2)]
    for number in range(1000):
        await both[number % 2](Message(number, correlation_id="g"))
    store.calls.clear()
    for number in range(100):
        await both[number % 2](Message(number, correlation_id="g"))
    assert sum(name == "get" for name, _ in store.calls) <= 100 + 2 * 100 // 64 + 2


async def test_what_a_dead_process_left_of_a_released_group_is_removed(store):
    """It released the group and died before it had seen to the chunks of its ids."""
    out, aggregator = Outbox(), Aggregator(store, output=Outbox(), size=200)

    async def die(*_):
        raise StoreError("dead")

    aggregator._groups.let_chunks_expire = die
    for number in range(199):
        await aggregator(Message(number, correlation_id="g"))
    with pytest.raises(StoreError):
        await aggregator(Message(199, correlation_id="g"))
    held = await aggregator._groups.read("g")
    assert held is not None
    assert held.value.chunks == 3
    chunk = held.value.identity("g", 0)
    assert await store.get(chunk) is not None
    async with sweeping(Aggregator(store, output=out, size=200)):
        await asyncio.sleep(100)
        assert await store.get(chunk) is not None
        await asyncio.sleep(4000)
    assert await store.get(chunk) is None
    assert not out.sent


async def test_aggregates_are_the_inputs_of_another_aggregator(store):
    """One handled at a time, both complete by deadline: neither waits for the other."""
    out = Outbox()
    async with MemoryTransport() as memory:
        inputs, middle = memory.queue("inputs"), memory.queue("middle")
        inner = Aggregator(store, output=middle, size=2, deadline=60)
        outer = Aggregator(MemoryStore(), output=out, key=lambda _: "all", deadline=100)
        consumers = [Consumer(inputs, inner, concurrency=1), Consumer(middle, outer, concurrency=1)]
        await inputs.send(*(Message(number, correlation_id=f"g{number // 2}") for number in range(5)))
        async with consumers[0], consumers[1], sweeping(inner, outer):
            await until(lambda: out.sent, within=300)
    assert sorted(out.sent[0].body) == [[0, 1], [2, 3], [4]]


async def test_a_group_of_an_earlier_release_is_completed(store):
    record = {"opened_at": 5.0, "deadline": None, "inputs": ["a", "b"], "state": "open"}
    await store.put("g", json.dumps(record).encode())
    for each in "ab":
        await store.put_part("g", each, dump_message(Message(each, id=each, correlation_id="g")))
    out = Outbox()
    aggregator = Aggregator(store, output=out, size=3)
    await aggregator(Message("a", id="a", correlation_id="g"))
    await aggregator(Message("c", correlation_id="g"))
    assert out.sent[0].body == ["a", "b", "c"]


async def test_fold_keeps_a_state_in_place_of_the_inputs(store):
    """Across processes, duplicates once, and complete by the state."""
    out = Outbox()

    def fold(state, message):
        state = state or {"total": 0, "names": []}
        return {"total": state["total"] + message.body, "names": [*state["names"], message.id]}

    both = [
        Aggregator(store, output=out, fold=fold, until=lambda state: state["total"] >= 10, deadline=60)
        for _ in range(2)
    ]
    messages = [Message(number, id=f"m{number}", correlation_id="g") for number in (4, 5, 1)]
    for number, message in enumerate((messages[0], *messages[:2], messages[1], *messages)):
        await both[number % 2](message)
    assert [each.body for each in out.sent] == [{"total": 10, "names": ["m4", "m5", "m1"]}]
    assert out.sent[0].headers == {"completed-by": "predicate", "inputs": "3"}
    assert await store.parts("g") == {}
    async with sweeping(both[0]):
        await both[0](Message(1, correlation_id="other"))
        await asyncio.sleep(61)
    assert out.sent[1].body["total"] == 1


async def test_concurrent_inputs_are_each_folded_once(store):
    out = Outbox()
    both = [Aggregator(store, output=out, size=40, fold=lambda sum_, each: (sum_ or 0) + each.body) for _ in range(2)]
    await asyncio.gather(*(both[number % 2](Message(number, correlation_id="g")) for number in range(40)))
    assert [each.body for each in out.sent] == [sum(range(40))]


async def test_a_state_that_cannot_be_stored_is_refused(store):
    aggregator = Aggregator(store, output=Outbox(), size=2, fold=lambda _, message: {message.id})
    with pytest.raises(InvalidResult, match="fold must return what JSON can hold, got set"):
        await aggregator(Message(1, correlation_id="g"))
    assert await store.get("g") is None
    with pytest.raises(ConfigurationError, match="sequence needs the inputs"):
        Aggregator(store, output=Outbox(), sequence=True, fold=lambda _, message: message.body)


ODD_KEYS = ["order 7", "Müller & Söhne", "東京", "\U0001f984", "x" * 5_000, "a\0b", "eip.sha256.0", " ", "a\nb"]


@pytest.mark.parametrize("key", ODD_KEYS, ids=range(len(ODD_KEYS)))
async def test_any_correlation_id_can_be_the_group_of_what_is_released(key):
    """Fault 4: with the correlation id `order 7`, nothing was ever released to a FIFO queue."""
    async with MemoryTransport() as memory:
        queue = memory.queue("orders.fifo")
        aggregator = Aggregator(MemoryStore(), output=queue, size=2)
        async with aggregator:
            for number in range(2):
                await aggregator(Message(number, correlation_id=key))
            await until(lambda: len(queue) == 1)
    (released,) = queue.messages()
    assert (released.body, released.correlation_id, released.group_id) == ([0, 1], key, key)


async def test_an_input_that_cannot_be_read_holds_its_group_up_no_more():
    """The group was never released, and its failure logged every three seconds for ever."""
    store, out = MemoryStore(), Outbox()
    inputs = [Message(number, correlation_id="g") for number in range(3)]
    for each in inputs[:2]:
        await Aggregator(store, output=out, size=3)(each)
    await store.put_part("g", inputs[0].id, b"\xff")
    await Aggregator(store, output=out, size=3)(inputs[2])
    assert [each.body for each in out.sent] == [[1, 2]]


@pytest.mark.parametrize("value", [b"\xff", b"3", b"[[1]]"])
async def test_a_chunk_of_ids_that_is_not_ours_is_a_store_error(value):
    store, out = MemoryStore(), Outbox()
    first = Aggregator(store, output=out, size=200)
    for number in range(70):
        await first(Message(number, correlation_id="g"))
    held = await first._groups.read("g")
    assert held is not None
    await store.put(held.value.identity("g", 0), value)
    with pytest.raises(StoreError, match="not ours"):
        await Aggregator(store, output=out, size=200)(Message(1, correlation_id="g"))


# Releases that fail for good.


@pytest.mark.parametrize("error", [ValueError("a bug"), InvalidMessage("never"), Reject("no")])
async def test_a_group_that_cannot_be_combined_is_tried_less_and_less_often_and_health_says_so(error, caplog):
    """It was tried and logged every few seconds for ever, and nothing but the log knew."""
    attempts = []

    def combine(aggregate):
        attempts.append(aggregate.key)
        raise error

    aggregator = Aggregator(MemoryStore(), output=Outbox(), deadline=1, combine=combine)
    async with sweeping(aggregator):
        await aggregator(Message(0, correlation_id="bad"))
        await asyncio.sleep(3600)
        assert len(attempts) <= 24
        health = aggregator.health()
        assert not health.ok
        assert "'bad'" in (health.reason or "")
    assert sum("due_work_failed" in each.getMessage() for each in caplog.records) <= len(attempts)


async def test_a_group_is_well_again_once_it_could_be_released():
    out, failures = Outbox(), [ValueError("a bug")] * 5

    def combine(aggregate):
        if failures:
            raise failures.pop()
        return aggregate.key

    aggregator = Aggregator(MemoryStore(), output=out, deadline=1, combine=combine)
    async with sweeping(aggregator):
        await aggregator(Message(0, correlation_id="g"))
        await asyncio.sleep(600)
        assert [each.body for each in out.sent] == ["g"]
        assert aggregator.health().ok


@pytest.mark.parametrize(
    ("error", "attempts"), [(ValueError("a bug"), 3), (Reject("no"), 1), (InvalidMessage("too large"), 1)]
)
async def test_inputs_of_a_group_that_cannot_be_combined_are_dead_lettered(store, error, attempts):
    made, dead = [], Outbox("dead")

    def combine(aggregate):
        made.append(aggregate.key)
        raise error

    aggregator = Aggregator(
        store, output=Outbox(), deadline=1, combine=combine, dead_letters=dead, max_attempts=3, on_late="dead_letter"
    )
    inputs = [Message(number, id=f"m{number}", correlation_id="g") for number in range(2)]
    async with sweeping(aggregator):
        for each in inputs:
            await aggregator(each)
        await asyncio.sleep(60)
        assert len(made) == attempts
        assert aggregator.health().ok
        with pytest.raises(Reject, match="late"):
            await aggregator(Message(2, correlation_id="g"))
    assert [(each.id, each.body) for each in dead.sent] == [("m0", 0), ("m1", 1)]
    assert dead.sent[0].headers["dead-letter-source"] == "aggregator"
    assert str(error) in dead.sent[0].headers["dead-letter-reason"]
    assert (aggregator.dead_lettered, not aggregator.released.total()) == (1, True)


async def test_what_the_output_can_never_carry_dead_letters_the_state_of_a_fold_and_a_lost_connection_nothing():
    out, dead = Outbox(), Outbox("dead")
    out.refuse.extend([ConnectionLost("gone")] * 5 + [InvalidMessage("too large")])
    aggregator = Aggregator(
        MemoryStore(),
        output=out,
        deadline=1,
        fold=lambda total, each: (total or 0) + each.body,
        dead_letters=dead,
        max_attempts=1,
    )
    async with sweeping(aggregator):
        await aggregator(Message(1, correlation_id="g"))
        await aggregator(Message(2, correlation_id="g"))
        await asyncio.sleep(120)
    assert [(each.body, each.correlation_id) for each in dead.sent] == [(3, "g")]
    assert (aggregator.dead_lettered, aggregator.released.total()) == (1, 0)
    assert not out.refuse


async def test_dead_letters_that_cannot_be_reached_are_tried_again():
    dead = Outbox("dead")
    dead.refuse.append(ConnectionLost("gone"))
    aggregator = Aggregator(
        MemoryStore(), output=Outbox(), size=1, combine=lambda _: 1 / 0, dead_letters=dead, max_attempts=1
    )
    async with sweeping(aggregator):
        with pytest.raises(ConnectionLost):
            await aggregator(Message(1, correlation_id="g"))
        await asyncio.sleep(60)
    assert [each.body for each in dead.sent] == [1]


async def test_an_input_whose_group_can_never_be_released_does_not_fail_for_it():
    """Its consumer dead-lettered the last input, which the group had as well."""
    out = Outbox()
    out.refuse.append(InvalidMessage("too large"))
    aggregator = Aggregator(MemoryStore(), output=out, size=1)
    await aggregator(Message(1, correlation_id="g"))
    assert not aggregator.released


@pytest.mark.parametrize("dead", [None, Outbox("dead")])
async def test_an_input_that_cannot_be_read_is_not_lost_with_its_group(dead):
    """Its bytes were deleted with the group that was released without it."""
    store, out = MemoryStore(), Outbox()
    first, second = (Message(number, correlation_id="g") for number in range(2))
    await Aggregator(store, output=out, size=2)(first)
    await store.put_part("g", first.id, b"\xffdamaged")
    await Aggregator(store, output=out, size=2, dead_letters=dead)(second)
    assert [each.body for each in out.sent] == [[1]]
    assert (await store.parts("g"))[first.id] == b"\xffdamaged"
    if dead is not None:
        assert [each.encode() for each in dead.sent] == [b"\xffdamaged"]


@pytest.mark.parametrize(
    "options", [{"deadline": 0}, {"deadline": -1}, {"inactivity": 0}, {"deadline": float("nan")}, {"retention": -1}]
)
def test_times_that_cannot_be_are_refused(options):
    """With a deadline of 0, each input was late for its own group, and dropped without a word."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Aggregator(MemoryStore(), output=Outbox(), **{"size": 2, **options})


@pytest.mark.parametrize("odd", [float("nan"), "soon", True])
async def test_a_deadline_function_that_returns_no_time_fails_its_message(odd):
    """Not a number: each input was late for its own group, and dropped without a word."""
    with pytest.raises(InvalidResult, match="deadline must return"):
        await Aggregator(MemoryStore(), output=Outbox(), deadline=lambda _: odd)(Message(1, correlation_id="g"))


async def test_a_group_whose_deadline_is_over_when_it_begins_is_released_with_its_first_input(store):
    """A message that was delayed: it was late for a group that never was, and dropped without a word."""
    out = Outbox()
    aggregator = Aggregator(store, output=out, deadline=lambda message: message.body)
    async with sweeping(aggregator):
        await aggregator(Message(clock.now() - 60, correlation_id="g"))
        await asyncio.sleep(10)
        assert [len(each.body) for each in out.sent] == [1]
        await aggregator(Message(clock.now() + 60, correlation_id="g"))
    assert (len(out.sent), aggregator.late) == (1, 1)


async def test_inputs_that_the_store_has_lost_are_logged_when_their_group_is_released(caplog):
    """The aggregate went out without them, and without a word."""
    store, out = MemoryStore(), Outbox()
    await Aggregator(store, output=out, size=2)(Message(0, correlation_id="g"))
    await store.delete_parts("g")
    await Aggregator(store, output=out, size=2)(Message(1, correlation_id="g"))
    assert [each.body for each in out.sent] == [[1]]
    assert "inputs_gone" in caplog.text
    assert "gone=1" in caplog.text
