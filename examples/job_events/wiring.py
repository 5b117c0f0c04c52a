"""From the options of a command to the parts of the application: channels, stores, capture."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

from eip import Queue, Source, Topic, Transport
from eip.errors import StoreError
from eip.patterns.redrive import redrive
from eip.stores import SqliteStore, Store
from eip.stores.dynamodb import DynamoStore, create_table
from eip.stores.objects import FileObjects, ObjectStore
from eip.stores.s3 import S3Objects
from eip.transports.activemq import ActiveMQTransport
from eip.transports.aws import AwsTransport
from eip.transports.memory import MemoryTransport
from examples.job_events import channels as names
from examples.job_events.changes import ChangeCapture
from examples.job_events.channels import Channels, topology
from examples.job_events.database import is_postgres
from examples.job_events.inventory import InventoryTable
from examples.job_events.inventory_tables import DynamoInventory, SqliteInventory
from examples.job_events.lake import Lake
from examples.job_events.postgres_capture import PostgresCapture
from examples.job_events.sqlite_capture import SqliteCapture

__all__ = ["TRANSPORTS", "Setup", "TransportChannels", "capture", "connected", "inventory_table", "lake"]

TRANSPORTS: Final = ("memory", "aws", "activemq")
_BROKER: Final = "stomp://127.0.0.1:61613"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The options of a command."""

    transport: str
    endpoint_url: str | None
    region: str
    database: str
    """A PostgreSQL URL, or the path of an SQLite file."""
    slot: str
    """Of PostgreSQL; unique within its server."""
    state: Path
    """The folder of what is kept here."""
    bucket: str
    visibility: float
    takeover: float

    @property
    def place(self) -> str:
        """The transport and its address, for people to read, without a password."""
        at = self.endpoint_url or {"aws": self.region, "activemq": _BROKER}.get(self.transport, "this process")
        return f"{self.transport} at {re.sub('(?<=://)[^/@]*@', '', at)}"

    @property
    def client_options(self) -> Mapping[str, Any]:
        """Of the SDK's clients."""
        return {"region_name": self.region, "endpoint_url": self.endpoint_url}


class TransportChannels(Channels):
    """The channels of any transport on which a subscription is a queue of that name, once the topology is in force."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.topic: Topic = transport.topic(names.TOPIC)
        self.invalid: Queue = transport.queue(names.INVALID)
        queues = {"analytics": transport.queue(names.ANALYTICS), "inventory": transport.queue(names.INVENTORY)}
        self.queues: Mapping[str, Queue] = queues
        """By service, where its dead letters go back to."""
        self.analytics: Source = queues["analytics"]
        self.inventory: Source = queues["inventory"]
        self.dead_letters: Mapping[str, Queue] = {
            label: transport.queue(name) for label, name in names.DEAD_LETTERS.items()
        }

    async def settled(self) -> None:
        """At once: what the topic accepted, the service keeps."""

    async def depth(self, name: str) -> int | None:
        """Not known."""
        del name
        return None

    async def redrive(self, label: str) -> int:
        """See `Channels.redrive`."""
        service = label.partition(",")[0]
        return (await redrive(self.dead_letters[label], self.queues[service])).moved


class _MemoryChannels(TransportChannels):
    """In this process, which forgets: what the topic accepted is safe once the services have it."""

    def __init__(self, memory: MemoryTransport) -> None:
        super().__init__(memory)
        self._memory = memory

    async def settled(self) -> None:
        while any(len(self._memory.queue(name)) for name in (names.ANALYTICS, names.INVENTORY)):
            await asyncio.sleep(0.01)  # queues tell nobody when they are empty

    async def depth(self, name: str) -> int | None:
        return len(self._memory.queue(name))


class _AwsChannels(TransportChannels):
    def __init__(self, aws: AwsTransport) -> None:
        super().__init__(aws)
        self._aws = aws

    async def depth(self, name: str) -> int | None:
        found = await self._aws.queue(name).depth()
        return found["ready"] + found["leased"]


class _ActiveMQChannels(TransportChannels):
    """Each subscription of the virtual topic is a queue that the broker names; it delivers to them itself.

    Order is that of JMSXGroupID: a job's messages go to one consumer at a time. The broker drops no duplicates, so it
    is the services that do: the lake's claims, and the positions of the inventory.
    """

    def __init__(self, activemq: ActiveMQTransport) -> None:
        super().__init__(activemq)
        topic = activemq.topic(names.TOPIC)
        self.topic = topic
        self.analytics, self.inventory = topic.subscription("analytics"), topic.subscription("inventory")
        queues = {"analytics": self.analytics.name, "inventory": self.inventory.name}
        self.queues = {service: activemq.queue(name) for service, name in queues.items()}
        self.dead_letters = {label: activemq.queue(names.DEAD_LETTERS[label]) for label in self.queues}


@asynccontextmanager
async def connected(setup: Setup) -> AsyncIterator[Channels]:
    """The channels, made where they are missing, until the block ends."""
    declared = topology(visibility=setup.visibility)
    if setup.transport == "memory":
        async with MemoryTransport() as memory:
            await declared.apply(memory)
            yield _MemoryChannels(memory)
        return
    if setup.transport == "activemq":
        async with ActiveMQTransport(setup.endpoint_url or _BROKER) as activemq:
            await declared.apply(activemq)
            yield _ActiveMQChannels(activemq)
        return
    # An emulator goes on with a long poll whose client was killed, and hands messages to nobody: poll briefly there.
    long_poll = 20.0 if setup.endpoint_url is None else 1.0
    async with AwsTransport(region=setup.region, endpoint_url=setup.endpoint_url, long_poll=long_poll) as aws:
        await declared.apply(aws)
        yield _AwsChannels(aws)


@asynccontextmanager
async def lake(setup: Setup) -> AsyncIterator[Lake]:
    """Where analytics writes: S3 and DynamoDB, or a folder and a file."""
    async with AsyncExitStack() as stack:
        objects: ObjectStore
        store: Store
        if setup.transport == "aws":
            session = get_session()
            s3 = await stack.enter_async_context(session.create_client("s3", **setup.client_options))
            try:
                await _make_bucket(s3, setup.bucket, setup.region)
            except (ClientError, BotoCoreError, OSError, TimeoutError) as error:
                raise StoreError(f"S3: {error}") from error
            dynamodb = await stack.enter_async_context(session.create_client("dynamodb", **setup.client_options))
            await create_table(dynamodb, "job-events-lake")
            objects, store = S3Objects(s3, setup.bucket), DynamoStore(dynamodb, "job-events-lake")
        else:
            setup.state.mkdir(parents=True, exist_ok=True)
            objects = FileObjects(setup.state / "lake")
            store = SqliteStore(setup.state / "lake.sqlite")
            stack.push_async_callback(store.aclose)
        yield Lake(objects, store, takeover=setup.takeover)


@asynccontextmanager
async def inventory_table(setup: Setup) -> AsyncIterator[InventoryTable]:
    """The inventory's table: in DynamoDB, or in a file."""
    if setup.transport == "aws":
        async with get_session().create_client("dynamodb", **setup.client_options) as client:
            dynamo = DynamoInventory(client, "job-events-inventory")
            await dynamo.create()
            yield dynamo
        return
    setup.state.mkdir(parents=True, exist_ok=True)
    table = SqliteInventory(setup.state / "inventory.sqlite")
    try:
        yield table
    finally:
        table.close()


def capture(setup: Setup) -> ChangeCapture:
    """What reads the changes of the database."""
    return (
        PostgresCapture(setup.database, slot=setup.slot)
        if is_postgres(setup.database)
        else SqliteCapture(setup.database)
    )


async def _make_bucket(client: Any, bucket: str, region: str) -> None:
    try:
        await client.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
            raise
        place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            await client.create_bucket(Bucket=bucket, **place)
        except ClientError as again:
            if again.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "OperationAborted"):
                raise
