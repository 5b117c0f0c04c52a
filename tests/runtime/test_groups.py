"""Message groups: strictly serial inside, parallel outside, three policies for a head that keeps failing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eip import Backoff, Consumer, Message
from eip.errors import Park, Reject

from .scripted import Outbox, Scripted, lost, running, until

QUICK = Backoff(base=0.1, cap=0.1)


def group(name: str, *numbers: int) -> list[Message[Any]]:
    return [Message(number, id=f"{name}{number}", group_id=name) for number in numbers]


async def test_a_group_is_serial_and_in_order_and_groups_run_in_parallel():
    source = Scripted(*(each for number in range(20) for name in "abc" for each in group(name, number)))
    busy: set[str] = set()
    together = 0
    seen: dict[str, list[int]] = {}

    async def handle(received: Message) -> None:
        nonlocal together
        assert received.group_id is not None
        assert received.group_id not in busy
        busy.add(received.group_id)
        together = max(together, len(busy))
        await asyncio.sleep(1)
        busy.discard(received.group_id)
        seen.setdefault(received.group_id, []).append(received.body)

    async with running(Consumer(source, handle, concurrency=10)):
        await until(lambda: len(source.acked_ids) == 60)
    assert seen == {name: list(range(20)) for name in "abc"}
    assert together == 3


async def test_one_big_group_is_held_in_bounded_number():
    source = Scripted(*group("a", *range(100)))
    gate = asyncio.Event()

    async def handle(_: Message) -> None:
        await gate.wait()

    async with running(Consumer(source, handle, concurrency=5)) as consumer:
        await asyncio.sleep(10)
        assert consumer.stats.in_flight == 1
        assert consumer.stats.received == 1 + 10
        gate.set()


async def test_a_failing_head_is_retried_here_while_the_leases_of_its_tail_are_kept():
    source = Scripted(*group("a", 0, 1, 2), lease=3.0)
    seen = []

    async def handle(received: Message) -> None:
        seen.append(received.id)
        if len(seen) < 4:
            raise ValueError("not yet")

    async with running(Consumer(source, handle, retry=Backoff(base=5, cap=5))):
        await until(lambda: len(source.acked_ids) == 3)
    assert seen == ["a0", "a0", "a0", "a0", "a1", "a2"]
    assert source.nacked == []
    assert any("a2" in call for call in source.extended)


async def test_a_group_that_waits_for_its_retry_takes_no_slot():
    source = Scripted(*group("a", 0), *group("b", 0, 1, 2))

    async def handle(received: Message) -> None:
        if received.group_id == "a":
            raise ValueError("never")

    async with running(Consumer(source, handle, concurrency=1, retry=Backoff(base=100, cap=100))):
        await until(lambda: len(source.acked_ids) == 3, within=1)


async def test_block_gives_the_group_back_tail_first_head_last():
    source = Scripted(*group("a", 0, 1, 2, 3), *group("b", 0))

    async def handle(received: Message) -> None:
        if received.group_id == "a":
            raise ValueError("never")

    consumer = Consumer(source, handle, retry=QUICK, local_retries=2)
    async with running(consumer):
        await until(lambda: len(source.nacked) >= 2)
        assert source.nacked[0] == (["a3", "a2", "a1"], 0.0)
        assert source.nacked[1][0] == ["a0"]
    assert "b0" in source.acked_ids
    assert not {"a0", "a1", "a2", "a3"} & set(source.acked_ids)


async def test_block_dead_letters_the_head_at_the_channels_last_receive_and_goes_on():
    """Giving the group back once more would cost its tail a receive for nothing."""
    source, dead = Scripted(), Outbox("dead")
    source.max_receive_count = 3
    source.put(*group("a", 0, 1), receive_count=3)
    seen = []

    async def handle(received: Message) -> None:
        seen.append(received.id)
        if received.id == "a0":
            raise ValueError("never")

    async with running(Consumer(source, handle, dead_letters=dead, retry=QUICK, local_retries=1)):
        await until(lambda: len(source.acked_ids) == 2)
    assert seen == ["a0", "a1"]
    assert [each.id for each in dead.sent] == ["a0"]
    assert source.nacked == []


async def test_dead_letter_and_continue():
    source, dead = Scripted(*group("a", 0, 1, 2)), Outbox("dead")
    seen = []

    async def handle(received: Message) -> None:
        seen.append(received.id)
        if received.id == "a0":
            raise ValueError("never")

    policy = Consumer(
        source, handle, dead_letters=dead, retry=QUICK, local_retries=1, on_group_failure="dead_letter_and_continue"
    )
    async with running(policy):
        await until(lambda: len(source.acked_ids) == 3)
    assert seen == ["a0", "a0", "a1", "a2"]
    assert [each.id for each in dead.sent] == ["a0"]


async def test_park_group_sends_all_of_it_to_the_dead_letter_channel_until_unparked():
    source, dead = Scripted(*group("a", 0, 1, 2), *group("b", 0)), Outbox("dead")
    seen = []

    async def handle(received: Message) -> None:
        seen.append(received.id)
        if received.id == "a0":
            raise ValueError("never")

    consumer = Consumer(source, handle, dead_letters=dead, retry=QUICK, local_retries=0, on_group_failure="park_group")
    async with running(consumer):
        await until(lambda: len(source.acked_ids) == 4)
        assert consumer.parked == {"a"}
        source.put(*group("a", 3))
        await until(lambda: len(source.acked_ids) == 5)
        consumer.unpark("a")
        source.put(*group("a", 4))
        await until(lambda: len(source.acked_ids) == 6)
    assert sorted(seen) == ["a0", "a4", "b0"]
    assert [each.id for each in dead.sent] == ["a0", "a1", "a2", "a3"]


async def test_a_handler_parks_a_group_whatever_the_policy():
    source, dead = Scripted(*group("a", 0, 1)), Outbox("dead")

    async def handle(_: Message) -> None:
        raise Park("look at this")

    async with running(Consumer(source, handle, dead_letters=dead)):
        await until(lambda: len(source.acked_ids) == 2)
    assert [each.id for each in dead.sent] == ["a0", "a1"]


@pytest.mark.parametrize("policy", ["block", "dead_letter_and_continue", "park_group"])
async def test_a_rejected_head_lets_its_group_go_on(policy):
    source, dead = Scripted(*group("a", 0, 1)), Outbox("dead")
    seen = []

    async def handle(received: Message) -> None:
        seen.append(received.id)
        if received.id == "a0":
            raise Reject("broken")

    async with running(Consumer(source, handle, dead_letters=dead, on_group_failure=policy)):
        await until(lambda: len(source.acked_ids) == 2)
    assert seen == ["a0", "a1"]


async def test_without_dead_letter_channel_every_policy_blocks():
    source = Scripted(*group("a", 0, 1))

    async def handle(received: Message) -> None:
        assert received.id == "a0"
        raise Reject("broken")

    async with running(Consumer(source, handle, on_group_failure="dead_letter_and_continue", retry=QUICK)):
        await until(lambda: len(source.nacked) == 2)
    assert source.acked == []


async def test_behind_a_lost_head_nothing_overtakes():
    """Another consumer may be handling the head: what waited behind it goes back."""
    source = Scripted(*group("a", 0, 1, 2), lease=3.0)
    source.extend_errors.append({"a0": lost()})
    seen = []

    async def handle(received: Message) -> None:
        seen.append(received.id)
        await asyncio.sleep(10)

    async with running(Consumer(source, handle)) as consumer:
        await until(lambda: source.nacked)
        assert seen[0] == "a0"
        assert source.nacked[0] == (["a2", "a1"], 0.0)
        assert consumer.stats.lost == 1


async def test_where_groups_are_for_fairness_only_they_run_in_parallel():
    source = Scripted(*group("a", *range(5)))
    source.ordered = False

    async def handle(_: Message) -> None:
        await asyncio.sleep(1)

    async with running(Consumer(source, handle)) as consumer:
        await until(lambda: consumer.stats.in_flight == 5, within=1)
