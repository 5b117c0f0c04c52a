"""Wire tap: a copy of every message, and no harm done by a tap that fails."""

from __future__ import annotations

import asyncio

import pytest

from eip import Consumer, Message
from eip.errors import ConnectionLost
from eip.patterns.diagram import diagram
from eip.patterns.wire_tap import wire_tap
from eip.transports.memory import MemoryTransport
from tests.runtime.scripted import Outbox, running, until

MESSAGE = Message({"card": "4111"}, id="m", return_address="memory:queue/replies", attributes={"k": 1})


class Slow(Outbox):
    """Takes an hour for each."""

    async def send(self, *messages: Message) -> None:
        await asyncio.sleep(3600)
        await super().send(*messages)


async def answer(message: Message) -> Message:
    return message.reply("done")


async def test_a_copy_is_sent_and_the_message_handled_as_it_is():
    tap, seen = Outbox("tap"), []

    @wire_tap(tap)
    async def handle(message: Message) -> None:
        seen.append(message)

    await handle(MESSAGE)
    assert seen == [MESSAGE]
    assert tap.sent == [MESSAGE.replace(return_address=None)]


async def test_what_is_copied_can_be_changed_and_left_out():
    tap = Outbox()
    handle = wire_tap(tap, copy=lambda message: message.with_body("***") if message.attributes else None)(answer)
    await handle(MESSAGE)
    await handle(Message("other"))
    assert [each.body for each in tap.sent] == ["***"]


@pytest.mark.parametrize("error", [ConnectionLost("gone"), ValueError("bug")])
async def test_a_tap_that_fails_never_stops_the_message(error):
    tap = Outbox()
    tap.refuse.append(error)
    assert await wire_tap(tap)(answer)(MESSAGE) is not None
    assert tap.sent == []


async def test_a_copy_that_cannot_be_made_does_not_either():
    assert await wire_tap(Outbox(), copy=lambda message: message.body["none"])(answer)(MESSAGE) is not None


async def test_a_slow_tap_holds_the_message_up_for_its_timeout_only():
    start = asyncio.get_running_loop().time()
    assert await wire_tap(Slow(), timeout=2)(answer)(MESSAGE) is not None
    assert asyncio.get_running_loop().time() - start == pytest.approx(2)


@pytest.mark.parametrize("tap", [Slow(), None])
async def test_no_message_is_handled_without_its_copy_where_that_is_required(tap):
    if tap is None:
        tap = Outbox()
        tap.refuse.append(ConnectionLost("gone"))
    handled = []

    async def handle(message: Message) -> None:
        handled.append(message)

    with pytest.raises((ConnectionLost, TimeoutError)):
        await wire_tap(tap, required=True)(handle)(MESSAGE)
    assert handled == []


async def test_cancelling_the_handler_is_no_failure_of_the_tap():
    task = asyncio.ensure_future(wire_tap(Slow())(answer)(MESSAGE))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_required_copy_is_made_by_the_retry():
    tap, out = Outbox(), Outbox()
    tap.refuse.append(ConnectionLost("gone"))
    async with MemoryTransport() as transport:
        queue = transport.queue("in")
        await queue.send(MESSAGE)
        async with running(Consumer(queue, wire_tap(tap, required=True)(answer), output=out)) as consumer:
            await until(lambda: len(queue) == 0)
        assert consumer.stats.retried == 1
    assert (len(tap.sent), len(out.sent)) == (1, 1)


def test_a_tap_tells_its_channel():
    assert str(diagram(wire_tap(Outbox("audit"))(answer))) == "wire_tap\n  -> audit (copy)\n  answer"
