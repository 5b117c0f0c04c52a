"""A store makes what it keeps its records in at the first write; who only reads finds nothing and makes nothing."""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
import redis.asyncio
from aiobotocore.session import get_session

from eip.errors import ConfigurationError, StoreError
from eip.stores import SqliteStore
from eip.stores.dynamodb import DynamoStore
from eip.stores.postgres import PostgresStore
from eip.stores.redis import RedisStore
from eip.streams import diagnose
from eip.transports.memory import MemoryTransport

pytestmark = pytest.mark.asyncio


async def check(store: Any, made: Callable[[], Awaitable[Any]]) -> None:
    """Read, and diagnose a group that keeps its leases there, then write."""
    before = await made()
    for _ in range(2):
        assert await store.get("k") is None
        assert await store.parts("k") == {}
        assert await store.due(9e9) == []
        assert await store.next_due() is None
    async with MemoryTransport() as memory:
        group = memory.stream("clicks").group("g", leases=store)
        with pytest.raises(ConfigurationError, match="group must have read"):
            await diagnose(memory.stream("clicks"), [group])
    assert await made() == before
    assert await store.put("k", b"v", due=1.0) is not None
    await store.put_part("k", "p", b"part")
    assert await made() != before
    found = await store.get("k")
    assert found is not None
    assert (found.value, await store.parts("k"), await store.due(2.0)) == (b"v", {"p": b"part"}, ["k"])


async def test_sqlite_makes_no_file(tmp_path):
    async def made() -> list[str]:
        return sorted(each.name for each in tmp_path.iterdir())

    async with SqliteStore(tmp_path / "state.sqlite") as store:
        await check(store, made)


async def test_sqlite_makes_no_tables_in_a_file_of_others(tmp_path):
    path = tmp_path / "shop.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE orders (id TEXT)")

    async def made() -> list[Any]:
        with contextlib.closing(sqlite3.connect(path)) as db:
            return db.execute("SELECT name FROM sqlite_master ORDER BY name").fetchall()

    async with SqliteStore(path) as store:
        await check(store, made)


@pytest.mark.postgres
async def test_postgres_makes_no_tables(postgres_server):
    name = f"t{uuid.uuid4().hex[:20]}"
    connection = await asyncpg.connect(postgres_server.dsn)

    async def made() -> list[Any]:
        return [
            each[0] for each in await connection.fetch("SELECT tablename FROM pg_tables WHERE tablename ~ $1", name)
        ]

    async with PostgresStore(postgres_server.dsn, name) as store:
        await check(store, made)
    async with PostgresStore(postgres_server.dsn, f"{name}_x", create=False) as store:
        for reading in (store.get("k"), store.next_due()):
            with pytest.raises(StoreError, match="UndefinedTable"):
                await reading
    await connection.close()


@pytest.mark.redis
async def test_redis_notes_no_schema(redis_server):
    name = uuid.uuid4().hex
    async with redis.asyncio.from_url(redis_server.url) as client:

        async def made() -> list[Any]:
            return sorted(await client.keys(f"{{{name}}}:*"))

        async with RedisStore(client, name) as store:
            await check(store, made)
        assert f"{{{name}}}:schema".encode() in await made()


@pytest.mark.aws
async def test_dynamodb_makes_no_table_and_notes_no_schema(moto_server):
    table, name = f"t-{uuid.uuid4().hex}", "orders"
    async with get_session().create_client("dynamodb", endpoint_url=moto_server.url) as client:

        async def made() -> Any:
            if table not in (await client.list_tables())["TableNames"]:
                return None
            return (await client.scan(TableName=table))["Count"]

        async with DynamoStore(client, table, name) as store:
            with pytest.raises(StoreError, match="ResourceNotFound"):
                await store.get("k")
        async with DynamoStore(client, table, name, create=True) as store:
            await check(store, made)
        async with DynamoStore(client, table, "bills", create=True) as store:
            await check(store, made)
    with pytest.raises(TypeError, match="create must be a bool"):
        DynamoStore(client, table, create="yes")  # type: ignore[arg-type]
