"""What is killed: a consumer that notes each message before it acknowledges it, or a relay."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from eip import Consumer, Message, Source, run
from eip.patterns.outbox import OutboxRelay
from eip.runtime.service import Runnable
from eip.stores import SqliteStore
from eip.streams import GroupOptions
from eip.transports.activemq import ActiveMQTransport
from eip.transports.aws import AwsTransport, ReadRate
from tests.support.environment import ACCOUNT, REGION

LEASE = 3.0
"""Seconds after which another one goes on with what a killed one had."""


def consumer(source: Source, notes: str) -> Consumer:
    """Notes each message's group and number, in one write."""
    file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def handle(message: Message[int]) -> None:
        await asyncio.sleep(0.002)
        os.write(file, f"{message.group_id} {message.body}\n".encode())

    return Consumer(source, handle, concurrency=10)


async def service(role: str, url: str, channel: str, notes: str, stack: AsyncExitStack) -> Runnable:
    """The one of that role: ``sqs``, ``activemq``, ``kinesis`` or ``relay``."""
    if role == "activemq":
        broker = await stack.enter_async_context(ActiveMQTransport(url))
        return consumer(broker.queue(channel), notes)
    aws = await stack.enter_async_context(AwsTransport(REGION, url, account=ACCOUNT, long_poll=1.0))
    if role == "sqs":
        return consumer(aws.queue(channel), notes)
    if role == "kinesis":
        leases = SqliteStore(Path(notes).with_suffix(".leases"), "leases")
        stack.push_async_callback(leases.aclose)
        stream = aws.stream(channel, reads=ReadRate(calls=20, bytes=1 << 30, idle=0.2))
        options = GroupOptions(failover=LEASE, checkpoint_interval=0.4)
        return consumer(stream.group("chaos", start="trim_horizon", leases=leases, options=options), notes)
    from eip.stores.postgres_outbox import PostgresOutbox

    outbox = PostgresOutbox(os.environ["CHAOS_DSN"])
    stack.push_async_callback(outbox.aclose)
    return OutboxRelay(outbox, {"out": aws.queue(channel)}, poll=0.1, lease=LEASE)


async def main() -> None:
    """Work until killed."""
    async with AsyncExitStack() as stack:
        role, url, channel, notes = sys.argv[1:]
        await run(await service(role, url, channel, notes, stack))


if __name__ == "__main__":
    asyncio.run(main())
