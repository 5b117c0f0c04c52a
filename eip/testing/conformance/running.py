"""Cases of the runtime on a transport: consuming, failing, draining, being cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from eip.errors import Reject
from eip.message import Message
from eip.retry import Backoff
from eip.runtime.consumer import Consumer
from eip.testing.conformance.harness import Cases, Harness, bodies

__all__ = ["RunCases"]


@asynccontextmanager
async def _running(consumer: Consumer) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(consumer.run())
        await consumer.started.wait()
        yield
        await consumer.stop()


class RunCases(Cases):
    """A consumer on the transport keeps the promises of `eip.Consumer`."""

    async def test_everything_is_handled(self, harness: Harness) -> None:
        """Concurrent handlers get each message, and leave nothing behind."""
        self.needs("queue")
        queue, seen, done = await harness.queue(), set[int](), asyncio.Event()

        async def handle(message: Message) -> None:
            seen.add(message.body)
            if len(seen) == 40:
                done.set()

        async with _running(Consumer(queue, handle, concurrency=5)):
            await queue.send(*(Message(number) for number in range(40)))
            async with asyncio.timeout(harness.timeout):
                await done.wait()
        assert seen == set(range(40))
        async with queue.receiver() as receiver:
            await harness.assert_quiet(receiver)

    async def test_a_failure_comes_again_and_a_rejection_goes_aside(self, harness: Harness) -> None:
        """One bad message stops nobody."""
        self.needs("queue")
        queue, dead, seen = await harness.queue(), await harness.queue(), list[str]()
        done = asyncio.Event()

        async def handle(message: Message) -> None:
            seen.append(message.body)
            if message.body == "bad":
                raise Reject("broken")
            if message.body == "flaky" and seen.count("flaky") == 1:
                raise ConnectionError("not now")
            if {"good", "bad"} <= set(seen) and seen.count("flaky") == 2:
                done.set()

        async with _running(Consumer(queue, handle, dead_letters=dead, retry=Backoff(base=0.1, cap=0.1))):
            await queue.send(Message("bad"), Message("flaky"), Message("good"))
            async with asyncio.timeout(harness.timeout):
                await done.wait()
        async with dead.receiver() as morgue:
            assert bodies(await harness.take_and_ack(morgue)) == ["bad"]

    async def test_groups_are_serial(self, harness: Harness) -> None:
        """However many handlers there are, a group has one at a time, in order."""
        self.needs("queue", "groups")
        queue, seen, busy = await harness.queue(fifo=True), dict[str, list[int]](), set[str]()
        done = asyncio.Event()

        async def handle(message: Message) -> None:
            group = message.group_id or ""
            assert group not in busy
            busy.add(group)
            await asyncio.sleep(0.01)
            busy.discard(group)
            seen.setdefault(group, []).append(message.body)
            if sum(map(len, seen.values())) == 30:
                done.set()

        async with _running(Consumer(queue, handle, concurrency=8)):
            await queue.send(*(Message(number, group_id=group) for number in range(10) for group in "abc"))
            async with asyncio.timeout(harness.timeout):
                await done.wait()
        assert seen == {group: list(range(10)) for group in "abc"}

    async def test_a_drain_releases_what_never_started(self, harness: Harness) -> None:
        """Stopped in the middle, what was handled is gone and the rest is there for the next, at once."""
        self.needs("queue")
        queue, handled, started = await harness.queue(), list[int](), asyncio.Event()

        async def handle(message: Message) -> None:
            started.set()
            await asyncio.sleep(0.2)
            handled.append(message.body)

        async with _running(Consumer(queue, handle, concurrency=2)):
            await queue.send(*(Message(number) for number in range(10)))
            async with asyncio.timeout(harness.timeout):
                await started.wait()
        async with queue.receiver() as receiver:
            rest = bodies(await harness.take_and_ack(receiver, 10 - len(handled)))
        assert sorted(handled + rest) == list(range(10))

    async def test_a_cancelled_receive_loses_nothing(self, harness: Harness) -> None:
        """A poll that is cancelled at any moment releases what it got."""
        self.needs("queue")
        queue = await harness.queue()
        async with queue.receiver() as receiver:
            for pause in (0.0, 0.001, 0.01, 0.05):
                poll = asyncio.create_task(receiver.receive(1, wait=5))
                await asyncio.sleep(pause)
                await queue.send(Message(pause))
                poll.cancel()
                (outcome,) = await asyncio.gather(poll, return_exceptions=True)
                if not isinstance(outcome, BaseException):
                    assert not await receiver.nack(list(outcome))
            got = await harness.take_and_ack(receiver, 4)
        assert sorted(bodies(got)) == [0.0, 0.001, 0.01, 0.05]

    async def test_a_cancelled_consumer_releases_what_it_held(self, harness: Harness) -> None:
        """Cancelling `run` loses nothing."""
        self.needs("queue")
        queue, started = await harness.queue(), asyncio.Event()

        async def handle(_: Message) -> None:
            started.set()
            await asyncio.sleep(3600)

        task = asyncio.create_task(Consumer(queue, handle).run())
        await queue.send(Message("held"))
        async with asyncio.timeout(harness.timeout):
            await started.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with queue.receiver() as receiver:
            assert bodies(await harness.take_and_ack(receiver)) == ["held"]
