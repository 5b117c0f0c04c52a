"""A queue of plain texts, drained in batches: in virtual time with exact figures, and on a broker."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from eip import Message
from eip.codec import TextCodec
from eip.transports.activemq import ActiveMQTransport
from eip.transports.memory import MemoryTransport
from examples.mq_drain.__main__ import simulated
from examples.mq_drain.console import put_texts
from examples.mq_drain.draining import drain
from tests.transports.activemq.artemis import Artemis


@pytest.mark.parametrize(("at_once", "seconds"), [(1, 200), (2, 100)])
def test_two_batches_at_once_take_half_of_the_time(at_once, seconds):
    found = simulated(10_000, 100, at_once)
    assert (found.messages, found.calls, found.most) == (10_000, 100, at_once)
    assert found.seconds == pytest.approx(seconds, abs=2)


async def test_a_batch_that_fails_comes_again_and_nothing_is_lost():
    async with MemoryTransport() as memory:
        queue, seen, failures = memory.queue("q", visibility=0.2), set(), 2
        await queue.send(*(Message(f"text {number}") for number in range(30)))

        async def work(texts: list[str]) -> None:
            nonlocal failures
            assert len(texts) <= 10
            if failures:
                failures -= 1
                raise ConnectionError("not now")
            seen.update(texts)

        await drain(queue, 30, work, batch=10)
    assert seen == {f"text {number}" for number in range(30)}


async def drained(url: str, count: int) -> tuple[list[str], list[int]]:
    texts: list[str] = []
    sizes: list[int] = []

    async def work(batch: list[str]) -> None:
        await asyncio.sleep(0)
        texts.extend(batch)
        sizes.append(len(batch))

    await put_texts(url, "texts", count)
    async with ActiveMQTransport(url) as mq:
        await drain(mq.queue("texts", codec=TextCodec()), count, work, batch=100)
    return texts, sizes


@pytest.mark.activemq
async def test_texts_of_the_console_come_in_batches_of_a_hundred(activemq_broker):
    texts, sizes = await drained(activemq_broker.url, 2_000)
    assert sorted(texts) == sorted(f"Enter some text here, {number}" for number in range(2_000))
    assert max(sizes) == 100
    assert len(sizes) <= 25


async def test_artemis_hands_them_out_as_well():
    async with Artemis() as broker:
        texts, _ = await drained(broker.url, 300)
    assert len(set(texts)) == 300


def test_a_broker_that_is_not_there_is_one_line():
    command = [sys.executable, "-m", "examples.mq_drain", "--broker", "stomp://127.0.0.1:1", "--messages", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Cannot run:")
    assert done.stderr.count("\n") == 1
