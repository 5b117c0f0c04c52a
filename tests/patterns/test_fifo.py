"""FIFO on the sender's side: deduplication ids, numbers without gaps, order on channels that keep none."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from eip import Consumer, Message, SequenceInfo
from eip.channels import Sender
from eip.errors import ConfigurationError, ConnectionLost, InvalidMessage, SendError, StoreError
from eip.patterns.fifo import DeduplicatingSender, SequencingSender, content_hash, deduplication_key
from eip.patterns.idempotent_receiver import idempotent
from eip.patterns.resequencer import Resequencer
from eip.stores import MemoryStore
from eip.testing import FaultPlan, run
from eip.transports.memory import MemoryTransport


class Recorder(Sender):
    """Keeps what it is given; fails as often as told, after accepting."""

    name = address = "recorder"

    def __init__(self, *, failures: int = 0) -> None:
        self.sent: list[Message] = []
        self.failures = failures

    async def send(self, *messages, **options):
        self.sent += messages
        if self.failures:
            self.failures -= 1
            raise ConnectionLost("no answer")


def places(messages: list[Message]) -> list[SequenceInfo]:
    return [each.sequence for each in messages if each.sequence is not None]


async def test_equal_content_has_equal_deduplication_ids_and_a_fifo_queue_drops_it():
    async with MemoryTransport() as memory:
        queue = memory.queue("orders.fifo")
        sender = DeduplicatingSender(queue)
        await sender.send(Message({"a": 1}, group_id="g"), Message({"a": 1}, group_id="g"))
        await sender.send(Message({"a": 1}, group_id="other"), Message({"a": 2}, group_id="g"))
        assert [(each.group_id, each.body) for each in queue.messages()] == [
            ("g", {"a": 1}),
            ("other", {"a": 1}),
            ("g", {"a": 2}),
        ]


@pytest.mark.parametrize(
    "other",
    [
        {"body": 2},
        {"type": "T"},
        {"source": "s"},
        {"group_id": "g"},
        {"attributes": {"n": 1}},
        {"attributes": {"n": "1"}},
        {"attributes": {"n": True}},
    ],
)
def test_whatever_a_message_says_counts_for_its_hash(other):
    one, two = Message(1), Message(**{"body": 1, **other})
    assert content_hash(one) != content_hash(two)
    assert content_hash(one) == content_hash(Message(1, correlation_id="c"))


def test_attributes_of_different_types_make_different_hashes():
    hashes = {content_hash(Message(1, attributes={"n": value})) for value in (1, "1", True, 1.0, b"1", [1], ["1"])}
    assert len(hashes) == 7


async def test_a_given_deduplication_id_stays_and_a_key_may_be_chosen():
    recorder = Recorder()
    sender = DeduplicatingSender(recorder, key=lambda message: f"order-{message.body}")
    await sender.send(Message(1, deduplication_id="mine"), Message(7))
    assert [each.deduplication_id for each in recorder.sent] == ["mine", "order-7"]


@pytest.mark.parametrize("key", ["x" * 129, "with space", "ümlaut", "\ud800"])
async def test_a_key_that_no_service_takes_is_hashed(key):
    recorder = Recorder()
    await DeduplicatingSender(recorder, key=lambda _: key).send(Message(1), Message(1))
    one, two = (each.deduplication_id for each in recorder.sent)
    assert one == two
    assert one is not None
    assert len(one) == 64


@pytest.mark.parametrize("key", [None, "", 7])
async def test_a_key_that_is_no_text_is_refused_before_anything_is_sent(key):
    recorder = Recorder()
    sender = DeduplicatingSender(recorder, key=lambda message: "fine" if message.body else key)
    with pytest.raises(InvalidMessage, match="deduplication key"):
        await sender.send(Message(1), Message(0))
    assert recorder.sent == []


async def test_a_receiver_drops_by_deduplication_id_where_the_channel_does_not():
    handled = []

    async def handle(message: Message) -> None:
        handled.append(message.body)

    handler = idempotent(MemoryStore(), key=deduplication_key)(handle)
    recorder = Recorder()
    await DeduplicatingSender(recorder).send(Message(1), Message(1), Message(2))
    for message in recorder.sent:
        await handler(message)
    assert handled == [1, 2]
    assert deduplication_key(Message(1, id="i")) == "i"


async def test_each_group_is_numbered_from_0_without_gaps_by_several_senders():
    recorder, store = Recorder(), MemoryStore()
    senders = [SequencingSender(recorder, store) for _ in range(3)]
    messages = [Message(each, group_id=f"g{each % 2}") for each in range(60)]
    await asyncio.gather(*(senders[each.body % 3].send(each) for each in messages))
    for group in ("g0", "g1"):
        numbered = places([each for each in recorder.sent if each.group_id == group])
        assert sorted(place.position for place in numbered) == list(range(30))
        assert len({place.id for place in numbered}) == 1


async def test_one_send_numbers_in_its_order():
    recorder = Recorder()
    await SequencingSender(recorder, MemoryStore()).send(*(Message(each, group_id="g") for each in range(250)))
    assert [place.position for place in places(recorder.sent)] == list(range(250))


async def test_a_message_that_is_sent_again_keeps_its_number():
    recorder, store = Recorder(failures=1), MemoryStore()
    sender = SequencingSender(recorder, store)
    first = Message("a", group_id="g")
    with pytest.raises(ConnectionLost):
        await sender.send(first)
    await SequencingSender(recorder, store).send(first, Message("b", group_id="g"), first)
    assert [place.position for place in places(recorder.sent)] == [0, 0, 1, 0]


async def test_a_forgotten_group_is_another_sequence(monkeypatch):
    recorder = Recorder()
    sender = SequencingSender(recorder, MemoryStore(), retention=timedelta(seconds=10))
    await sender.send(Message(1, group_id="g"))
    await asyncio.sleep(9)
    await sender.send(Message(2, group_id="g"))
    await asyncio.sleep(11)
    await sender.send(Message(3, group_id="g"))
    one, two, three = places(recorder.sent)
    assert (one.id, one.position, two.id, two.position, three.position) == (one.id, 0, one.id, 1, 0)
    assert three.id != one.id


@pytest.mark.parametrize("wrong", [Message(1), Message(1, group_id="g", sequence=SequenceInfo("s", 0))])
async def test_what_cannot_be_numbered_is_refused_before_anything_is(wrong):
    recorder, store = Recorder(), MemoryStore()
    with pytest.raises(InvalidMessage, match="group_id"):
        await SequencingSender(recorder, store).send(Message(0, group_id="g"), wrong)
    assert recorder.sent == []
    assert len(store) == 0


class Busy(MemoryStore):
    """Somebody else is always faster."""

    async def put(self, key, value, **options):
        return None


async def test_a_store_that_refuses_sends_nothing():
    recorder = Recorder()
    with pytest.raises(StoreError, match="changed by others"):
        await SequencingSender(recorder, Busy()).send(Message(1, group_id="g"))
    assert recorder.sent == []


@pytest.mark.parametrize("options", [{"max_known": 0}, {"retention": 0}])
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(ConfigurationError):
        SequencingSender(Recorder(), MemoryStore(), **options)


GROUPS, EACH = 4, 25


async def ordered_over_a_standard_queue(seed: int) -> tuple[dict[str, list[int]], Resequencer]:
    """Two senders who repeat what failed, a queue that reorders, doubles and delays, and a resequencer."""
    plan = FaultPlan(
        seed=seed, duplicates=0.1, reordering=0.5, delays=0.3, max_delay=20, send_failures=0.1, lost_acks=0.1
    )
    numbers, sequences = MemoryStore(), MemoryStore()
    async with MemoryTransport() as memory:
        faulty = plan.wrap(memory)
        ordered = memory.queue("ordered.fifo")
        resequencer = Resequencer(sequences, output=ordered, gap_timeout=3600)
        consumer = Consumer(faulty.queue("orders"), resequencer)

        async def produce(group: str) -> None:
            sender = SequencingSender(faulty.queue("orders"), numbers)
            for position in range(EACH):
                message = Message(position, group_id=group)
                while True:
                    try:
                        await sender.send(message)
                        break
                    except (ConnectionLost, SendError):
                        await asyncio.sleep(1)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(consumer.run())
            tasks.create_task(resequencer.run())
            await asyncio.gather(*(produce(f"g{each}") for each in range(GROUPS)))
            await asyncio.sleep(1000)
            await consumer.stop()
            await resequencer.stop()
        received: dict[str, list[int]] = {}
        for each in ordered.messages():
            received.setdefault(str(each.group_id), []).append(each.body)
        return received, resequencer


@pytest.mark.parametrize("seed", range(10))
def test_groups_come_in_order_over_a_channel_that_keeps_none(seed):
    received, resequencer = run(ordered_over_a_standard_queue(seed))
    assert received == {f"g{each}": list(range(EACH)) for each in range(GROUPS)}
    assert resequencer.gaps == 0


async def test_a_message_that_was_numbered_and_never_sent_is_noticed_as_a_gap():
    async with MemoryTransport() as memory:
        ordered, store = memory.queue("ordered"), MemoryStore()
        resequencer = Resequencer(MemoryStore(), output=ordered, gap_timeout=60)
        failing = Recorder(failures=1)
        with pytest.raises(ConnectionLost):
            await SequencingSender(failing, store).send(Message("lost", group_id="g"))
        delivered = Recorder()
        await SequencingSender(delivered, store).send(Message("b", group_id="g"))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(resequencer.run())
            await resequencer(delivered.sent[0])
            assert len(ordered) == 0
            await asyncio.sleep(100)
            await resequencer.stop()
        assert [(each.body, each.headers["sequence-gap"]) for each in ordered.messages()] == [("b", "0-0")]
        assert resequencer.gaps == 1
