"""Leases are kept from receive until settled, lost ones are never acknowledged."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from eip import Backoff, Consumer, Message
from eip.errors import ConnectionLost, LeaseLost
from eip.transports.memory import MemoryTransport

from .scripted import Scripted, lost, running, until


def messages(count: int) -> list[Message[Any]]:
    return [Message(number, id=f"m{number}") for number in range(count)]


async def test_leases_are_extended_in_batches_from_receive_on():
    source = Scripted(*messages(25), lease=6.0)

    async def handle(_: Message) -> None:
        await asyncio.sleep(30)

    async with running(Consumer(source, handle, concurrency=25)):
        await until(lambda: len(source.acked_ids) == 25)
    assert max(map(len, source.extended)) == 10
    assert len({each for call in source.extended for each in call}) == 25
    assert len(source.extended) <= 3 * (30 / 2 + 1)


async def test_leases_whose_extension_costs_no_call_are_extended_together():
    source = Scripted(*messages(200), lease=6.0, settle_batch=1)

    async def handle(_: Message) -> None:
        await asyncio.sleep(10)

    async with running(Consumer(source, handle, concurrency=200)):
        await until(lambda: len(source.acked_ids) == 200)
    assert len(source.extended) <= 10 / 2
    assert max(map(len, source.extended)) == 200


async def test_a_message_handled_in_time_costs_no_extension():
    source = Scripted(*messages(100), lease=6.0)

    async def handle(_: Message) -> None:
        await asyncio.sleep(0.5)

    async with running(Consumer(source, handle)):
        await until(lambda: len(source.acked_ids) == 100)
    assert source.extended == []


async def test_messages_whose_leases_end_while_they_wait_for_their_retry_make_room_for_others():
    """As after a network that was away: no worker is left to say so, and the consumer asked for nothing more."""
    source = Scripted(*(each.replace(group_id=each.id) for each in messages(20)), lease=30.0)
    seen = []

    async def handle(message: Message) -> None:
        seen.append(message.id)
        if len(seen) <= 10:
            raise ValueError("not yet")

    consumer = Consumer(
        source, handle, concurrency=2, retry=Backoff(base=5000, cap=5000), local_retries=9, max_processing=9000
    )
    async with running(consumer):
        await until(lambda: len(seen) == 10)
        source.extend_errors.extend({f"m{number}": lost() for number in range(20)} for _ in range(9))
        await until(lambda: len(source.acked_ids) == 10, within=90)


async def test_two_failed_extensions_do_not_lose_a_lease():
    source = Scripted(*messages(1), lease=6.0)
    source.extend_errors.extend([ConnectionLost("gone"), {"m0": ConnectionLost("gone")}])

    async def handle(_: Message) -> None:
        await asyncio.sleep(60)

    async with running(Consumer(source, handle)) as consumer:
        await until(lambda: source.acked)
        assert consumer.stats.lost == 0


async def test_when_every_extension_fails_the_handler_is_cancelled_as_the_lease_ends():
    source = Scripted(*messages(1), lease=6.0)
    source.extend_errors.extend([ConnectionLost("gone")] * 20)
    cancelled_at = []

    async def handle(_: Message) -> None:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            cancelled_at.append(asyncio.get_running_loop().time() - start)
            raise

    start = asyncio.get_running_loop().time()
    async with running(Consumer(source, handle)) as consumer:
        await until(lambda: consumer.stats.lost == 1)
        await asyncio.sleep(1)
    assert source.acked == []
    assert 6 <= cancelled_at[0] < 9


async def test_a_lost_lease_cancels_the_handler_and_is_not_acknowledged():
    source = Scripted(*messages(2), lease=6.0)
    source.extend_errors.append({"m0": lost()})
    cancelled = []

    async def handle(received: Message) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(received.id)
            raise

    async with running(Consumer(source, handle)) as consumer:
        await until(lambda: source.acked)
        assert cancelled == ["m0"]
        assert source.acked_ids == ["m1"]
        assert (consumer.stats.lost, consumer.stats.handled) == (1, 1)


async def test_a_handler_that_finishes_although_its_lease_is_lost_is_not_acknowledged():
    source = Scripted(*messages(1), lease=6.0)
    source.extend_errors.append({"m0": lost()})

    async def handle(_: Message) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return

    async with running(Consumer(source, handle)) as consumer:
        await until(lambda: consumer.stats.lost == 1)
        source.put(Message(1, id="next"))
        await until(lambda: source.acked_ids == ["next"])


async def test_deliveries_that_the_driver_takes_away_are_lost_at_once():
    source = Scripted(*messages(2))

    async def handle(_: Message) -> None:
        await asyncio.sleep(60)

    async with running(Consumer(source, handle, concurrency=2)) as consumer:
        await until(lambda: consumer.stats.in_flight == 2)
        assert consumer._session is not None
        assert source.on_lost is not None
        source.on_lost(list(consumer._session.leases.held)[:1])
        await until(lambda: source.acked)
        assert source.acked_ids == ["m1"]
        assert consumer.stats.lost == 1


@pytest.mark.parametrize("lease", [6.0, None])
async def test_max_processing_cancels_the_handler_and_the_message_comes_again(lease):
    source = Scripted(*messages(1), lease=lease)
    times = []

    async def handle(_: Message) -> None:
        times.append(asyncio.get_running_loop().time())
        await asyncio.sleep(600 if len(times) == 1 else 0)

    async with running(Consumer(source, handle, max_processing=20, retry=Backoff(base=0))) as consumer:
        await until(lambda: source.acked)
        assert consumer.stats.retried == 1
    assert 20 <= times[1] - times[0] < 23


async def test_a_handler_that_ignores_its_cancellation_loses_its_lease():
    source = Scripted(*messages(1), lease=6.0)
    gate = asyncio.Event()

    async def handle(_: Message) -> None:
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                continue

    async with running(Consumer(source, handle, max_processing=20)) as consumer:
        await until(lambda: consumer.stats.lost == 1)
        gate.set()
        await asyncio.sleep(1)
        assert source.acked == []


async def test_a_heartbeat_does_not_touch_what_is_being_settled():
    source = Scripted(*messages(1), lease=6.0)

    async def slow_ack(deliveries):
        await asyncio.sleep(30)
        source.acked.append([each.message.id for each in deliveries])
        return ()

    source._ack = slow_ack

    async def handle(_: Message) -> None:
        return

    async with running(Consumer(source, handle)) as consumer:
        await until(lambda: source.acked)
        assert source.extended == []
        assert consumer.stats.lost == 0


async def test_an_ack_after_the_known_end_of_the_lease_is_not_sent():
    """Deleting with an old receipt succeeds without deleting on SQS."""
    source = Scripted(*messages(1), lease=6.0)
    async with source as receiver:
        (delivery,) = await receiver.receive(1)
        await asyncio.sleep(7)
        with pytest.raises(LeaseLost):
            await delivery.ack()
    assert source.acked == []


async def test_a_handler_of_three_leases_beside_another_consumer_handles_once():
    """Others' consumers had it twice, or kept no lease of a message that carried a trace."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    handled = []

    async def handle(message: Message) -> None:
        await asyncio.sleep(6)
        handled.append(message.id)

    async with MemoryTransport(visibility=2.0) as memory:
        queue = memory.queue("orders")
        await queue.send(*(Message(number, id=f"m{number}", traceparent=trace) for number in range(4)))
        async with running(Consumer(queue, handle)) as one, running(Consumer(queue, handle)) as other:
            await until(lambda: len(handled) == 4)
            await asyncio.sleep(10)
        assert sorted(handled) == ["m0", "m1", "m2", "m3"]
        assert (len(queue), one.stats.lost + other.stats.lost) == (0, 0)


async def test_consumers_that_start_together_do_not_beat_together():
    """The heartbeats of one deployment are spread, so that its calls do not come all at once."""
    first: list[float] = []

    async def handle(_: Message) -> None:
        await asyncio.sleep(100)

    async with AsyncExitStack() as stack:
        sources = [Scripted(*messages(1), lease=60.0) for _ in range(10)]
        for each in sources:
            await stack.enter_async_context(running(Consumer(each, handle)))
        while len(first) < len(sources):
            await asyncio.sleep(0.1)
            first += [asyncio.get_running_loop().time()] * (sum(bool(each.extended) for each in sources) - len(first))
            assert asyncio.get_running_loop().time() < 60
    assert len(set(first)) > 5
