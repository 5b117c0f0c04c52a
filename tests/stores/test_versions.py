"""Fault 50: stores used by two versions of the library; columns are named, the schema has a version."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import uuid
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio

from eip.errors import StoreError
from eip.stores import SqliteStore, postgres, postgres_outbox, sqlite
from eip.stores.outbox import SqliteOutbox
from eip.stores.redis import RedisStore

pytestmark = pytest.mark.asyncio
FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture
def earlier(tmp_path):
    """A file that the release before wrote."""
    path = tmp_path / "v1.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.executescript((FIXTURES / "sqlite_v1.sql").read_text())
    return path


def version_of(path, collection):
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        return db.execute("SELECT version FROM eip_schema WHERE collection = ?", (collection,)).fetchone()[0]


async def test_a_file_of_the_earlier_release_is_read_and_noted(earlier):
    async with SqliteStore(earlier) as store:
        found = await store.get("order 1")
        assert found is not None
        assert found.value == b'{"n": 1}'
        assert await store.put("order 1", b"2", version=found.version) is not None
        assert await store.parts("order 1") == {"p": b"part"}
        assert (await store.get("order 2")) is not None
    assert version_of(earlier, "eip") == 2
    outbox = SqliteOutbox(earlier)
    (waiting,) = await outbox.waiting("orders", limit=10, skip_refused=False)
    assert b'"id":"m1"' in waiting.message
    await outbox.aclose()
    assert version_of(earlier, "eip_outbox") == 2


async def test_a_column_more_does_not_matter(earlier):
    """The statement of the release before named no columns."""
    with contextlib.closing(sqlite3.connect(earlier)) as db, db:
        db.execute('ALTER TABLE eip ADD COLUMN later TEXT DEFAULT "x"')
        db.execute("ALTER TABLE eip_parts ADD COLUMN later TEXT")
        db.execute("ALTER TABLE eip_outbox_relay ADD COLUMN later TEXT")
    async with SqliteStore(earlier) as store:
        assert await store.put("new", b"") is not None
        await store.put_part("new", "p", b"")
    outbox = SqliteOutbox(earlier)
    assert await outbox.lead("me", 9e9)
    await outbox.aclose()


async def test_a_later_schema_is_refused(tmp_path):
    path = tmp_path / "later.sqlite"
    async with SqliteStore(path) as store:
        await store.put("k", b"")
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE eip_schema SET version = 99")
    async with SqliteStore(path) as store:
        with pytest.raises(StoreError, match="version 99; this release reads up to 2: upgrade") as caught:
            await store.get("k")
        assert not caught.value.transient


@pytest.mark.postgres
async def test_postgres_tables_of_the_earlier_release(postgres_server):
    name = f"t{uuid.uuid4().hex[:20]}"
    connection = await asyncpg.connect(postgres_server.dsn)
    await connection.execute((FIXTURES / "postgres_v1.sql").read_text().replace("{name}", name))
    await connection.execute(f"INSERT INTO \"{name}\" VALUES ('k', 'value', 'v', NULL, NULL)")
    await connection.execute(f'ALTER TABLE "{name}" ADD COLUMN later text')
    async with postgres.PostgresStore(postgres_server.dsn, name) as store:
        assert await store.get("k") == (b"value", "v")
        assert await store.put("k", b"2", version="v") is not None
        assert await store.put("new", b"") is not None
    outbox = postgres_outbox.PostgresOutbox(postgres_server.dsn, f"{name}_outbox")
    assert await outbox.lead("me", 9e9)
    await outbox.aclose()
    noted = await connection.fetch("SELECT version FROM eip_schema WHERE collection LIKE $1", f"{name}%")
    assert [each[0] for each in noted] == [2, 2]
    await connection.execute("UPDATE eip_schema SET version = 99 WHERE collection = $1", name)
    async with postgres.PostgresStore(postgres_server.dsn, name) as store:
        with pytest.raises(StoreError, match="version 99"):
            await store.get("k")
    await connection.close()


@pytest.mark.redis
async def test_redis_of_a_later_release_is_refused(redis_server):
    name = uuid.uuid4().hex
    async with redis.asyncio.from_url(redis_server.url) as client:
        async with RedisStore(redis_server.url, name) as store:
            await store.put("k", b"1")
        assert await client.get(f"{{{name}}}:schema") == b"2"
        await client.set(f"{{{name}}}:schema", 99)
    async with RedisStore(redis_server.url, name) as store:
        with pytest.raises(StoreError, match="version 99"):
            await store.get("k")


async def test_every_statement_names_its_columns():
    statements = [*sqlite._STATEMENTS.values(), *postgres._STATEMENTS.values(), *postgres_outbox._STATEMENTS.values()]
    statements += re.findall(r"INSERT INTO [^\n]*", Path(sqlite.__file__).with_name("outbox.py").read_text())
    for sql in statements:
        assert not re.search(r'INSERT INTO "[^"]*"( AS t)? VALUES', sql), sql
        assert "SELECT *" not in sql
