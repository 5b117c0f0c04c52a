"""ServiceClient that fail in every way, and consumers that are killed: nothing is lost, groups keep their order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections import Counter
from pathlib import Path
from uuid import uuid4

import pytest

from eip import Consumer, Message
from eip.errors import EipError
from eip.topology import QueueSpec, Topology
from eip.transports.aws import AwsTransport
from tests.support.fault_proxy import Faults

pytestmark = pytest.mark.aws


@pytest.fixture
async def direct(moto_server):
    async with AwsTransport(
        region=moto_server.region, session=moto_server.session, endpoint_url=moto_server.url, long_poll=1.0
    ) as transport:
        yield transport


async def made(direct, *, fifo=False, **options):
    name = f"f{uuid4().hex[:12]}{'.fifo' if fifo else ''}"
    await Topology(QueueSpec(name, max_receive_count=1000, **options)).apply(direct)
    return name


async def produce(queue, group, count):
    """Send one after the other, each until the service has accepted it."""
    for number in range(count):
        message = Message((group, number), group_id=str(group), id=f"{group}-{number}")
        while True:
            try:
                await queue.send(message)
            except EipError:
                continue
            break


async def scenario(direct, moto_server, proxy, *, fifo, groups, count, faults):
    """Messages handled, in order, while the faults last; then what is still to come without them."""
    name = await made(direct, fifo=fifo, visibility=2)
    handled: list[tuple[int, int]] = []
    wanted = {(group, number) for group in range(groups) for number in range(count)}
    complete = asyncio.Event()

    async def handle(message: Message) -> None:
        handled.append(tuple(message.body))
        if len(handled) % 7 == 0:
            raise ValueError("the handler fails too, now and then")
        if set(handled) == wanted:
            complete.set()

    options = {
        "region": moto_server.region,
        "session": moto_server.session,
        "endpoint_url": proxy.url,
        "account": direct.account,
        "long_poll": 1.0,
    }
    async with AwsTransport(**options) as aws:
        consumers = [Consumer(aws.queue(name), handle, concurrency=5) for _ in range(2)]
        async with asyncio.timeout(110), asyncio.TaskGroup() as tasks:
            proxy.faults = faults
            running = [tasks.create_task(each.run()) for each in consumers]
            await asyncio.gather(*(produce(aws.queue(name), group, count) for group in range(groups)))
            await complete.wait()
            proxy.calm()
            while sum((await direct.queue(name).depth()).values()):
                await asyncio.sleep(0.1)
            for each in consumers:
                await each.stop()
        assert all(each.done() for each in running)
    return handled


SOAK = pytest.mark.soak


@pytest.mark.parametrize(
    ("fifo", "seed"),
    [
        pytest.param(
            fifo, seed, marks=[] if (fifo, seed) == (True, 0) else SOAK, id=f"{'fifo' if fifo else 'standard'}-{seed}"
        )
        for fifo in (True, False)
        for seed in range(10)
    ],
)
async def test_nothing_is_lost_order_per_group_is_kept_and_duplicates_are_bounded(
    direct, moto_server, fault_proxy, fifo, seed
):
    kinds = dict.fromkeys(("dropped_before", "dropped_after", "errors", "throttled", "slow", "truncated"), 0.05)
    faults = Faults(seed=seed, slow_by=0.3, **kinds)  # type: ignore[arg-type]
    proxy = await fault_proxy()
    handled = await scenario(direct, moto_server, proxy, fifo=fifo, groups=4, count=15, faults=faults)
    times = Counter(handled)
    assert len(times) == 60
    assert sum(proxy.done.values()) >= 8
    assert len(handled) <= 60 * 3
    if fifo:
        for group in range(4):
            first = list(dict.fromkeys(each for each in handled if each[0] == group))
            assert first == [(group, number) for number in range(15)]


async def test_a_service_that_was_away_is_found_again(direct, moto_server, fault_proxy):
    """Consumers poll on after an outage, with backoff, and senders are told of it."""
    proxy = await fault_proxy()
    name = await made(direct)
    handled = asyncio.Event()

    async def handle(_: Message) -> None:
        handled.set()

    async with AwsTransport(
        region=moto_server.region,
        session=moto_server.session,
        endpoint_url=proxy.url,
        account=direct.account,
        long_poll=1.0,
    ) as aws:
        consumer = Consumer(aws.queue(name), handle)
        task = asyncio.create_task(consumer.run())
        await consumer.started.wait()
        proxy.faults = Faults(dropped_before=1.0)
        async with asyncio.timeout(30):
            while proxy.done["dropped_before"] < 3:
                await asyncio.sleep(0.05)
        proxy.calm()
        await aws.queue(name).send(Message("x"))
        async with asyncio.timeout(60):
            await handled.wait()
        await consumer.stop()
        await task


CONSUMER = """
import asyncio, os, signal, sys
from eip import Consumer, Message
from eip.transports.aws import AwsTransport

url, region, name, log, killed_after = sys.argv[1:]

async def main():
    count = 0
    async def handle(message: Message) -> None:
        nonlocal count
        with open(log, "a") as file:
            print(*message.body, file=file, flush=True)
        count += 1
        if count == int(killed_after):
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(0.01)
    async with AwsTransport(region=region, endpoint_url=url, long_poll=1) as aws:
        await Consumer(aws.queue(name), handle, concurrency=5).run()

asyncio.run(main())
"""


@pytest.mark.parametrize("fifo", [pytest.param(False, marks=pytest.mark.soak), True], ids=["standard", "fifo"])
async def test_a_consumer_killed_in_the_middle_of_a_batch_leaves_all_to_another(direct, moto_server, tmp_path, fifo):
    name = await made(direct, fifo=fifo, visibility=2)
    await asyncio.gather(*(produce(direct.queue(name), group, 20) for group in range(3)))
    log = tmp_path / "log"

    async def consumer(killed_after: int) -> asyncio.subprocess.Process:
        arguments = [moto_server.url, moto_server.region, name, str(log), str(killed_after)]
        return await asyncio.create_subprocess_exec(sys.executable, "-c", CONSUMER, *arguments)

    for killed_after in (7, 11):
        killed = await consumer(killed_after)
        assert await asyncio.wait_for(killed.wait(), 60) == -signal.SIGKILL
    other = await consumer(-1)
    try:
        async with asyncio.timeout(60):
            while sum((await direct.queue(name).depth()).values()):
                await asyncio.sleep(0.1)
    finally:
        with contextlib.suppress(ProcessLookupError):
            other.kill()
        await other.wait()
    lines = await asyncio.to_thread(Path.read_text, log)
    handled = [tuple(map(int, line.split())) for line in lines.splitlines()]
    assert set(handled) == {(group, number) for group in range(3) for number in range(20)}
    assert len(handled) <= 60 + 2 * 20
    if fifo:
        for group in range(3):
            first = list(dict.fromkeys(each for each in handled if each[0] == group))
            assert first == [(group, number) for number in range(20)]
