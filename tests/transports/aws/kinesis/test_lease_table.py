"""The table of the leases, which the first worker makes, and which several meet while it is being made."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest

from eip import Consumer, Message
from eip.errors import ConfigurationError, StoreError
from eip.streams import diagnose
from eip.topology import StreamSpec, Topology
from eip.transports.aws import AwsTransport
from eip.transports.aws._client.service_client import ServiceClient
from tests.transports.aws.kinesis.conftest import BRISK, FAST

pytestmark = pytest.mark.aws


class SlowToMake:
    """A client of DynamoDB whose table is CREATING, and unusable, for some looks after it was made."""

    def __init__(self, client, tables: dict[str, int]) -> None:
        self._client, self._tables = client, tables

    def __getattr__(self, name):
        operation = getattr(self._client, name)

        async def call(**arguments):
            table = arguments.get("TableName", "")
            if name == "create_table":
                self._tables.setdefault(table, 12)
                return await operation(**arguments)
            if self._tables.get(table):
                if name == "describe_table":
                    self._tables[table] -= 1
                    return {"Table": {"TableStatus": "CREATING"}}
                return await operation(**{**arguments, "TableName": "not there yet"})  # as the service refuses it
            return await operation(**arguments)

        return call


@pytest.fixture
def lease_table(monkeypatch):
    name = f"leases-{uuid4().hex[:10]}"
    monkeypatch.setattr("eip.transports.aws.kinesis.stream.LEASE_TABLE", name)
    monkeypatch.setattr("eip.stores._dynamodb_table._LOOK_S", 0.02)
    return name


async def test_several_workers_started_at_once_wait_for_a_table_that_is_being_made(
    moto_server, lease_table, monkeypatch
):
    """Fault 22: those that met it CREATING failed."""
    tables: dict[str, int] = {}
    client_of = ServiceClient.client

    async def client(self, service):
        found = await client_of(self, service)
        return SlowToMake(found, tables) if service == "dynamodb" else found

    monkeypatch.setattr(ServiceClient, "client", client)
    name, seen, all_seen = f"s-{uuid4().hex[:10]}", [], asyncio.Event()

    async def handle(message: Message) -> None:
        seen.append(message.body)
        if len(set(seen)) == 20:
            all_seen.set()

    async with AsyncExitStack() as stack:
        aws = [
            await stack.enter_async_context(
                AwsTransport(moto_server.region, moto_server.url, session=moto_server.session)
            )
            for _ in range(4)
        ]
        await Topology(StreamSpec(name, shards=4)).apply(aws[0])
        await aws[0].stream(name, reads=FAST).send(*(Message(number) for number in range(20)))
        groups = [each.stream(name, reads=FAST).group("g", start="trim_horizon", options=BRISK) for each in aws]
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            consumers = [Consumer(group, handle) for group in groups]
            for each in consumers:
                tasks.create_task(each.run())
            await all_seen.wait()
            await asyncio.gather(*(each.ready.wait() for each in consumers))
            await asyncio.gather(*(each.stop() for each in consumers))
    assert set(seen) == set(range(20))
    assert tables == {lease_table: 0}


async def test_a_table_that_may_not_be_read_is_not_made(moto_server, lease_table, monkeypatch):
    """What is permanent is raised at once, and nothing is made that nobody asked for."""

    class Denied:
        def __getattr__(self, name):
            async def call(**_):
                from botocore.exceptions import ClientError

                assert name == "get_item"
                raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "GetItem")

            return call

    async def client(self, service):
        return Denied()

    async with AwsTransport(moto_server.region, moto_server.url, session=moto_server.session) as aws:
        monkeypatch.setattr(ServiceClient, "client", client)
        with pytest.raises(StoreError, match="AccessDenied"):
            await (await aws.stream("s").group("g").table()).find_beginning()


async def test_a_diagnosis_makes_no_table(moto_server, lease_table):
    name = f"s-{uuid4().hex[:10]}"
    async with AwsTransport(moto_server.region, moto_server.url, session=moto_server.session) as aws:
        await Topology(StreamSpec(name, shards=1)).apply(aws)
        with pytest.raises(ConfigurationError, match="group must have read"):
            await diagnose(aws.stream(name), ["g"], window=1)
        assert await aws.stream(name).group("g").checkpoints() == {}
        assert lease_table not in (await (await aws.client("dynamodb")).list_tables())["TableNames"]
