"""Handlers that block: the loop, or only a thread. In real time, as a loop that stands still has no other."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from eip import Consumer, Message, current_delivery
from eip.channels import Unsettled
from eip.errors import TransportError
from eip.patterns.wire_tap import wire_tap
from eip.transports.memory import MemoryTransport
from tests.support.timing import undisturbed

from .scripted import Outbox, Scripted, running, until


async def blocks_for_3_s(message: Message) -> None:
    time.sleep(3)


async def test_a_lease_does_not_run_out_because_a_handler_blocks_the_loop(caplog):
    """Fault 26: with a lease of 2 s nothing was ever acknowledged, and everything was handled again and again."""

    async def once() -> tuple[list[str], int, int]:
        seen: list[str] = []

        async def handle(message: Message) -> None:
            seen.append(message.id)
            await blocks_for_3_s(message)

        async with MemoryTransport() as memory:
            queue = memory.queue("orders", visibility=2.0)
            await queue.send(Message(1, id="slow"))
            async with running(Consumer(queue, handle)) as consumer:
                await until(lambda: len(queue) == 0, within=30)
        return seen, consumer.stats.handled, consumer.stats.lost

    assert await undisturbed(once, reserve=0.4) == (["slow"], 1, 0)
    lines = [each.getMessage() for each in caplog.records if each.getMessage().startswith("loop_blocked")]
    (line,) = [each for each in lines if "message_id=slow" in each]  # a busy machine may hold up the loop as well
    assert "handle" in line
    assert "blocks_for_3_s" in line  # the stack
    assert "loop_unblocked" in caplog.text


class Remote(Scripted):
    """A channel whose leases are extended by a blocking call."""

    def __init__(self, *messages: Message[Any], **options: Any) -> None:
        super().__init__(*messages, **options)
        self.threads: list[str] = []

    def extend_blocking(self, deliveries, seconds):
        self.threads.append(threading.current_thread().name)
        return [Unsettled(each, TransportError("no")) for each in deliveries if each.message.id == "refused"]


async def test_while_the_loop_is_blocked_only_what_is_due_is_extended_from_another_thread():

    async def handle(message: Message) -> None:
        if message.id == "a":
            time.sleep(2)

    async def once() -> tuple[int, list[str]]:
        source = Remote(Message(1, id="a"), Message(2, id="b"), lease=1.0)
        async with running(Consumer(source, handle)) as consumer:
            await until(lambda: len(source.acked_ids) + consumer.stats.lost >= 2, within=30)
        return consumer.stats.lost, source.threads

    lost, threads = await undisturbed(once, reserve=0.2)
    assert lost == 0
    assert set(threads) == {"eip watchdog"}
    assert 2 <= len(threads) <= 10


async def test_a_lease_that_cannot_be_extended_is_lost_as_ever():
    source = Remote(Message(1, id="refused"), lease=0.5)

    async def handle(_: Message) -> None:
        time.sleep(1)

    async with running(Consumer(source, handle)) as consumer:
        await until(lambda: consumer.stats.lost == 1, within=30)
    assert source.acked == []


async def test_no_warning_where_handlers_behave(caplog):
    source = Remote(*(Message(each, id=str(each)) for each in range(100)), lease=30.0)

    async def handle(_: Message) -> None:
        await asyncio.sleep(0.01)

    async with running(Consumer(source, handle)):
        await until(lambda: len(source.acked_ids) == 100, within=30)
    assert "loop_blocked" not in caplog.text
    assert source.threads == []


async def test_the_thread_ends_with_the_last_consumer():
    async with running(Consumer(Scripted(), blocks_for_3_s)):
        assert "eip watchdog" in {each.name for each in threading.enumerate()}
    await until(lambda: "eip watchdog" not in {each.name for each in threading.enumerate()}, within=10)


async def test_a_plain_function_runs_in_a_thread_and_blocks_nobody():
    """Fault 25: it ran its side effects, then failed, again at each attempt."""
    source, out = Scripted(*(Message(each, id=f"m{each}") for each in range(6))), Outbox()
    busy = most = 0
    lock = threading.Lock()
    ids: set[str] = set()

    def handle(message: Message) -> Message:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
            ids.add(current_delivery().message.id)
        assert threading.current_thread() is not threading.main_thread()
        time.sleep(0.1)
        with lock:
            busy -= 1
        return message.derive("done")

    async with running(Consumer(source, wire_tap(Outbox())(handle), output=out, concurrency=3)):
        await until(lambda: len(source.acked_ids) == 6, within=30)
    assert len(out.sent) == 6
    assert ids == {f"m{each}" for each in range(6)}
    assert 1 < most <= 3


async def test_a_thread_that_outlasts_max_processing_keeps_its_slot_and_its_result_is_dropped():
    source, out = Scripted(Message(1, id="slow"), lease=None), Outbox()
    release = threading.Event()
    running_now = 0
    most = 0

    def handle(message: Message) -> Message:
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        release.wait(20)
        running_now -= 1
        return message.derive("done")

    async with running(Consumer(source, handle, output=out, concurrency=1, max_processing=0.1)) as consumer:
        await until(lambda: running_now, within=30)
        await asyncio.sleep(0.5)
        assert consumer.stats.in_flight == 1
        release.set()
        await until(lambda: source.nacked, within=30)
        await until(lambda: source.acked, within=30)  # the second time it is fast
    assert most == 1
    assert len(out.sent) == 1
