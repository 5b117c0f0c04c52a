"""The way out: nothing is lost, nothing stays in flight."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eip import Consumer, Message

from .scripted import Outbox, Scripted, running, until


def messages(count: int, **envelope: Any) -> list[Message[Any]]:
    return [Message(number, id=f"m{number}", **envelope) for number in range(count)]


async def test_running_handlers_finish_and_their_acks_are_flushed():
    source, started = Scripted(*messages(5)), []

    async def handle(message: Message) -> None:
        started.append(message.id)
        await asyncio.sleep(10)

    async with running(Consumer(source, handle)):
        await until(lambda: len(started) == 5)
    assert sorted(source.acked_ids) == [f"m{number}" for number in range(5)]
    assert source.nacked == []
    assert source.closed


async def test_what_never_started_is_released_the_newest_first():
    source = Scripted(*messages(5, group_id="a"))

    async def handle(_: Message) -> None:
        await asyncio.sleep(10)

    async with running(Consumer(source, handle)) as consumer:
        await until(lambda: consumer.stats.received == 5)
    assert source.acked_ids == ["m0"]
    assert source.nacked == [(["m4", "m3", "m2", "m1"], 0.0)]
    assert consumer.stats.released == 4


async def test_a_head_waiting_for_its_retry_is_released_after_its_tail():
    source = Scripted(*messages(3, group_id="a"))

    async def handle(_: Message) -> None:
        raise ValueError("not yet")

    async with running(Consumer(source, handle)) as consumer:
        await until(lambda: consumer.stats.retried >= 1)
    assert source.nacked == [(["m2", "m1", "m0"], 0.0)]


async def test_handlers_that_outlast_the_grace_are_cancelled_and_their_messages_released():
    source = Scripted(*messages(2))
    cancelled = []

    async def handle(received: Message) -> None:
        try:
            await asyncio.sleep(1 if received.id == "m0" else 1000)
        except asyncio.CancelledError:
            cancelled.append(received.id)
            raise

    async with running(Consumer(source, handle, grace=5, max_processing=2000)) as consumer:
        await until(lambda: consumer.stats.in_flight == 2)
    assert cancelled == ["m1"]
    assert source.acked_ids == ["m0"]
    assert source.nacked == [(["m1"], 0.0)]


@pytest.mark.parametrize("ends", ["raises", "returns"])
async def test_a_handler_that_ends_at_the_second_cancellation_has_its_message_released(ends):
    """As one that cleans up for long: its message would be away until its lease ends."""
    source = Scripted(*messages(2, group_id="a"))

    async def handle(_: Message) -> None:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                if ends == "raises":
                    raise

    async with running(Consumer(source, handle, grace=5, max_processing=2000)) as consumer:
        await until(lambda: consumer.stats.in_flight == 1)
    assert source.acked_ids == []
    assert [ids for ids, _ in source.nacked] == [["m1"], ["m0"]]


@pytest.mark.parametrize("policy", ["block", "dead_letter_and_continue", "park_group"])
async def test_a_head_that_fails_during_the_drain_has_its_other_attempts_elsewhere(policy):
    source, dead = Scripted(*messages(2, group_id="a")), Outbox()

    async def handle(_: Message) -> None:
        await asyncio.sleep(1)
        raise ValueError("never")

    async with running(Consumer(source, handle, on_group_failure=policy, dead_letters=dead)) as consumer:
        await until(lambda: consumer.stats.in_flight == 1)
    assert [ids for ids, _ in source.nacked] == [["m1"], ["m0"]]
    assert dead.sent == []


async def test_cancelling_run_releases_what_is_held():
    source = Scripted(*messages(3))

    async def handle(_: Message) -> None:
        await asyncio.sleep(1000)

    consumer = Consumer(source, handle, concurrency=2)
    task = asyncio.create_task(consumer.run())
    await until(lambda: consumer.stats.in_flight == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(each for ids, _ in source.nacked for each in ids) == ["m0", "m1"]
    assert source.closed


async def test_stop_ends_a_long_poll_and_is_idempotent():
    source = Scripted()

    async def handle(_: Message) -> None:
        return

    consumer = Consumer(source, handle)
    task = asyncio.create_task(consumer.run())
    await until(lambda: source.polling == 1)
    async with asyncio.timeout(0.1):
        await asyncio.gather(consumer.stop(), consumer.stop())
        await task
    assert source.polling == 0


async def test_a_settlement_that_hangs_does_not_hang_the_stop():
    source = Scripted(*messages(1))

    async def hang(deliveries):
        await asyncio.sleep(10_000)

    source._ack = hang

    async def handle(_: Message) -> None:
        return

    async with running(Consumer(source, handle, grace=3)) as consumer:
        await until(lambda: consumer.stats.handled == 1)
        start = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - start < 20


async def test_connecting_that_fails_is_raised_by_run():
    source = Scripted()

    async def refuse() -> None:
        raise ConnectionError("nobody there")

    source.open = refuse

    async def handle(_: Message) -> None:
        return

    with pytest.raises(ConnectionError):
        await Consumer(source, handle).run()


async def test_a_second_cancellation_cuts_the_drain_off_and_leaves_no_task_behind():
    source = Scripted(*messages(2))

    async def handle(_: Message) -> None:
        await asyncio.sleep(10)

    before = asyncio.all_tasks()
    consumer = Consumer(source, handle, concurrency=2)
    task = asyncio.create_task(consumer.run())
    await until(lambda: consumer.stats.in_flight == 2)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(1)
    assert asyncio.all_tasks() == before
