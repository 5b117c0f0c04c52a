"""PostgreSQL: the suite, processes that race, a server that is killed."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from types import SimpleNamespace

import asyncpg
import pytest

from eip import clock
from eip.errors import ConfigurationError, StateError, StoreError
from eip.stores._postgres_pool import _limit_locks
from eip.stores.base import ABSENT
from eip.stores.postgres import PostgresStore, schema
from eip.testing.stores import StoreConformance
from tests.stores.racing import COUNTS, PROCESSES, counted, race

pytestmark = [pytest.mark.postgres, pytest.mark.asyncio]


@pytest.fixture
def name():
    return f"t{uuid.uuid4().hex}"


@pytest.fixture
async def store(postgres_server, name):
    store = PostgresStore(postgres_server.dsn, name)
    yield store
    await store.aclose()


@pytest.mark.postgres
class TestPostgresStore(StoreConformance):
    @pytest.fixture
    async def store(self, postgres_server, name):
        store = PostgresStore(postgres_server.dsn, name)
        yield store
        await store.aclose()


async def test_of_several_processes_one_wins_each_write(postgres_server, store, name):
    """They make the tables at once, too."""
    codes = await race(
        "from eip.stores.postgres import PostgresStore",
        "PostgresStore(sys.argv[1], sys.argv[2])",
        postgres_server.dsn,
        name,
    )
    assert codes == [0] * PROCESSES
    assert await counted(store) == PROCESSES * COUNTS


async def test_a_second_process_does_not_wait_for_those_who_write(postgres_server, store, name):
    """CREATE INDEX IF NOT EXISTS takes a lock that writers exclude, even where the index is there."""
    await store.put("k", b"1")
    writer = await asyncpg.connect(postgres_server.dsn)
    async with writer.transaction():
        await writer.execute(f'UPDATE "{name}" SET due = 1')
        second = PostgresStore(postgres_server.dsn, name)
        assert await asyncio.wait_for(second.get("k"), 5) is not None
        await second.aclose()
    await writer.close()


async def test_after_a_failover_the_connections_to_the_old_primary_are_left(postgres_server, name):
    """They stay open, in a server that takes no writes any more."""
    admin = await asyncpg.connect(postgres_server.dsn)
    await admin.execute(f'CREATE ROLE "{name}" LOGIN SUPERUSER')
    await admin.execute(f'ALTER ROLE "{name}" SET default_transaction_read_only = on')
    async with asyncpg.create_pool(postgres_server.dsn, user=name, min_size=3, max_size=3) as pool:
        store = PostgresStore(pool, name)
        await admin.execute(f'ALTER ROLE "{name}" SET default_transaction_read_only = off')
        with pytest.raises(StoreError, match="read-only") as caught:
            await store.put("k", b"1")
        assert caught.value.transient
        assert await store.put("k", b"1")
    await admin.execute(f'DROP OWNED BY "{name}"; DROP ROLE "{name}"')
    await admin.close()


async def test_statements_that_a_pooler_lost_are_prepared_again(postgres_server, store):
    """Between transactions, PgBouncer may put another connection to the server behind ours: every call failed then."""
    await store.put("k", b"1")
    await asyncio.gather(store.get("k"), store.get("l"))
    await store._pool.fetch("DEALLOCATE ALL")
    with pytest.raises(StoreError, match="does not exist") as caught:
        await store.get("k")
    assert caught.value.transient
    assert await store.get("k") is not None
    async with store._pool._pool.acquire() as connection:
        taken = await connection.prepare("SELECT 1")
        last = int(taken.get_name().strip("_").rpartition("_")[2], 16)
        for number in range(last + 1, last + 20):
            await connection.execute(f"PREPARE __asyncpg_stmt_{number:x}__ AS SELECT 1")
    with pytest.raises(StoreError, match="already exists") as caught:
        await store.next_due()
    assert caught.value.transient
    assert await store.next_due() is None


async def test_a_row_that_is_locked_fails_no_call_but_its_own(postgres_server, store, name, monkeypatch):
    """A process whose machine lost its power in the middle of a transaction stopped all others' calls for hours."""
    monkeypatch.setattr("eip.stores._postgres_pool._LOCK_S", 0.05)
    await store.put("locked", b"")
    dead = await asyncpg.connect(postgres_server.dsn)
    async with dead.transaction():
        await dead.execute(f"UPDATE {name} SET due = 1")
        calls = (store.put(key, b"") for key in ("a", "locked", "z"))
        first, locked, last = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 5)
    assert isinstance(first, str)
    assert isinstance(last, str)
    assert isinstance(locked, StoreError)
    assert locked.transient
    await dead.close()


async def test_the_connection_of_a_pooler_keeps_its_lock_timeout(postgres_server):
    """PgBouncer gives it to other programs between transactions; to its clients it names another process."""
    connection = await asyncpg.connect(postgres_server.dsn)
    pooled = SimpleNamespace(execute=connection.execute, get_server_pid=lambda: 1)
    for given, timeout in ((pooled, "0"), (connection, "2s")):
        await _limit_locks(given)
        assert await connection.fetchval("SHOW lock_timeout") == timeout
    await connection.close()


async def test_a_killed_server_is_an_error_and_what_was_written_is_there_again(postgres_server, store):
    version = await store.put("k", b"kept", due=5.0)
    await store.put_part("k", "p", b"part")
    postgres_server.kill()
    try:
        for call in (store.get("k"), store.put("k", b"x"), store.due(10.0), store.parts("k"), store.delete("k")):
            with pytest.raises(StoreError, match="PostgreSQL"):
                await call
    finally:
        postgres_server.start()
    assert await store.get("k") == (b"kept", version)
    assert await store.parts("k") == {"p": b"part"}
    assert await store.due(10.0) == ["k"]
    assert await store.put("k", b"next", version=version) is not None


async def test_expired_records_made_anew_at_once_have_one_maker(store):
    now = clock.now()
    for number in range(20):
        await store.put(f"{number}", b"", expires_at=now - 1)
        made = await asyncio.gather(*(store.put(f"{number}", b"%d" % n, version=ABSENT) for n in range(8)))
        assert sum(each is not None for each in made) == 1
    written = await asyncio.gather(*(store.put("other", b"%d" % n, expires_at=now - 1) for n in range(8)))
    assert None not in written


async def test_a_record_that_another_process_removed_as_expired_can_be_made(postgres_server, store, name):
    """Between the look that finds it expired and its removal here."""
    await store.put("k", b"old", expires_at=clock.now() - 1)
    other, fetch = PostgresStore(postgres_server.dsn, name), store._gathered

    async def second(statement, *arguments):
        if statement == "purge":
            await other.put_part("k", "p", b"part of the next")
        return await fetch(statement, *arguments)

    store._gathered = second
    assert await store.put("k", b"new", version=ABSENT) is not None
    assert await store.parts("k") == {"p": b"part of the next"}
    await other.aclose()


async def test_it_removes_what_has_expired_a_minute_later(postgres_server, store, name):
    now = clock.now()
    for number in range(199):
        await store.put_part(f"{number}", "p", b"")
        await store.put(f"{number}", b"", expires_at=now - 61)
    await store.put_part("alone", "p", b"", expires_at=now - 61)
    await store.put("last", b"", expires_at=now - 10)
    connection = await asyncpg.connect(postgres_server.dsn)
    assert await connection.fetchval(f'SELECT count(*) FROM "{name}"') == 1
    assert await connection.fetchval(f'SELECT count(*) FROM "{name}_parts"') == 0
    await connection.close()


async def test_with_a_pool_and_tables_of_the_callers(postgres_server, name):
    async with asyncpg.create_pool(postgres_server.dsn, min_size=1, max_size=2) as pool:
        store = PostgresStore(pool, name, create=False)
        with pytest.raises(StoreError, match="UndefinedTable"):
            await store.get("k")
        await pool.execute(schema(name))
        assert await store.put("k", b"1") is not None
        await store.aclose()
        assert await pool.fetchval("SELECT 1") == 1


@pytest.mark.parametrize(("read", "refusals"), [("get", 2), ("next_due", 1)])
async def test_a_read_before_the_first_write_finds_nothing_though_the_write_ends_first(
    store, monkeypatch, read, refusals
):
    """The read was refused, as there was no table (in a batch, and alone); the write makes it meanwhile."""
    fetch, refused = asyncpg.Connection.fetch, 0

    async def overtaken(connection, sql, *arguments):
        nonlocal refused
        try:
            return await fetch(connection, sql, *arguments)
        except asyncpg.UndefinedTableError:
            refused += 1
            if refused == refusals:
                monkeypatch.undo()
                await store.put("k", b"")
            raise

    monkeypatch.setattr(asyncpg.Connection, "fetch", overtaken)
    assert await (store.get("k") if read == "get" else store.next_due()) is None
    assert await store.get("k") is not None


@pytest.mark.parametrize("dropped", ["{0}, {0}_parts", "{0}, {0}_parts, eip_schema"])
async def test_tables_that_were_dropped_are_made_again(postgres_server, name, dropped):
    """A database that was put back to before its first write: every call failed until the process was started again."""
    connection = await asyncpg.connect(postgres_server.dsn)
    async with PostgresStore(postgres_server.dsn, name) as store:
        await store.put("k", b"1")
        await connection.execute("DROP TABLE " + dropped.format(name))
        for call in (store.get("k"), store.due(1.0)):
            with suppress(StoreError):
                assert not await call
        assert await store.get("k") is None
        assert await store.put("k", b"2")
        await connection.execute("DROP TABLE " + dropped.format(name))
        with pytest.raises(StoreError, match="does not exist") as caught:
            await store.put("k", b"3")
        assert caught.value.transient
        assert await store.put("k", b"3")
        assert await store.get("k") is not None
    await connection.close()


async def test_closed_it_is_an_error(store):
    await store.put("k", b"1")
    await store.aclose()
    await store.aclose()
    with pytest.raises(StateError, match="closed"):
        await store.get("k")


async def test_it_says_what_is_wrong():
    for name in ('x"; DROP TABLE y', "x" * 49, ""):
        with pytest.raises(ConfigurationError, match="letters"):
            PostgresStore("postgresql://nowhere", name)


class Counting:
    """A pool that counts what is sent to the server."""

    def __init__(self, pool):
        self.pool, self.sent = pool, []

    async def acquire(self):
        return CountedConnection(await self.pool.acquire(), self.sent)

    async def release(self, counted):
        await self.pool.release(counted.connection)


class CountedConnection:
    def __init__(self, connection, sent):
        self.connection, self.sent = connection, sent

    async def fetch(self, sql, *arguments):
        self.sent.append(1)
        return await self.connection.fetch(sql, *arguments)

    async def fetchmany(self, sql, calls):
        self.sent.append(len(calls))
        return await self.connection.fetchmany(sql, calls)


@pytest.fixture
async def pool(postgres_server):
    async with asyncpg.create_pool(postgres_server.dsn, min_size=0, max_size=4) as pool:
        yield pool


async def test_calls_that_come_together_share_round_trips_and_keep_their_own_conditions(pool, store, name):
    """Operations are counted: a round trip and a commit for each is what made the store slow."""
    await store.put("taken", b"")
    counting = Counting(pool)
    batched = PostgresStore(pool, name)
    await batched.get("opened")
    batched._pool._pool = counting
    keys = [*(f"k{number}" for number in range(100)), "taken", "k7"]
    made = await asyncio.gather(*(batched.put(key, b"v", version=ABSENT) for key in keys))
    assert counting.sent[0] == 102
    assert len(counting.sent) <= 3  # those that did not come to be look why
    assert made[-2] is None
    assert sum(version is None for version in made) == 2
    assert len({version for version in made if version is not None}) == 100
    counting.sent.clear()
    replaced = await asyncio.gather(
        *(batched.put(key, b"w", version=version) for key, version in zip(keys[:100], made, strict=False) if version),
        batched.put("taken", b"w", version="another"),
    )
    assert replaced[-1] is None
    assert None not in replaced[:-1]
    assert len(counting.sent) <= 4  # with the removal of what has expired, every 200 writes
    found = await asyncio.gather(*(batched.get(key) for key in keys))
    assert [each.value for each in found if each is not None] == [b"w"] * 100 + [b"", b"w"]


async def test_a_call_that_fails_in_a_batch_fails_alone(store, postgres_server, name):
    await store.put("k", b"")
    connection = await asyncpg.connect(postgres_server.dsn)
    await connection.execute(f"""ALTER TABLE "{name}" ADD CHECK (value <> 'refused')""")
    await connection.close()
    made = await asyncio.gather(
        *(store.put(f"k{number}", b"refused" if number == 3 else b"kept") for number in range(8)),
        return_exceptions=True,
    )
    assert [number for number, each in enumerate(made) if isinstance(each, BaseException)] == [3]
    assert isinstance(made[3], StoreError)
    assert not made[3].transient
    assert await store.get("k7") is not None
    assert await store.get("k3") is None


@pytest.mark.parametrize("opened", [True, False])
async def test_a_closed_store_has_written_what_was_asked_for(store, postgres_server, name, opened):
    if opened:
        await store.get("opened")
    writing = [asyncio.create_task(store.put(f"{number}", b"")) for number in range(150)]
    await asyncio.sleep(0)
    await store.aclose()
    assert None not in await asyncio.gather(*writing)
    again = PostgresStore(postgres_server.dsn, name)
    assert await again.get("149") is not None
    await again.aclose()


async def test_batches_of_two_stores_do_not_deadlock(store, postgres_server, name):
    """Both write the same records, asked for in opposite orders."""
    other = PostgresStore(postgres_server.dsn, name)
    keys = [f"k{number}" for number in range(50)]
    for _ in range(20):
        await asyncio.gather(
            *(store.put(key, b"1") for key in keys),
            *(other.put(key, b"2") for key in reversed(keys)),
            *(store.delete(key) for key in keys[::7]),
            *(other.put_part(key, "p", b"") for key in keys[::-5]),
        )
    await other.aclose()
