"""Attempts mean attempts; what is given up keeps its last error; waiting is no attempt."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from eip import Backoff, Consumer, Message
from eip.channels import without_dead_letter_headers
from eip.errors import ConnectionLost, InvalidMessage, MessageTooLarge, Reject, Retry, SendError
from eip.packs import entry_of, pack
from eip.transports.memory import MemoryTransport

from .scripted import Outbox, Scripted, running, until

QUICK = Backoff(base=0.1, cap=0.1)


async def never(_: Message) -> None:
    raise ValueError("the last error")


@pytest.mark.parametrize("fifo", [False, True])
@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_a_message_is_tried_as_often_as_its_channel_allows_and_keeps_its_last_error(fifo, limit, caplog):
    """Faults 36 and 38: "received 2 times" and no count; a FIFO queue with a limit of 2 ran the handler eight times."""
    name = "q.fifo" if fifo else "q"
    async with MemoryTransport() as memory:
        dead = memory.queue("dead.fifo" if fifo else "dead")
        queue = memory.queue(name, dead_letters=dead, max_receive_count=limit)
        tried: dict[str, int] = {}

        async def handle(message: Message) -> None:
            tried[message.id] = tried.get(message.id, 0) + 1
            raise ValueError("the last error")

        await queue.send(*(Message(each, id=f"m{each}", group_id="g" if fifo else None) for each in range(3)))
        async with running(Consumer(queue, handle, retry=QUICK)) as consumer:
            await until(lambda: len(dead) == 3)
        assert tried == {"m0": limit, "m1": limit, "m2": limit}
        assert consumer.stats.dead_lettered == 3
    assert {each.headers["dead-letter-reason"] for each in dead.messages()} == {"ValueError: the last error"}
    assert "dead_lettered channel=q" in caplog.text


async def test_max_attempts_counts_those_in_this_process():
    """Fault 38: one place, `max_attempts`."""
    source, dead = Scripted(Message(1, id="a", group_id="g")), Outbox("dead")
    async with running(Consumer(source, never, dead_letters=dead, retry=Backoff(base=0, max_attempts=3))) as consumer:
        await until(lambda: dead.sent)
        assert consumer.stats.retried == 2


async def test_a_receive_behind_a_failing_head_is_no_attempt():
    source, dead = Scripted(), Outbox("dead")
    source.max_receive_count = 4
    source.put(*(Message(each, id=each, group_id="g") for each in "ab"))
    tried: list[str] = []

    async def handle(message: Message) -> None:
        tried.append(message.id)
        raise ValueError("never")

    async with running(Consumer(source, handle, dead_letters=dead, retry=QUICK, local_retries=1)):
        await until(lambda: len(dead.sent) == 2)
    assert tried.count("a") == 4
    assert tried.count("b") >= 3


@pytest.mark.parametrize(("limit", "local_retries"), [(2, 3), (5, 3), (5, 0), (6, 1), (9, 3)])
async def test_several_processes_together_try_no_more_often_than_allowed(limit, local_retries):
    """Fault 38, with more than one consumer: a FIFO queue with a limit of 5 ran the handler eight times."""
    async with MemoryTransport() as memory:
        dead = memory.queue("dead.fifo")
        queue = memory.queue("q.fifo", dead_letters=dead, max_receive_count=limit)
        tried: dict[str, int] = {}

        async def handle(message: Message) -> None:
            tried[message.id] = tried.get(message.id, 0) + 1
            raise ValueError("never")

        await queue.send(*(Message(each, id=f"m{each}", group_id=f"g{each % 2}") for each in range(6)))
        consumers = [Consumer(queue, handle, retry=QUICK, local_retries=local_retries) for _ in range(3)]
        async with running(consumers[0]), running(consumers[1]), running(consumers[2]):
            await until(lambda: len(dead) == 6)
    assert max(tried.values()) <= limit
    assert len(tried) == 6


async def test_a_message_behind_another_has_not_been_tried_by_anyone():
    """Its receives were those of the head: it has all its attempts, the head what is left of them."""
    source, dead = Scripted(), Outbox("dead")
    source.max_receive_count = 5
    source.put(*(Message(each, id=each, group_id="g") for each in "ab"), receive_count=2)
    tried: list[str] = []

    async def handle(message: Message) -> None:
        tried.append(message.id)
        raise ValueError("never")

    async with running(Consumer(source, handle, dead_letters=dead, retry=QUICK, local_retries=3)):
        await until(lambda: len(dead.sent) == 2)
    assert (tried.count("a"), tried.count("b")) == (1, 5)


async def test_receives_elsewhere_in_between_count_too():
    source, dead = Scripted(Message(1, id="a", group_id="g")), Outbox("dead")
    source.max_receive_count = 10
    tried: list[int] = []

    async def handle(_: Message) -> None:
        tried.append(1)
        source.nack_count = 2 if len(tried) == 2 else 1  # given back after two, another process has it once
        raise ValueError("never")

    async with running(Consumer(source, handle, dead_letters=dead, retry=QUICK, local_retries=1)):
        await until(lambda: dead.sent)
    assert len(tried) == 10 - 2


async def test_the_wait_follows_failures_that_were_seen_not_receives_whose_answers_were_lost():
    """Seven receives that nobody got put the second attempt at a group's head off by minutes."""
    source, dead = Scripted(), Outbox("dead")
    source.max_receive_count = 18
    source.put(Message(1, id="a", group_id="g"), receive_count=8)
    times: list[float] = []

    async def handle(_: Message) -> None:
        times.append(asyncio.get_running_loop().time())
        raise ValueError("never")

    retry = Backoff(base=1, cap=1000)
    async with running(Consumer(source, handle, dead_letters=dead, retry=retry, local_retries=1)):
        await until(lambda: dead.sent, within=3600)
    waits = [after - before for before, after in itertools.pairwise(times)]
    assert all(wait <= 2**number + 1 for number, wait in enumerate(waits))
    assert times[1] - times[0] <= 1
    assert len(times) <= 4  # the seven receives may have been attempts: the bound holds


@pytest.mark.parametrize("limit", [2, 5, 6])
async def test_a_message_in_a_pack_of_a_group_is_tried_as_often_as_allowed(limit):
    """Fault 38: each receive of the pack began to count again."""
    source, dead = Scripted(), Outbox("dead")
    source.max_receive_count = limit
    parts = [Message(each, id=each, group_id="g") for each in "ab"]
    source.put(pack([entry_of(each) for each in parts], parts[0]))
    tried: list[str] = []

    async def handle(message: Message) -> None:
        tried.append(message.id)
        if message.id == "b":
            raise ValueError("never")

    async with running(Consumer(source, handle, dead_letters=dead, retry=QUICK, local_retries=1)):
        await until(lambda: source.acked)
    assert [each.id for each in dead.sent] == ["b"]
    assert tried.count("b") == limit


async def test_waiting_uses_up_no_receive():
    """Fault 37: a receiver that waited for another's claim had its message dead-lettered unhandled."""
    async with MemoryTransport() as memory:
        dead = memory.queue("dead")
        queue = memory.queue("q", dead_letters=dead, max_receive_count=2, visibility=10)
        tries = []

        async def handle(_: Message) -> None:
            tries.append(asyncio.get_running_loop().time())
            if len(tries) < 10:
                raise Retry("another has it", delay=20, counted=False)

        await queue.send(Message(1))
        async with running(Consumer(queue, handle, concurrency=1)) as consumer:
            await until(lambda: len(queue) == 0)
        assert consumer.stats.dead_lettered == 0
        assert len(tries) == 10
        assert tries[1] - tries[0] == pytest.approx(20, abs=0.1)


async def test_waiting_takes_no_slot_and_ends_with_max_processing():
    source = Scripted(Message(1, id="waits"), Message(2, id="goes"))

    async def handle(message: Message) -> None:
        if message.id == "waits":
            raise Retry("another has it", delay=10_000, counted=False)

    async with running(Consumer(source, handle, concurrency=1, max_processing=60)) as consumer:
        await until(lambda: source.acked_ids == ["goes"], within=1)
        await until(lambda: source.nacked)
        assert source.nacked == [(["waits"], 0.0)]
        assert consumer.stats.in_flight <= 1


class Picky(Outbox):
    """A dead-letter channel that takes no long reason, or no reason at all."""

    def __init__(self, most: int, error: Exception) -> None:
        super().__init__("dead")
        self.most, self.error = most, error

    async def send(self, *messages: Message) -> None:
        if len(messages[0].headers.get("dead-letter-reason", "")) > self.most:
            raise self.error
        await super().send(*messages)


@pytest.mark.parametrize("error", [MessageTooLarge(2, 1), InvalidMessage("eleven attributes"), SendError("refused")])
@pytest.mark.parametrize("most", [100, 0])
async def test_a_dead_letter_that_does_not_fit_with_its_reason_goes_without(error, most, caplog):
    """Fault 9: a message with ten attributes could be neither handled nor dead-lettered, for ever."""
    source, dead = Scripted(Message.received(b"{", id="bad")), Picky(most, error)
    source.errors["bad"] = ValueError("x" * 2000)
    async with running(Consumer(source, never, dead_letters=dead)) as consumer:
        await until(lambda: source.acked)
        assert consumer.stats.dead_lettered == 1
    assert dead.sent[0].encode() == b"{"
    assert len(dead.sent[0].headers.get("dead-letter-reason", "")) == (60 if most else 0)
    assert ("dead_letter_without_reason" in caplog.text) is not most


async def test_a_dead_letter_channel_that_is_away_is_tried_again_whole():
    source, dead = Scripted(Message.received(b"{", id="bad")), Outbox("dead")
    source.errors["bad"] = ValueError("x")
    dead.refuse.append(ConnectionLost("away"))
    async with running(Consumer(source, never, dead_letters=dead)):
        await until(lambda: source.acked)
    assert "dead-letter-reason" in dead.sent[0].headers


async def test_a_dead_letter_that_nothing_takes_is_no_hot_loop(caplog):
    """Fault 9 and 42."""
    source, dead = Scripted(Message.received(b"{", id="bad")), Picky(-1, InvalidMessage("never"))
    source.errors["bad"] = ValueError("x")
    async with running(Consumer(source, never, dead_letters=dead)):
        await asyncio.sleep(600)
    assert len(source.nacked) < 60
    assert caplog.text.count("dead_letter_failed") == 1


async def test_two_foreign_messages_with_one_id_have_attempts_of_their_own():
    """Programs that do not know this library may give all their messages one id; the second was dead-lettered early."""
    async with MemoryTransport() as memory:
        dead = memory.queue("dead.fifo")
        queue = memory.queue("q.fifo", dead_letters=dead, max_receive_count=3, deduplication_scope="group")
        tried: dict[str, int] = {}

        async def handle(message: Message) -> None:
            tried[message.body] = tried.get(message.body, 0) + 1
            raise ValueError(message.body)

        for number, group in enumerate(("a", "b", "a")):
            body = f"{group}{number}"
            same = Message(body, id="1", group_id=group, deduplication_id=body, created_at=1.0 + number)
            await queue.send(same)
        async with running(Consumer(queue, handle, retry=QUICK)):
            await until(lambda: len(dead) == 3)
    assert tried == {"a0": 3, "b1": 3, "a2": 3}


class NoStack(Outbox):
    """A dead-letter channel that a stack does not fit into."""

    async def send(self, *messages: Message) -> None:
        if "dead-letter-stack" in messages[0].headers:
            raise MessageTooLarge(2, 1)
        await super().send(*messages)


async def _dead_letter_of(handle, dead: Outbox) -> Message:
    source = Scripted(Message(1, id="a"))
    async with running(Consumer(source, handle, dead_letters=dead, retry=Backoff(max_attempts=1))):
        await until(lambda: dead.sent)
    return dead.sent[0]


async def test_a_dead_letter_tells_where_its_handler_failed():
    def deeper(depth: int) -> None:
        if depth:
            deeper(depth - 1)
        raise ValueError("no price")

    async def handle(_: Message) -> None:
        deeper(3)

    stack = (await _dead_letter_of(handle, Outbox("dead"))).headers["dead-letter-stack"]
    assert stack.splitlines()[0].startswith('  File "')
    assert stack.count("in deeper") == 4
    assert "_session.py" not in stack
    assert 'raise ValueError("no price")' in stack

    async def endless(message: Message) -> None:
        await endless(message)

    assert len((await _dead_letter_of(endless, Outbox("dead"))).headers["dead-letter-stack"]) <= 2000


async def test_what_a_handler_decided_has_no_stack_and_none_keeps_a_message_from_its_dead_letters():
    async def decided(_: Message) -> None:
        raise Reject("customer does not pay")

    assert "dead-letter-stack" not in (await _dead_letter_of(decided, Outbox("dead"))).headers
    dead = await _dead_letter_of(never, NoStack("dead"))
    assert dead.headers["dead-letter-reason"] == "ValueError: the last error"
    assert "dead-letter-stack" not in dead.headers


async def test_a_message_that_is_redriven_has_no_stack_any_more():
    dead = await _dead_letter_of(never, Outbox("dead"))
    assert dead.headers
    assert not without_dead_letter_headers(dead).headers
