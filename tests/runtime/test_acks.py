"""Acks are gathered, looked at, and tried again."""

from __future__ import annotations

import asyncio
from typing import Any

from eip import Consumer, Message
from eip.errors import AccessDenied, ConnectionLost, Throttled

from .scripted import Scripted, lost, running, until


def messages(count: int) -> list[Message[Any]]:
    return [Message(number, id=f"m{number}") for number in range(count)]


async def handle(_: Message) -> None:
    return


async def test_acks_go_in_calls_of_ten():
    source = Scripted(*messages(100))
    async with running(Consumer(source, handle, concurrency=20)):
        await until(lambda: len(source.acked_ids) == 100)
    assert max(map(len, source.acked)) == 10
    assert len(source.acked) <= 20


async def test_a_lone_ack_waits_no_longer_than_50_ms():
    source = Scripted(*messages(1))
    async with running(Consumer(source, handle)):
        await until(lambda: source.acked, within=0.06)


async def test_a_channel_where_settling_costs_nothing_is_settled_at_once():
    source = Scripted(*messages(3), settle_batch=1)
    async with running(Consumer(source, handle)):
        await until(lambda: len(source.acked) == 3, within=0.02)
    assert all(len(call) == 1 for call in source.acked)


async def test_failed_entries_are_tried_again_and_the_others_are_not():
    source = Scripted(*messages(3))
    source.ack_errors.append({"m1": ConnectionLost("internal error")})
    async with running(Consumer(source, handle)) as consumer:
        await until(lambda: len(source.acked) == 2)
    assert source.acked[1] == ["m1"]
    assert consumer.stats.lost == 0


async def test_a_call_that_fails_altogether_is_tried_again():
    for settle_batch in (1, 10):
        source = Scripted(*messages(1), settle_batch=settle_batch)
        source.ack_errors.extend([ConnectionLost("no answer"), ConnectionLost("no answer")])
        async with running(Consumer(source, handle)) as consumer:
            await until(lambda: len(source.acked) == 3)  # noqa: B023 - awaited inside the loop
        assert consumer.stats.lost == 0


async def test_what_can_never_be_acknowledged_is_counted_and_given_up():
    source = Scripted(*messages(2))
    source.ack_errors.append({"m0": lost(), "m1": AccessDenied("no")})
    async with running(Consumer(source, handle)) as consumer:
        await until(lambda: consumer.stats.lost == 2)
        await asyncio.sleep(60)
    assert len(source.acked) == 1


async def test_handlers_wait_when_too_many_acks_are_pending():
    source = Scripted(*messages(1000))
    gate = asyncio.Event()

    async def stuck(deliveries):
        await gate.wait()
        source.acked.append([each.message.id for each in deliveries])
        return ()

    source._ack = stuck
    async with running(Consumer(source, handle, concurrency=5)) as consumer:
        await asyncio.sleep(5)
        assert consumer.stats.handled <= 120
        gate.set()
        await until(lambda: len(source.acked_ids) == 1000)


async def test_acks_are_tried_for_as_long_as_the_lease_can_be_kept(caplog):
    """Fault 41c: after three seconds of a throttled or refusing service, 20 of 20 messages ran twice."""
    for settle_batch in (1, 10):
        source = Scripted(*messages(20), settle_batch=settle_batch, lease=6.0)
        since = asyncio.get_running_loop().time()

        async def refuse_for_a_minute(deliveries, source=source, since=since):
            if asyncio.get_running_loop().time() - since < 60:
                raise Throttled("slow down") if len(source.acked) % 2 else OSError("a driver's own")
            source.acked.append([each.message.id for each in deliveries])
            return ()

        source._ack = refuse_for_a_minute
        async with running(Consumer(source, handle)) as consumer:
            await until(lambda: len(source.acked_ids) == 20)  # noqa: B023 - awaited inside the loop
        assert (consumer.stats.lost, consumer.stats.received) == (0, 20)
    assert caplog.text.count("ack_retried") <= 4


async def test_what_is_not_acknowledged_within_max_processing_is_given_back():
    source = Scripted(*messages(1), lease=6.0)

    async def refuse(_):
        raise ConnectionLost("away")

    source._ack = refuse
    async with running(Consumer(source, handle, max_processing=60)) as consumer:
        await until(lambda: source.nacked)
        assert consumer.stats.in_flight <= 1
