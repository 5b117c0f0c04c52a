"""Every store that needs no server."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys

import pytest

from eip import clock
from eip.errors import ConfigurationError
from eip.stores import MemoryStore, SqliteStore
from eip.testing.stores import StoreConformance


class TestMemoryStore(StoreConformance):
    @pytest.fixture
    async def store(self):
        return MemoryStore()


class TestSqliteStore(StoreConformance):
    @pytest.fixture
    async def store(self, tmp_path):
        store = SqliteStore(tmp_path / "state.sqlite")
        yield store
        await store.aclose()


async def test_memory_forgets_what_has_expired_without_being_asked():
    store, now = MemoryStore(), clock.now()
    for number in range(500):
        await store.put(f"{number}", b"", expires_at=now - 1)
        await store.put(f"{number}", b"", expires_at=now - 1)
    assert not store._entries


async def test_sqlite_removes_what_has_expired(tmp_path):
    store, now = SqliteStore(tmp_path / "state.sqlite"), clock.now()
    for number in range(100):
        await store.put_part(f"{number}", "p", b"")
        await store.put(f"{number}", b"", expires_at=now - 1)
    await store.put("last", b"")
    with contextlib.closing(sqlite3.connect(tmp_path / "state.sqlite")) as db, db:
        assert db.execute("SELECT count(*) FROM eip").fetchone()[0] < 5
        assert db.execute("SELECT count(*) FROM eip_parts").fetchone()[0] < 5
    await store.aclose()


async def test_sqlite_survives_a_kill_and_another_process_reads_it(tmp_path):
    path = tmp_path / "state.sqlite"
    script = (
        "import asyncio, os, sys; from eip.stores import SqliteStore\n"
        "async def main():\n    store = SqliteStore(sys.argv[1]); await store.put('k', b'kept', due=5.0)\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(path))
    assert await process.wait() == -9
    store = SqliteStore(path)
    record = await store.get("k")
    assert record is not None
    assert record.value == b"kept"
    assert await store.next_due() == 5.0
    await store.aclose()


async def test_sqlite_of_two_processes_one_wins_each_write(tmp_path):
    """Four processes count to 25 each in one record, by compare and set."""
    path = tmp_path / "state.sqlite"
    script = (
        "import asyncio, sys; from eip.stores import ABSENT, SqliteStore\n"
        "async def main():\n"
        "    store = SqliteStore(sys.argv[1])\n"
        "    for _ in range(25):\n"
        "        while True:\n"
        "            found = await store.get('n')\n"
        "            value = int(found.value) + 1 if found else 1\n"
        "            if await store.put('n', b'%d' % value, version=found.version if found else ABSENT): break\n"
        "    await store.aclose()\n"
        "asyncio.run(main())"
    )
    processes = [await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(path)) for _ in range(4)]
    assert [await each.wait() for each in processes] == [0] * 4
    store = SqliteStore(path)
    record = await store.get("n")
    assert record is not None
    assert record.value == b"100"
    await store.aclose()


async def test_sqlite_says_what_is_wrong(tmp_path):
    with pytest.raises(ConfigurationError, match="letters"):
        SqliteStore(tmp_path / "s", 'x"; DROP TABLE y')
    with pytest.raises(ConfigurationError, match="synchronous"):
        SqliteStore(tmp_path / "s", synchronous="OFF")
    store = SqliteStore(tmp_path / "s")
    await store.aclose()
    await store.aclose()


def test_a_store_names_where_it_is_without_its_credentials(tmp_path):
    """Fault 41e: the log states what is waited for, and where; section 6: no secret in a log."""
    redis = pytest.importorskip("eip.stores.redis")
    postgres = pytest.importorskip("eip.stores.postgres")
    outbox = pytest.importorskip("eip.stores.postgres_outbox")
    stores = [
        MemoryStore(),
        SqliteStore(tmp_path / "file.sqlite"),
        redis.RedisStore("redis://user:secret@db.example:6380/1", "orders"),
        redis.RedisStore("unix:///run/redis.sock?password=secret", "orders"),
        postgres.PostgresStore("postgresql://user:secret@db.example:5433/shop?password=secret", "orders"),
        postgres.PostgresStore("host=db.example password=secret", "orders"),
        outbox.PostgresOutbox("postgresql://user:secret@[::1]:5433/shop"),
    ]
    named = [repr(each) for each in stores]
    assert "secret" not in str(named)
    assert "file.sqlite" in named[1]
    assert "db.example:6380" in named[2]
    assert "db.example:5433" in named[4]
    assert "[::1]:5433" in named[6]
