"""What becomes of a pack whose messages fail, each in its own way; and packs on real queues."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from eip import Backoff, Consumer, Message
from eip.errors import Park, Reject, Retry
from eip.packs import entry_of, pack
from eip.patterns.batching import batched
from eip.patterns.packer import Packer
from eip.streams import BatchConsumer, BatchFailure
from eip.transports.memory import MemoryTransport
from tests.runtime.scripted import Outbox, Scripted, running, until


def packed(*messages: Message[Any], **envelope: Any) -> Message[Any]:
    return pack([entry_of(each) for each in messages], messages[0]).replace(**envelope).sealed()


def numbers(count: int, **envelope: Any) -> list[Message[Any]]:
    return [Message(number, id=f"m{number}", **envelope) for number in range(count)]


async def test_any_number_of_packs_is_handled_with_no_more_than_the_consumers_concurrency():
    async with MemoryTransport() as transport:
        queue = transport.queue("q")
        running_now = most = handled = 0

        async def handle(message: Message) -> None:
            nonlocal running_now, most, handled
            running_now += 1
            most = max(most, running_now)
            await asyncio.sleep(0.01)
            running_now -= 1
            handled += 1

        await queue.send(*(packed(*numbers(30)) for _ in range(10)))
        async with running(Consumer(queue, handle, concurrency=5)) as consumer:
            await until(lambda: len(queue) == 0)
        assert (handled, most) == (300, 5)
        assert (consumer.stats.handled, consumer.stats.messages) == (10, 300)


async def test_a_handler_whose_own_call_is_cancelled_has_failed_and_loses_nothing():
    async with MemoryTransport() as transport:
        queue = transport.queue("q")
        seen: list[int] = []

        async def handle(message: Message) -> None:
            seen.append(message.body)
            if seen.count(1) == 1 and message.body == 1:
                raise asyncio.CancelledError

        await queue.send(packed(*numbers(4)))
        async with running(Consumer(queue, handle, concurrency=1, retry=Backoff(base=1))):
            await until(lambda: len(queue) == 0)
        assert seen == [0, 1, 2, 3, 1]


async def test_where_all_fail_what_is_rejected_goes_alone_and_the_rest_comes_again():
    async with MemoryTransport() as transport:
        dead = transport.queue("dead")
        queue = transport.queue("q", dead_letters=dead, max_receive_count=5)
        tries: list[int] = []

        async def handle(message: Message) -> None:
            tries.append(message.body)
            if message.body == 0:
                raise Reject("never")
            if message.body == 1:
                raise Park("aside")
            if tries.count(message.body) == 1:
                raise ConnectionError("not now")

        await queue.send(packed(*numbers(4)))
        async with running(Consumer(queue, handle)):
            await until(lambda: len(queue) == 0)
        assert sorted(tries) == [0, 1, 2, 2, 3, 3]
        assert sorted(each.id for each in dead.messages()) == ["m0", "m1"]


@pytest.mark.parametrize("longest", [900.0, None])
async def test_what_is_sent_again_is_delayed_by_no_more_than_the_channel_allows(longest):
    """Fault 40: a pack's message was delayed by SQS's maximum on every channel."""
    async with MemoryTransport() as transport:
        queue = transport.queue("q")
        queue.limits = replace(queue.limits, max_delay=longest)
        at: list[float] = []
        again = asyncio.Event()

        async def handle(message: Message) -> None:
            if message.body == 1:
                at.append(asyncio.get_running_loop().time())
                if len(at) == 1:
                    raise Retry(delay=7200)
                again.set()

        await queue.send(packed(*numbers(3)))
        async with running(Consumer(queue, handle)):
            await again.wait()
        assert at[1] - at[0] == pytest.approx(longest or 7200, abs=1)


@pytest.mark.parametrize("forged", [None, "1e9", "\u0663", "9" * 30])
async def test_a_message_sent_again_alone_keeps_the_count_of_its_attempts(forged):
    """Fault 38: attempts mean attempts, also of a message that failed in a pack; a forged count is 0."""
    async with MemoryTransport() as transport:
        dead = transport.queue("dead")
        queue = transport.queue("q", dead_letters=dead, max_receive_count=9)
        tries: list[int] = []

        async def handle(message: Message) -> None:
            tries.append(message.body)
            if message.body == 1:
                raise ValueError("never")

        first, second, third = numbers(3)
        if forged is not None:
            second = second.replace(headers={"attempts": forged})
        await queue.send(packed(first, second, third))
        async with running(Consumer(queue, handle, retry=Backoff(base=0.1, max_attempts=3))):
            await until(lambda: len(dead) == 1)
        assert tries.count(1) == 3


async def test_failures_are_sent_again_before_the_pack_is_acknowledged():
    queue_like, source = Outbox(), Scripted(packed(*numbers(3), id="pack"))
    source.retry_queue = queue_like  # type: ignore[assignment]
    sent: list[Any] = []

    async def send(*messages: Message, delay: float = 0.0) -> None:
        sent.append((list(source.acked), [(each.id, each.headers["attempts"]) for each in messages]))
        if len(sent) == 1:
            raise ConnectionError("the channel is down")

    queue_like.send = send

    async def handle(message: Message) -> None:
        if message.body == 1:
            raise ValueError("no")

    async with running(Consumer(source, handle, retry=Backoff(base=0.1))):
        await until(lambda: source.acked)
    # The first try to send it again failed, so the pack came again whole, and m1 was tried once more.
    assert sent == [([], [("m1", "1")]), ([], [("m1", "2")])]
    assert source.acked == [["pack"]]


async def test_at_its_last_receive_a_pack_dead_letters_only_what_fails():
    """Fault 38: the whole pack went, with what was handled; and what failed alone had all its attempts again."""
    source, dead = Scripted(), Outbox("dead")
    source.max_receive_count = 3
    source.put(packed(*numbers(3), id="pack"))
    seen: list[int] = []

    async def handle(message: Message) -> None:
        seen.append(message.body)
        if message.body == 1:
            raise ValueError("never")

    async with running(Consumer(source, handle, dead_letters=dead, retry=Backoff(base=0.1))):
        await until(lambda: source.acked)
    assert seen.count(1) == 3
    assert [each.id for each in dead.sent] == ["m1"]


async def test_where_nothing_can_be_sent_to_the_pack_is_retried_whole_and_the_rejected_goes_alone():
    source, dead = Scripted(packed(*numbers(3), id="pack")), Outbox("dead")
    seen: list[int] = []

    async def handle(message: Message) -> None:
        seen.append(message.body)
        if message.body == 0 and seen.count(0) == 1:
            raise Reject("never")
        if message.body == 1 and seen.count(1) == 1:
            raise ValueError("not now")

    async with running(Consumer(source, handle, dead_letters=dead, retry=Backoff(base=0.1))):
        await until(lambda: source.acked)
    assert sorted(seen) == [0, 0, 1, 1, 2, 2]
    assert [each.id for each in dead.sent] == ["m0"]


async def test_expired_messages_of_a_pack_go_where_the_consumer_says():
    for on_expired, handled, kept in (("drop", [1], []), ("dead_letter", [1], ["m0"]), ("handle", [0, 1], [])):
        source, dead = Scripted(packed(*numbers(1, expires_at=1.0), Message(1, id="m1"))), Outbox("dead")
        seen: list[int] = []

        async def handle(message: Message, seen: list[int] = seen) -> None:
            seen.append(message.body)

        consumer = Consumer(source, handle, dead_letters=dead, on_expired=on_expired)  # type: ignore[arg-type]
        async with running(consumer):
            await until(lambda source=source: source.acked)
        assert (sorted(seen), [each.id for each in dead.sent]) == (handled, kept)


async def test_each_message_of_a_groups_pack_has_its_own_retries():
    async with MemoryTransport() as transport:
        queue = transport.queue("q.fifo")
        seen: list[int] = []

        async def handle(message: Message) -> None:
            seen.append(message.body)
            if message.body in (1, 3) and seen.count(message.body) <= 3:
                raise ValueError("not yet")

        await queue.send(packed(*numbers(5, group_id="g"), group_id="g"))
        async with running(Consumer(queue, handle, local_retries=3, retry=Backoff(base=1))) as consumer:
            await until(lambda: len(queue) == 0)
        assert seen == [0, 1, 1, 1, 1, 2, 3, 3, 3, 3, 4]
        assert consumer.stats.received == 1  # it never went back to the queue


async def test_a_groups_pack_goes_on_after_a_message_that_is_dead_lettered():
    async with MemoryTransport() as transport:
        dead, queue = transport.queue("dead.fifo"), transport.queue("q.fifo")
        seen: list[int] = []

        async def handle(message: Message) -> None:
            seen.append(message.body)
            if message.body == 1:
                raise ValueError("never works")

        await queue.send(packed(*numbers(3, group_id="g"), group_id="g"))
        consumer = Consumer(
            queue, handle, dead_letters=dead, on_group_failure="dead_letter_and_continue", local_retries=2
        )
        async with running(consumer):
            await until(lambda: len(queue) == 0)
        assert seen == [0, 1, 1, 1, 2]
        assert [each.id for each in dead.messages()] == ["m1"]


async def test_a_batch_handler_gets_the_messages_of_a_pack_together():
    async with MemoryTransport() as transport:
        queue = transport.queue("q")
        sizes: list[int] = []

        @batched(size=20, window=timedelta(seconds=1))
        async def handle(messages: Any) -> None:
            sizes.append(len(messages))

        await queue.send(packed(*numbers(60)))
        async with running(Consumer(queue, handle, concurrency=20)):
            await until(lambda: len(queue) == 0)
        assert sizes == [20, 20, 20]


async def test_a_consumer_that_is_stopped_in_the_middle_of_a_pack_gives_it_back_whole():
    async with MemoryTransport() as transport:
        queue = transport.queue("q")
        started = asyncio.Event()

        async def handle(message: Message) -> None:
            if message.body == 2:
                started.set()
                await asyncio.sleep(1000)

        async with Packer(queue) as packer:
            await packer.send(*numbers(4))
        async with running(Consumer(queue, handle, concurrency=1, grace=1)):
            await started.wait()
        assert len(queue) == 1
        assert queue.store.ready == 1


async def test_a_streams_batch_consumer_gets_the_messages_of_packs_and_goes_on_where_it_failed():
    async with MemoryTransport() as transport:
        stream = transport.stream("s", shards=1)
        calls: list[list[int]] = []

        async def handle(messages: Any) -> None:
            calls.append([each.body for each in messages])
            if len(calls) == 1:
                raise BatchFailure("no", handled=4)  # within the second pack, which comes again whole

        packs = [packed(*(Message(number) for number in range(start, start + 3)), group_id="g") for start in (0, 3, 6)]
        await stream.send(*packs)
        consumer = BatchConsumer(stream.group("g", start="trim_horizon"), handle, bisect=False, retry=Backoff(base=0))
        async with running(consumer):  # type: ignore[arg-type]
            await until(lambda: consumer.stats.handled == 3)
        assert calls == [list(range(9)), list(range(3, 9))]


async def test_a_hostile_pack_in_a_stream_is_put_aside_alone():
    async with MemoryTransport() as transport:
        stream, aside = transport.stream("s", shards=1), Outbox("aside")
        seen: list[int] = []

        async def handle(messages: Any) -> None:
            seen.extend(each.body for each in messages)

        await stream.send(
            packed(Message(1), group_id="g"),
            Message({"eip-pack": 7}, id="bad", group_id="g", headers={"pack": "1"}),
            packed(Message(2), group_id="g"),
        )
        group = stream.group("g", start="trim_horizon")
        async with running(BatchConsumer(group, handle, on_failure=aside)):  # type: ignore[arg-type]
            await until(lambda: len(seen) == 2)
        assert (seen, [each.id for each in aside.sent]) == ([1, 2], ["bad"])
