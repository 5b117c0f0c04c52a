"""Inbox and outbox under kill -9 on a real PostgreSQL: effects once per message, outgoing messages at least once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import uuid

import asyncpg
import pytest

from eip.stores.postgres_inbox import schema as inbox_schema
from eip.stores.postgres_outbox import schema as outbox_schema
from tests.stores.inbox_kills import noted

pytestmark = pytest.mark.postgres


@pytest.fixture
async def dsn(postgres_server):
    """A database of its own."""
    name = f"kills{uuid.uuid4().hex[:12]}"
    server = await asyncpg.connect(postgres_server.dsn)
    await server.execute(f"CREATE DATABASE {name}")
    made = postgres_server.dsn.rpartition("/")[0] + f"/{name}"
    connection = await asyncpg.connect(made)
    await connection.execute(f"{inbox_schema()} {outbox_schema()} CREATE TABLE effects (n integer)")
    await connection.close()
    yield made
    await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await server.close()


async def killed(dsn, folder, client, *, messages=20, seed=0, kills=0):
    arguments = ("-m", "tests.stores.inbox_kills", dsn, str(folder), client, *map(str, (messages, seed, kills)))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, start_new_session=True)
    try:
        assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it forked as well
        await process.wait()
    connection = await asyncpg.connect(dsn)
    effects = [each for (each,) in await connection.fetch("SELECT n FROM effects ORDER BY n")]
    await connection.close()
    assert effects == list(range(messages)), "each once"
    assert {*noted(folder / "sent")} == {*range(messages)}, "each at least once"


@pytest.mark.parametrize("client", ["asyncpg", "psycopg", "SQLAlchemy's async session"])
async def test_whoever_dies_effects_are_once_and_nothing_is_lost(dsn, tmp_path, client):
    await killed(dsn, tmp_path, client)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("client", ["asyncpg", "psycopg", "psycopg, async", "SQLAlchemy's session"])
async def test_of_several_at_once_killed_at_random_effects_are_once_and_nothing_is_lost(dsn, tmp_path, client, seed):
    await killed(dsn, tmp_path, client, seed=seed, messages=400, kills=60)
