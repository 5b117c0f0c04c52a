"""What only the embedded transport shows: its windows, bounds, streams, and what it keeps."""

from __future__ import annotations

import asyncio
import contextlib
import tracemalloc
from datetime import timedelta

import pytest

from eip import Consumer, Message, clock
from eip.clock import use_clock
from eip.errors import AddressRefused, ConfigurationError, InvalidMessage, StateError
from eip.matching import EventPattern, FilterPolicy
from eip.streams import GroupOptions, Shard
from eip.transports.memory import MemoryTransport
from eip.transports.memory._log import Record, ShardLog
from eip.transports.memory.queue import MemoryQueue


@pytest.fixture
async def memory():
    async with MemoryTransport(visibility=10) as transport:
        yield transport


async def drained(source, count: int = 10) -> list:
    """What a receiver gets at once, acknowledged."""
    got = []
    async with source.receiver() as receiver:
        while taken := receiver.receive_nowait(count):
            got += [each.message.body for each in taken]
            assert not await receiver.ack(taken)
    return got


async def read(group, count: int = 10) -> list:
    """What a worker of a stream's group gets, acknowledged."""
    got = []
    async with group.receiver() as receiver:
        while taken := await receiver.receive(count, wait=1.0):
            got += [each.message.body for each in taken]
            assert not await receiver.ack(taken)
    return got


async def test_the_deduplication_window_is_five_minutes(memory):
    queue = memory.queue("q.fifo")
    message = Message("once", group_id="g", deduplication_id="d")
    await queue.send(message)
    assert await drained(queue) == ["once"]
    await asyncio.sleep(299)
    await queue.send(message)
    assert await drained(queue) == []
    await asyncio.sleep(2)
    await queue.send(message)
    assert await drained(queue) == ["once"]


async def test_a_clock_that_is_set_back_makes_no_window_longer(memory):
    """A message was dropped for as long as the clock had been set back."""
    queue = memory.queue("q.fifo")
    message = Message("again", group_id="g", deduplication_id="d")
    with use_clock(lambda: 1e9):
        await queue.send(message)
    await asyncio.sleep(301)
    with use_clock(lambda: 1e9 - 3600):
        await queue.send(message)
    assert await drained(queue) == ["again", "again"]


async def test_the_window_forgets_what_is_over(memory):
    queue = memory.queue("q.fifo")
    await queue.send(*(Message(number, group_id="g") for number in range(100)))
    await asyncio.sleep(301)
    await queue.send(Message("last", group_id="g"))
    assert len(queue._seen) == 1


async def test_senders_wait_while_a_queue_is_full(memory):
    queue = memory.queue("small", capacity=3)
    sending = asyncio.create_task(queue.send(*(Message(number) for number in range(5))))
    await asyncio.sleep(1)
    assert not sending.done()
    assert len(queue) == 3
    assert await drained(queue, 2) == [0, 1, 2]
    await sending
    assert await drained(queue) == [3, 4]


async def test_a_publisher_waits_for_its_slowest_subscription(memory):
    topic = memory.topic("t")
    slow = topic.subscription("slow", capacity=1)
    fast = topic.subscription("fast")
    publishing = asyncio.create_task(topic.send(Message(1), Message(2)))
    await asyncio.sleep(1)
    assert not publishing.done()
    assert await drained(slow) == [1]
    await publishing
    assert await drained(fast) == [1, 2]


async def test_a_consumer_holds_no_more_than_it_can_start(memory):
    queue, block = memory.queue("q"), asyncio.Event()

    async def handle(_: Message) -> None:
        await block.wait()

    consumer = Consumer(queue, handle, concurrency=3)
    task = asyncio.create_task(consumer.run())
    await queue.send(*(Message(number) for number in range(1000)))
    await asyncio.sleep(5)
    assert queue.store.leased == 3
    block.set()
    await asyncio.sleep(5)
    assert len(queue) == 0
    await consumer.stop()
    await task


async def test_redrive_sends_each_before_it_forgets_it(memory):
    dead = memory.queue("dead.fifo")
    queue = memory.queue("q.fifo", dead_letters=dead, max_receive_count=1)
    await dead.send(*(Message(number, group_id="g", id=f"{number}") for number in range(5)))
    assert await dead.move_messages(queue, limit=2) == 2
    assert [each.body for each in queue.messages()] == [0, 1]

    class Refuses:
        async def send(self, *messages):
            raise ConnectionError("down")

    with pytest.raises(ConnectionError):
        await dead.move_messages(Refuses())
    assert [each.body for each in dead.messages()] == [2, 3, 4]
    assert await dead.move_messages(queue) == 3
    assert [each.body for each in queue.messages()] == [0, 1, 2, 3, 4]


async def test_a_dead_letter_says_how_often_and_where_from(memory):
    dead = memory.queue("dead")
    queue = memory.queue("q", dead_letters=dead, max_receive_count=2)
    await queue.send(Message("x", headers={"kept": "yes"}))
    async with queue.receiver() as receiver:
        for _ in range(3):
            for delivery in receiver.receive_nowait(1):
                await delivery.nack()
    (found,) = dead.messages()
    assert dict(found.headers) == {
        "kept": "yes",
        "dead-letter-reason": "received 2 times",
        "dead-letter-source": "q",
        "dead-letter-count": "2",
    }


async def test_subscriptions_filter_and_can_be_ended(memory):
    topic = memory.topic("t")
    some = topic.subscription("some", filter=FilterPolicy({"kind": ["a"]}))
    every = topic.subscription("every", filter=lambda message: message.body > 0)
    await topic.send(Message(1, attributes={"kind": "a"}), Message(2, attributes={"kind": "b"}), Message(0))
    assert await drained(some) == [1]
    assert await drained(every) == [1, 2]
    topic.unsubscribe("some")
    await topic.send(Message(3, attributes={"kind": "a"}))
    assert await drained(some) == []
    with pytest.raises(ConfigurationError, match="exists"):
        topic.subscription("every", filter=FilterPolicy({"kind": ["b"]}))


async def test_a_filter_that_raises_is_its_subscriptions_own_trouble(memory):
    topic, dead = memory.topic("t"), memory.queue("dead")
    topic.subscription("broken", filter=lambda message: message.body["x"] > 0, dead_letters=dead)
    good = topic.subscription("good")
    await topic.send(Message(1))
    assert await drained(good) == [1]
    assert await drained(dead) == [1]


async def test_a_rule_matches_type_and_source(memory):
    bus = memory.bus()
    rule = bus.subscription("created", pattern=EventPattern({"source": ["jobs"], "detail-type": ["JobCreated"]}))
    await bus.send(
        Message({"n": 1}, type="JobCreated", source="jobs"),
        Message({"n": 2}, type="JobDeleted", source="jobs"),
        Message({"n": 3}, type="JobCreated", source="others"),
    )
    assert await drained(rule) == [{"n": 1}]


async def test_a_fifo_queue_refuses_what_it_cannot_order(memory):
    queue, topic = memory.queue("q.fifo"), memory.topic("t.fifo")
    for refused in (queue.send(Message(1)), queue.send(Message(1, group_id="g"), delay=1), topic.send(Message(1))):
        with pytest.raises(InvalidMessage, match="FIFO"):
            await refused
    assert len(queue) == 0


async def test_a_stream_keeps_the_order_of_each_key_over_its_shards(memory):
    stream = memory.stream("clicks", shards=4)
    group = stream.group("g")
    await stream.send(*(Message((key, number), group_id=key) for number in range(20) for key in "abcdef"))
    seen: dict[str, list[int]] = {}
    for key, number in await read(group):
        seen.setdefault(key, []).append(number)
    assert seen == {key: list(range(20)) for key in "abcdef"}
    assert len({stream.shard_of(key) for key in "abcdef"}) > 1


async def test_groups_read_a_stream_on_their_own_and_again(memory):
    stream = memory.stream("clicks", shards=1)
    await stream.send(Message("before", group_id="k"))
    first, second = stream.group("first"), stream.group("second", start="trim_horizon")
    await asyncio.sleep(100)
    at = clock.now()
    await stream.send(Message("after", group_id="k"))
    assert await read(first) == ["after"]
    assert await read(second) == ["before", "after"]
    await first.seek("trim_horizon")
    assert await read(first) == ["before", "after"]
    await first.seek(at)
    assert await read(first) == ["after"]


async def test_a_checkpoint_passes_nothing_that_is_not_done(memory):
    stream = memory.stream("clicks", shards=1)
    group = stream.group("g")
    await stream.send(*(Message(number, group_id=f"k{number}") for number in range(3)))
    async with group.receiver() as receiver:
        taken = await receiver.receive(3)
        assert not await receiver.ack(taken[1:])
        (status,) = group.shards
        assert (status.checkpoint.sequence, status.held) == ("0", 3)
        await asyncio.sleep(7)
        assert group.iterator_age == pytest.approx(7)
        assert not await receiver.ack(taken[:1])
        (status,) = group.shards
        assert (status.checkpoint.sequence, status.held) == ("3", 0)
        assert group.iterator_age == 0
    assert [each.sequence for each in (await group.checkpoints()).values()] == ["3"]


async def test_a_stream_is_bounded_and_says_what_a_slow_group_missed(memory):
    stream = memory.stream("clicks", shards=1, capacity=1500)
    group = stream.group("g", options=GroupOptions(max_read_ahead=1000))
    async with group.receiver(capacity=1000) as receiver:
        got = []
        for batch in range(4):
            await stream.send(*(Message(batch * 1000 + each, group_id=f"k{each}") for each in range(1000)))
            if batch == 0:
                got += await receiver.receive(1000)
        assert not await receiver.ack(got)
        while taken := await receiver.receive(1000, wait=1.0):
            got += taken
            await receiver.ack(taken)
        (status,) = group.shards
        assert len(got) + status.missed == 4000
        assert status.missed > 0
        assert [each.message.body for each in got[:1000]] == list(range(1000))
        assert got[-1].message.body == 3999


async def test_channels_are_cheap_and_the_same_when_asked_for_again(memory):
    assert memory.queue("q") is memory.queue("q")
    memory.queue("sized", capacity=7)
    with pytest.raises(ConfigurationError, match="capacity"):
        memory.queue("sized", capacity=8)
    with pytest.raises(ConfigurationError, match="go together"):
        memory.queue("half", max_receive_count=3)
    with pytest.raises(ConfigurationError, match="FIFO"):
        memory.queue("mixed.fifo", dead_letters=memory.queue("q"), max_receive_count=3)
    with pytest.raises(AddressRefused):
        memory.resolve("memory:queue/never-made")


async def test_a_queued_message_takes_little_beside_its_body(memory):
    """Buffers of the JSON encoder once stayed behind small bodies: 4 KB each."""
    queue = memory.queue("q")
    await queue.send(Message({"number": 0}))
    tracemalloc.start()
    try:
        await queue.send(*(Message({"number": number}) for number in range(1000)))
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size / 1000 < 700


async def test_an_empty_queue_is_there(memory):
    queue = memory.queue("q")
    assert len(queue) == 0
    assert bool(queue)


async def test_a_closed_transport_refuses_every_use():
    """Fault 33: an error, as on the services; what was on lease can still be settled."""
    transport = MemoryTransport()
    message: Message = Message({}, type="t", source="s")
    async with transport:
        queue, topic, bus, stream = transport.queue("q"), transport.topic("t"), transport.bus(), transport.stream("s")
        await queue.send(message, message)
        receiver = queue.receiver()
        (held,) = await receiver.receive(1)
    await transport.aclose()
    for use in (
        lambda: queue.send(message),
        lambda: topic.send(message),
        lambda: bus.send(message),
        lambda: bus.put_event({}),
        lambda: stream.send(message),
        lambda: receiver.receive(1),
        queue.receiver().open,
        stream.group("g").receiver().open,
        Consumer(queue, print).run,
        transport.open,
    ):
        with pytest.raises(StateError, match="closed"):
            await use()
    with pytest.raises(StateError, match="closed"):
        transport.queue("new")
    await held.ack()
    assert len(queue.messages()) == 1


@pytest.mark.parametrize("odd", [{"a": 1}, "text", None, [Message(1)]])
async def test_what_is_no_message_is_refused_by_every_channel(memory, odd):
    """Fault 34: an AttributeError, or nothing at all."""
    for channel in (memory.queue("q"), memory.topic("t"), memory.bus(), memory.stream("s")):
        with pytest.raises(TypeError, match="wrap it"):
            await channel.send(odd)


async def test_delays_and_names_are_checked_before_anything_is_sent(memory):
    """Fault 34: a delay of NaN was none, an infinite one kept the message for ever."""
    queue = memory.queue("q")
    for delay in (-1, float("nan"), float("inf")):
        with pytest.raises(InvalidMessage, match="delay must be"):
            await queue.send(Message(1), delay=delay)
    for wrong in ("5", None):
        with pytest.raises(TypeError, match="delay must be"):
            await queue.send(Message(1), delay=wrong)
    assert len(queue) == 0
    await queue.send(Message(1), delay=timedelta(seconds=5))
    assert queue.store.ready == 0
    assert len(queue) == 1
    for make in (memory.queue, memory.topic, memory.bus, memory.stream):
        with pytest.raises(TypeError, match="name must be a string, got 5"):
            make(5)


async def test_a_temporary_queue_ends_with_its_block():
    async with MemoryTransport() as memory:
        async with memory.temporary_queue("replies") as queue:
            assert queue.name.startswith("replies-temp-")
            await memory.resolve(queue.address).send(Message("!"))
            async with queue.receiver() as receiver:
                assert [each.message.body for each in await receiver.receive(1)] == ["!"]
        with pytest.raises(AddressRefused):
            memory.resolve(queue.address)
        await queue.remove()


async def test_a_queue_that_stays_empty_remembers_nobody_who_waited(memory):
    queue = memory.queue("idle")
    async with queue.receiver() as receiver:
        for _ in range(50):
            assert not await receiver.receive(1, wait=20)
        for _ in range(50):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await receiver.receive(1, wait=20)
    assert not queue.store._waiters


async def test_a_receiver_that_is_closed_takes_nothing_more(memory):
    """What it took would be away until its lease ends."""
    queue = memory.queue("left")
    receiver, other = queue.receiver(), queue.receiver()
    async with receiver, other:
        waiting = asyncio.create_task(receiver.receive(10))
        also = asyncio.create_task(other.receive(10))
        await asyncio.sleep(1)
        await queue.send(Message("for the other"))
        await receiver.aclose()
        assert not await waiting
        assert not receiver.receive_nowait(10)
        assert not await receiver.receive(10)
        assert [each.message.body for each in await also] == ["for the other"]


async def test_a_transport_that_closes_keeps_nobody_waiting():
    memory = MemoryTransport()
    async with memory:
        queue = memory.queue("full", capacity=1)
        await queue.send(Message(1))
        sending = asyncio.create_task(queue.send(Message(2)))
        receiving = asyncio.create_task(memory.queue("empty").receiver().receive(1, wait=1000))
        await asyncio.sleep(1)
    began = asyncio.get_running_loop().time()
    for task in (sending, receiving):
        with pytest.raises(StateError):
            await asyncio.wait_for(task, 100)
    assert asyncio.get_running_loop().time() == began


async def test_an_ack_is_seen_by_whoever_traces_what_is_settled(memory):
    """Without a meter, too, where an ack takes a shorter way."""
    queue = memory.queue("traced")
    seen: list[tuple[str, int]] = []

    @contextlib.contextmanager
    def settling(verb, deliveries):
        seen.append((verb, len(deliveries)))
        yield

    class Traced(MemoryQueue):
        def receiver(self, *, capacity: int = 10):
            receiver = super().receiver(capacity=capacity)
            receiver.settling = settling
            return receiver

    queue.__class__ = Traced

    async def handle(message: Message) -> None: ...

    await queue.send(Message(1), Message(2))
    async with Consumer(queue, handle):
        await asyncio.sleep(1)
    assert seen == [("ack", 1)] * 2


def test_a_shard_is_read_from_its_nearer_end():
    log = ShardLog(Shard("s"), capacity=10)
    for number in range(17):
        log.append(Record(number, 0.0, Message(number)))
    for place in range(20):
        for limit in (1, 3, 20):
            expected = range(max(place, 7), min(max(place, 7) + limit, 17))
            assert [each.sequence for each in log.read(place, limit)] == list(expected)
