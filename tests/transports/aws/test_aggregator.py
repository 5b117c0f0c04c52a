"""The aggregator on DynamoDB and SQS: real processes that sweep the same deadlines release each group once."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from uuid import uuid4

import pytest

from eip import Message
from eip.patterns.aggregator import Aggregator
from eip.stores import MemoryStore
from eip.stores.dynamodb import DynamoStore, create_table
from eip.topology import QueueSpec, Topology
from eip.transports.aws import AwsTransport
from tests.patterns.test_aggregator import ODD_KEYS

pytestmark = pytest.mark.aws

GROUPS, INPUTS = 8, 3

PROCESS = """
import asyncio, sys
from eip import Message
from eip.patterns.aggregator import Aggregator
from eip.stores import MemoryStore
from eip.stores.dynamodb import DynamoStore
from eip.transports.aws import AwsTransport

url, region, name = sys.argv[1:]

async def main():
    async with AwsTransport(region=region, endpoint_url=url) as aws:
        store = DynamoStore(await aws.client("dynamodb"), name, name)
        aggregator = Aggregator(store, output=aws.queue(name), size=1000, deadline=3)
        print("ready", flush=True)
        await aggregator.run()

asyncio.run(main())
"""


async def test_two_processes_that_sweep_the_same_deadlines_release_each_group_once(moto_server):
    name = f"a{uuid4().hex[:12]}"
    async with AwsTransport(
        region=moto_server.region, session=moto_server.session, endpoint_url=moto_server.url, long_poll=1.0
    ) as aws:
        await Topology(QueueSpec(name)).apply(aws)
        client = await aws.client("dynamodb")
        await create_table(client, name)
        inputs = Aggregator(DynamoStore(client, name, name), output=aws.queue(name), size=1000, deadline=3)
        arguments = [sys.executable, "-c", PROCESS, moto_server.url, moto_server.region, name]
        running = [await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE) for _ in range(2)]
        try:
            for each in running:
                assert each.stdout is not None
                assert await asyncio.wait_for(each.stdout.readline(), 60) == b"ready\n"
            for group in range(GROUPS):  # one after the other: none is to end before it has all
                for number in range(INPUTS):
                    await inputs(Message([group, number], correlation_id=f"g{group}", id=f"{group}-{number}"))
            released: list[Message] = []
            async with asyncio.timeout(60), aws.queue(name).receiver() as receiver:
                while len(released) < GROUPS:
                    taken = await receiver.receive(10, wait=1)
                    await receiver.ack(taken)
                    released += [each.message for each in taken]
                assert not await receiver.receive(1, wait=1.5)
        finally:
            for each in running:
                with contextlib.suppress(ProcessLookupError):
                    each.kill()
                await each.wait()
    assert {aggregate.correlation_id for aggregate in released} == {f"g{group}" for group in range(GROUPS)}
    assert len(released) == GROUPS
    for aggregate in released:
        group = aggregate.body[0][0]
        assert aggregate.body == [[group, number] for number in range(INPUTS)]
        assert aggregate.headers["completed-by"] == "deadline"


async def test_any_correlation_id_can_be_the_message_group_of_what_is_released(aws):
    """Fault 4: with the correlation id `order 7`, nothing was ever released to a FIFO queue."""
    name = f"a{uuid4().hex[:12]}.fifo"
    await Topology(QueueSpec(name)).apply(aws)
    aggregator = Aggregator(MemoryStore(), output=aws.queue(name), size=2)
    async with aggregator:
        for number in range(2):
            for key in ODD_KEYS:
                await aggregator(Message(number, correlation_id=key))
        released: dict[str | None, Message] = {}
        async with asyncio.timeout(30), aws.queue(name).receiver() as receiver:
            while len(released) < len(ODD_KEYS):
                taken = await receiver.receive(10, wait=1)
                await receiver.ack(taken)
                released |= {each.message.correlation_id: each.message for each in taken}
    assert released.keys() == set(ODD_KEYS)
    assert all((each.body, each.group_id) == ([0, 1], key) for key, each in released.items())
