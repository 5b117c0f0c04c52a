"""Starting, polling and stopping while the service fails in every way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eip import Consumer, Message
from eip.errors import AccessDenied, ChannelNotFound, ConnectionLost
from eip.health import Health

from .scripted import Scripted, running, until


async def handle(_: Message) -> None:
    return


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def test_starting_against_nobody_reports_what_it_waits_for_and_ends_when_stopped(caplog):
    """Faults 41 and 41e: an address that swallows packets; 169 s of silence."""
    source = Scripted()
    source.open = for_ever
    consumer = Consumer(source, handle, name="billing")
    task = asyncio.create_task(consumer.run())
    await asyncio.sleep(10)
    assert "still_connecting consumer=billing channel=scripted" in caplog.text
    assert consumer.health().ok is False
    assert consumer.health().reason == "connecting"
    async with asyncio.timeout(5):
        await consumer.stop()
        await task


async def test_starting_while_the_service_is_away_is_tried_again_and_health_knows_why(caplog):
    """Faults 41e and 46."""
    source = Scripted(Message(1, id="m"))
    refusals = [ConnectionLost("broker:61613 refused")] * 3

    async def open_() -> None:
        if refusals:
            raise refusals.pop()

    source.open = open_
    consumer = Consumer(source, handle)
    task = asyncio.create_task(consumer.run())
    await until(lambda: consumer.health().failing_since is not None)
    assert consumer.health().reason == "ConnectionLost: broker:61613 refused"
    assert not consumer.ready.is_set()
    await until(lambda: source.acked)
    assert consumer.ready.is_set()
    assert consumer.health().ok
    assert caplog.text.count("connecting_failed") == 1  # a line that repeats
    await consumer.stop()
    await task


@pytest.mark.parametrize("error", [ChannelNotFound("no such queue"), AccessDenied("no")])
async def test_what_is_set_up_wrongly_is_raised_by_run(error):
    source = Scripted()

    async def refuse() -> None:
        raise error

    source.open = refuse
    with pytest.raises(type(error)):
        await Consumer(source, handle).run()


@pytest.mark.parametrize("closing", ["hangs", "raises"])
@pytest.mark.parametrize("how", ["stopped", "cancelled"])
async def test_closing_that_fails_holds_up_no_end_and_hides_no_cancellation(closing, how):
    """Fault 41: clean-up raised, the cancellation was lost, and the services started again for ever."""
    source = Scripted()

    async def fail() -> None:
        if closing == "hangs":
            await for_ever()
        raise ConnectionLost("away")

    source.aclose = fail
    consumer = Consumer(source, handle)
    task = asyncio.create_task(consumer.run())
    await consumer.ready.wait()
    async with asyncio.timeout(15):
        if how == "stopped":
            await consumer.stop()
            await task
        else:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_a_handler_that_ignores_its_cancellation_does_not_hold_up_stop(caplog):
    """Faults 41 and 41d."""
    source = Scripted(Message(1, id="stuck"))
    gate = asyncio.Event()

    async def stuck(_: Message) -> None:
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                continue

    async with asyncio.timeout(30):
        async with running(Consumer(source, stuck, grace=5)) as consumer:
            await until(lambda: consumer.stats.in_flight == 1)
    assert source.nacked == [(["stuck"], 0.0)]
    assert "handler_does_not_end" in caplog.text
    assert "message_id=stuck" in caplog.text
    gate.set()
    await asyncio.sleep(1)
    assert source.acked == []


async def test_a_permanent_error_of_receive_backs_off_and_is_reported_once(caplog):
    """Faults 42 and 46: a queue deleted while running."""
    source = Scripted()
    async with running(Consumer(source, handle, concurrency=100)) as consumer:
        await asyncio.sleep(1)
        source.receive_errors.extend([ChannelNotFound("orders is gone")] * 1000)
        source.put(Message(1, id="wakes"))
        await asyncio.sleep(600)
        assert len(source.asked) < 100
        health = consumer.health()
        assert (health.ok, health.reason) == (False, "ChannelNotFound: orders is gone")
        assert health.failing_since is not None
        assert health.last_poll is not None
    assert caplog.text.count("receive_failed") == 1


async def test_empty_answers_that_come_at_once_are_asked_for_slowly(caplog):
    """Fault 9d: 31,360 calls in 5 s, each billed, and no line."""
    source = Scripted()
    calls = 0

    async def at_once(limit: int, *, wait: float = 20.0):
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.001)
        return source._take(limit)

    source.receive = at_once
    async with running(Consumer(source, handle)):
        await asyncio.sleep(60)
        assert calls < 30
        source.put(Message(1, id="m"))
        await until(lambda: source.acked, within=10)
    assert caplog.text.count("receive_answered_too_soon") == 1


async def test_a_receive_that_hangs_fails_health_and_is_tried_again(caplog):
    """Fault 46: `ok` for as long as the process lived, since the call never returned."""
    source = Scripted()
    receive = source.receive
    hanging: list[float] = []

    async def hang(limit: int, *, wait: float = 20.0) -> Any:
        hanging.append(wait)
        return await (asyncio.get_running_loop().create_future() if len(hanging) < 4 else receive(limit, wait=wait))

    source.receive = hang
    async with running(Consumer(source, handle)) as consumer:
        await asyncio.sleep(34)
        assert consumer.health().ok
        await asyncio.sleep(2)
        health = consumer.health()
        assert (health.ok, health.last_poll, health.reason) == (False, None, "TimeoutError: no answer within 35 s")
        since = health.failing_since
        await asyncio.sleep(60)
        assert consumer.health().failing_since == since
        await until(lambda: consumer.health().ok, within=60)
        assert consumer.health().last_poll is not None
    assert "receive_failed channel=scripted error='TimeoutError: no answer within 35 s'" in caplog.text


async def test_health_knows_of_a_connection_that_no_receive_asks():
    """Fault 46: a receiver that waits for its connection answers each receive, with nothing."""
    source = Scripted()
    connection = Health(ok=True)
    source.health = lambda: connection
    async with running(Consumer(source, handle)) as consumer:
        await asyncio.sleep(50)
        assert consumer.health().ok
        connection = Health(ok=False, failing_since=7.0, reason="broker is away")
        health = consumer.health()
        assert (health.ok, health.failing_since, health.reason) == (False, 7.0, "broker is away")
        assert health.last_poll is not None
