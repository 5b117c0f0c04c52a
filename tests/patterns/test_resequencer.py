"""The resequencer: in order, each once, nothing acknowledged that was neither released nor stored."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eip import Consumer, Message, SequenceInfo
from eip import testing as simulation
from eip.errors import (
    AccessDenied,
    ConfigurationError,
    ConnectionLost,
    FailedEntry,
    InvalidMessage,
    PartialSendError,
    Reject,
    Retry,
    StoreError,
)
from eip.patterns.resequencer import Resequencer
from eip.stores import MemoryStore, SqliteStore
from eip.testing import FaultPlan
from eip.transports.memory import MemoryTransport
from tests.runtime.scripted import Outbox, until


@pytest.fixture(params=["memory", "sqlite"])
async def store(request, tmp_path):
    store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "sequences.sqlite")
    yield store
    await store.aclose()


@asynccontextmanager
async def watching(*services):
    """The services, running until the block ends."""
    async with asyncio.TaskGroup() as tasks:
        for each in services:
            tasks.create_task(each.run())
        yield
        for each in services:
            await each.stop()


def part(position: int, size: int | None = None, *, of: str = "s") -> Message:
    return Message(position, id=f"{of}-{position}", sequence=SequenceInfo(of, position, size))


def bodies(out: Outbox) -> list:
    return [each.body for each in out.sent]


def once_each(out: Outbox) -> list:
    """What arrives where duplicates are dropped, in its order."""
    return list(dict.fromkeys(bodies(out)))


async def feed(resequencer: Resequencer, *positions: int, size: int | None = None) -> None:
    for position in positions:
        await resequencer(part(position, size))


async def test_parts_are_released_in_order(store):
    out = Outbox()
    resequencer = Resequencer(store, output=out)
    await feed(resequencer, 2, 1)
    assert bodies(out) == []
    await feed(resequencer, 0)
    assert bodies(out) == [0, 1, 2]
    await feed(resequencer, 3, 5, 4)
    assert bodies(out) == [0, 1, 2, 3, 4, 5]
    assert resequencer.released == 6


async def test_sequences_do_not_wait_for_each_other_and_messages_stay_as_they_are(store):
    out = Outbox()
    resequencer = Resequencer(store, output=out)
    other = part(0, 1, of="t").replace(group_id="own", headers={"h": "1"})
    await resequencer(part(1))
    await resequencer(other)
    assert out.sent == [other]
    await resequencer(part(0))
    assert [(each.id, each.group_id) for each in out.sent[1:]] == [("s-0", "s"), ("s-1", "s")]


@given(st.permutations(range(12)), st.lists(st.integers(0, 11), max_size=12), st.integers(0, 2**32))
def test_any_order_with_any_duplicates_on_two_processes_comes_out_in_order(order, again, seed):
    async def scenario():
        store, out = MemoryStore(), Outbox()
        processes = [Resequencer(store, output=out) for _ in range(2)]
        chance = random.Random(seed)
        inputs = [*order, *again]
        chance.shuffle(inputs)

        async def handle(position: int) -> None:
            await asyncio.sleep(chance.random() / 100)
            await chance.choice(processes)(part(position, 12))

        async with watching(*processes):
            await asyncio.gather(*(handle(each) for each in inputs))
            await until(lambda: len(set(bodies(out))) == 12)
        assert bodies(out) == sorted(bodies(out))
        assert once_each(out) == list(range(12))

    simulation.run(scenario())


async def test_duplicates_are_ignored_whether_released_waiting_or_of_a_complete_sequence(store):
    out = Outbox()
    resequencer = Resequencer(store, output=out)
    await feed(resequencer, 0, 0, 2, 2, 1, 2, 1, size=3)
    assert bodies(out) == [0, 1, 2]
    assert resequencer.duplicates == 4


@pytest.mark.parametrize("message", [Message(1), part(3, 3)])
async def test_what_is_no_part_of_a_sequence_is_rejected(store, message):
    with pytest.raises(Reject):
        await Resequencer(store, output=Outbox())(message)


@pytest.mark.parametrize("options", [{"max_waiting": 0}, {"gap_timeout": 0}, {"on_late": "ignore"}])
async def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(ConfigurationError):
        Resequencer(MemoryStore(), output=Outbox(), **options)


# Gaps.


async def test_a_gap_is_given_up_after_its_timeout_and_the_next_message_says_so(store):
    out = Outbox()
    resequencer = Resequencer(store, output=out, gap_timeout=60)
    async with watching(resequencer):
        await feed(resequencer, 0, 4, 3)
        await asyncio.sleep(59)
        assert bodies(out) == [0]
        await asyncio.sleep(2)
        assert bodies(out) == [0, 3, 4]
    assert [each.headers.get("sequence-gap") for each in out.sent] == [None, "1-2", None]
    assert resequencer.gaps == 2


async def test_each_gap_has_its_own_time(store):
    out = Outbox()
    resequencer = Resequencer(store, output=out, gap_timeout=60)
    async with watching(resequencer):
        await feed(resequencer, 1, 3)
        await asyncio.sleep(50)
        await feed(resequencer, 0)
        await asyncio.sleep(50)
        assert bodies(out) == [0, 1]
        await asyncio.sleep(11)
        assert bodies(out) == [0, 1, 3]


async def test_without_a_timeout_a_gap_is_waited_for_for_ever(store):
    out = Outbox()
    resequencer = Resequencer(store, output=out)
    async with watching(resequencer):
        await feed(resequencer, 1)
        await asyncio.sleep(3600)
        await feed(resequencer, 0)
    assert bodies(out) == [0, 1]


@pytest.mark.parametrize("late", ["drop", "dead_letter", Outbox()])
async def test_what_comes_of_a_gap_given_up_is_late(late):
    out = Outbox()
    resequencer = Resequencer(MemoryStore(), output=out, gap_timeout=60, on_late=late)
    async with watching(resequencer):
        await feed(resequencer, 1)
        await asyncio.sleep(61)
        if late == "dead_letter":
            with pytest.raises(Reject, match="late"):
                await feed(resequencer, 0)
        else:
            await feed(resequencer, 0)
        await feed(resequencer, 1)
    assert bodies(out) == [1]
    assert (resequencer.late, resequencer.duplicates) == (1, 1)
    if isinstance(late, Outbox):
        assert bodies(late) == [0]


async def test_the_time_of_a_gap_goes_on_while_nobody_runs(store):
    out = Outbox()
    await feed(Resequencer(store, output=out, gap_timeout=60), 1)
    await asyncio.sleep(120)
    async with watching(Resequencer(store, output=out, gap_timeout=60)):
        await asyncio.sleep(0.1)
    assert bodies(out) == [1]


# Bounds.


async def test_what_is_beyond_the_capacity_stays_in_its_channel_and_the_head_is_always_let_in(store):
    out = Outbox()
    resequencer = Resequencer(store, output=out, max_waiting=2)
    await feed(resequencer, 3, 2)
    with pytest.raises(Retry):
        await feed(resequencer, 1)
    await feed(resequencer, 0, 1)
    assert bodies(out) == [0, 1, 2, 3]


async def test_nothing_is_left_of_a_complete_sequence_after_a_while():
    store, out = MemoryStore(), Outbox()
    await feed(Resequencer(store, output=out, retention=60), 2, 1, 0, size=3)
    assert len(store) == 1
    await asyncio.sleep(61)
    assert len(store) == 0


async def test_a_long_sequence_leaves_no_trail_in_the_store():
    store, out = MemoryStore(), Outbox()
    await feed(Resequencer(store, output=out), *(each ^ 1 for each in range(500)))
    assert bodies(out) == list(range(500))
    assert len(store) == 1


# Failures.


async def test_a_head_that_cannot_be_sent_fails_and_comes_again(store):
    out = Outbox()
    resequencer = Resequencer(store, output=out)
    await feed(resequencer, 1)
    out.refuse.append(ConnectionLost("gone"))
    with pytest.raises(ConnectionLost):
        await feed(resequencer, 0)
    await feed(resequencer, 0)
    assert bodies(out) == [0, 1]


async def test_what_is_stored_and_cannot_be_sent_is_sent_later_and_its_handler_does_not_fail(store):
    class Fickle(Outbox):
        """Lets the first message through, then fails twice."""

        async def send(self, *messages: Message) -> None:
            if len(self.sent) == 1 and self.refuse:
                raise self.refuse.popleft()
            self.sent.extend(messages)

    out = Fickle()
    out.refuse.extend([ConnectionLost("gone"), ConnectionLost("gone")])
    resequencer = Resequencer(store, output=out)
    async with watching(resequencer):
        await feed(resequencer, 1, 2, 0)
        assert bodies(out) == [0]
        await feed(resequencer, 3)
        assert bodies(out) == [0]
        await asyncio.sleep(10)
    assert bodies(out) == [0, 1, 2, 3]


# Stored parts that are lost.


async def damage(store, *positions: int) -> None:
    for position in positions:
        await store.put(f"m{position}:s", b"\xffdamaged")


@pytest.mark.parametrize("dead", [None, Outbox("dead")])
async def test_a_stored_part_that_cannot_be_read_is_a_gap(store, dead):
    """It held its sequence up for ever, and each attempt was a line of the log."""
    out = Outbox()
    resequencer = Resequencer(store, output=out, gap_timeout=60, dead_letters=dead)
    async with watching(resequencer):
        await feed(resequencer, 1, 2, 3, 4, 5)
        await damage(store, 2, 4)
        await feed(resequencer, 0)
        assert bodies(out) == [0, 1]
        await asyncio.sleep(61)
        assert bodies(out) == [0, 1, 3]
        await feed(resequencer, 4)  # sent once more by its producer
        assert bodies(out) == [0, 1, 3, 4, 5]
        assert resequencer.health().ok
    assert [each.headers.get("sequence-gap") for each in out.sent] == [None, None, "2-2", None, None]
    assert resequencer.lost == 2
    if dead is None:
        assert (await store.get("m2:s")).value == b"\xffdamaged"
    else:
        assert [(each.id, each.encode()) for each in dead.sent] == [(f"s/{n}", b"\xffdamaged") for n in (2, 4)]
        assert "cannot read" in dead.sent[0].headers["dead-letter-reason"]
        dead.sent.clear()


async def test_a_stored_part_that_is_gone_is_a_gap_also_where_it_was_the_last(store):
    out = Outbox()
    resequencer = Resequencer(store, output=out, gap_timeout=60)
    async with watching(resequencer):
        await feed(resequencer, 1, 2)
        await store.delete("m2:s")
        await feed(resequencer, 0)
        await asyncio.sleep(300)
        await feed(resequencer, 4, 3, 2)
        assert bodies(out) == [0, 1, 2, 3, 4]


class Refusing(Outbox):
    """Can never carry some bodies, and accepts the messages before them."""

    def __init__(self, *refused: int, partly: bool) -> None:
        super().__init__()
        self.refused, self.partly = refused, partly

    async def send(self, *messages: Message) -> None:
        failed = [FailedEntry(each, InvalidMessage("too large")) for each in messages if each.body in self.refused]
        if failed and (len(messages) == 1 or not self.partly):
            raise failed[0].error
        await super().send(*(each for each in messages if each.body not in self.refused))
        if failed:
            raise PartialSendError(failed, sent=len(messages) - len(failed))


@pytest.mark.parametrize("partly", [True, False])
@pytest.mark.parametrize("dead", [None, Outbox("dead")])
async def test_a_stored_part_that_the_output_can_never_carry_is_a_gap(store, partly, dead):
    """It held its sequence up for ever; at the head, its consumer dead-letters it, and it is a gap as well."""
    out = Refusing(0, 3, partly=partly)
    resequencer = Resequencer(store, output=out, gap_timeout=60, dead_letters=dead)
    async with watching(resequencer):
        await feed(resequencer, 1, 2, 3, 4)
        with pytest.raises(InvalidMessage):
            await feed(resequencer, 0)
        await asyncio.sleep(150)
    assert once_each(out)[:2] == [1, 2]
    assert set(bodies(out)) == {1, 2, 4}
    assert resequencer.lost == 1
    if dead is not None:
        assert [each.id for each in dead.sent] == ["s-3"]
        dead.sent.clear()


async def test_a_release_that_keeps_failing_is_tried_less_and_less_often_and_health_says_so():
    class Denied(Outbox):
        attempts = 0

        async def send(self, *messages: Message) -> None:
            if messages[0].body:
                self.attempts += 1
                raise AccessDenied("no")

    out = Denied()
    resequencer = Resequencer(MemoryStore(), output=out)
    async with watching(resequencer):
        await feed(resequencer, 1, 0)
        await asyncio.sleep(3600)
        assert out.attempts < 30
        assert not resequencer.health().ok


class Failing(MemoryStore):
    """Fails at the n-th write, once; after it wrote, or before."""

    def __init__(self, at: int, *, written: bool) -> None:
        super().__init__()
        self.at, self.written = at, written

    async def put(self, *args, **options) -> str | None:
        self.at -= 1
        if self.at == 0 and not self.written:
            raise StoreError("no answer")
        version = await super().put(*args, **options)
        if self.at == 0:
            raise StoreError("no answer")
        return version


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("at", range(1, 10))
async def test_a_store_that_fails_at_any_moment_loses_nothing(at, written):
    """A failed handler's message comes again, as a consumer would bring it."""
    store, out = Failing(at, written=written), Outbox()
    resequencer = Resequencer(store, output=out)

    async def deliver(position: int) -> None:
        while True:
            try:
                return await feed(resequencer, position)
            except (StoreError, Retry):
                await asyncio.sleep(1)

    async with watching(resequencer):
        for position in (2, 1, 3, 0):
            await deliver(position)
        await until(lambda: len(set(bodies(out))) == 4)
    assert once_each(out) == [0, 1, 2, 3]


@pytest.mark.parametrize("position", [0, 1])
async def test_a_process_that_dies_while_it_releases_is_taken_over_from(store, position):
    class Hanging(Outbox):
        """Never returns."""

        async def send(self, *messages: Message) -> None:
            if messages[0].body == position:
                await asyncio.Event().wait()
            await super().send(*messages)

    dead, out = Hanging(), Outbox()
    await feed(Resequencer(store, output=dead), 1, 2)
    task = asyncio.create_task(feed(Resequencer(store, output=dead), 0))
    await asyncio.sleep(1)  # from here on the first process does nothing any more
    alive = Resequencer(store, output=out)
    async with watching(alive):
        await feed(alive, 0)
        await asyncio.sleep(70)
    assert bodies(dead) + bodies(out) == [0, 1, 2]
    task.cancel()


async def test_cancelling_the_release_lets_the_next_one_have_it(store):
    class Slow(Outbox):
        async def send(self, *messages: Message) -> None:
            await asyncio.sleep(10)
            await super().send(*messages)

    out = Slow()
    resequencer = Resequencer(store, output=out)
    task = asyncio.create_task(feed(resequencer, 0))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await feed(Resequencer(store, output=out), 0)
    assert bodies(out) == [0]


@pytest.mark.parametrize("seed", range(25))
def test_on_a_faulty_channel_with_kills_every_part_arrives_in_order(seed):
    async def scenario():
        plan = FaultPlan(
            seed=seed,
            duplicates=0.1,
            reordering=0.3,
            delays=0.3,
            lost_acks=0.1,
            send_failures=0.1,
            receive_failures=0.1,
        )
        store, out = MemoryStore(), Outbox()
        async with MemoryTransport() as memory:
            queue = memory.queue("parts")
            await queue.send(*(part(each, 30, of=name) for each in range(30) for name in ("s", "t")))
            for _ in range(3):
                service = plan.wrap(memory)
                resequencer = Resequencer(store, output=out, max_waiting=10)
                consumer = Consumer(service.queue("parts"), resequencer, grace=1)
                async with watching(resequencer, consumer):
                    await asyncio.sleep(20)
                    service.kill()
            resequencer = Resequencer(store, output=out, max_waiting=10)
            async with watching(resequencer, Consumer(queue, resequencer)):
                await until(lambda: len({each.id for each in out.sent}) == 60, within=24 * 3600)
        for name in ("s", "t"):
            assert list(dict.fromkeys(each.body for each in out.sent if each.id[0] == name)) == list(range(30))

    simulation.run(scenario())
