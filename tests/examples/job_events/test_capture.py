"""Change data capture, the same on SQLite's triggers and on PostgreSQL's logical replication."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from uuid import uuid4

import asyncpg
import pytest

from eip import Backoff
from eip.transports.memory import MemoryTransport
from examples.job_events.changes import CaptureError
from examples.job_events.channels import ANALYTICS, topology
from examples.job_events.database import Edit, PostgresDatabase, SqliteDatabase
from examples.job_events.postgres_capture import PostgresCapture
from examples.job_events.publisher import Publisher
from examples.job_events.sqlite_capture import SqliteCapture
from examples.job_events.wiring import TransportChannels


def job(number, title="Cook"):
    return Edit.insert(number, title, "Hotel", "Graz", 4_000_000, "EUR", None)


@asynccontextmanager
async def own_database(postgres_server):
    """A database of the test's own, and captures of a slot of its own, which is dropped at the end."""
    name = f"jobs_{uuid4().hex[:12]}"
    admin = await asyncpg.connect(postgres_server.dsn)
    await admin.execute(f"CREATE DATABASE {name}")
    dsn = postgres_server.dsn.rpartition("/")[0] + f"/{name}"
    await admin.close()
    yield PostgresDatabase(dsn), lambda: PostgresCapture(dsn, slot=name)
    admin = await asyncpg.connect(postgres_server.dsn)  # the server may be another process by now
    await admin.execute(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1", name
    )
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture
async def on_postgres(postgres_server):
    async with own_database(postgres_server) as made:
        yield made


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def place(request, tmp_path):
    """A database that is open, and a function that makes captures of it; their slot is made."""
    async with AsyncExitStack() as stack:
        if request.param == "sqlite":
            database, make = SqliteDatabase(tmp_path / "jobs.sqlite"), lambda: SqliteCapture(tmp_path / "jobs.sqlite")
        else:
            server = request.getfixturevalue("postgres_server")
            database, make = await stack.enter_async_context(own_database(server))
        async with database:
            async with make():
                pass
            yield database, make


async def read(capture, most=100):
    """All batches, nothing confirmed."""
    return [batch async for batch in capture.changes(most)]


async def changes(capture, most=100):
    return [change for batch in await read(capture, most) for change in batch]


async def test_insertions_updates_and_deletions_come_in_order_with_both_images(place):
    database, make = place
    await database.commit(job(1))
    await database.commit(Edit.set(1, "sal_minor", 5_000_000), Edit.set(1, "rec_note", "näh 'quoted'"))
    await database.commit(Edit.delete(1))
    async with make() as capture:
        found = await changes(capture)
    assert [each.operation for each in found] == ["insert", "update", "update", "delete"]
    assert [each.position for each in found] == sorted({each.position for each in found})
    assert [str(each.position) for each in found] == sorted(str(each.position) for each in found)
    insert, update, note, delete = found
    assert (insert.before, delete.after) == (None, None)
    assert update.before == insert.after
    assert int(update.after["sal_minor"]) == 5_000_000
    assert note.after == delete.before
    assert delete.before["rec_note"] == "näh 'quoted'"
    assert insert.after["rec_note"] is None
    assert insert.after["job_ttl"] == "Cook"


async def test_what_is_not_confirmed_is_read_again_at_the_same_positions_by_the_next_process_too(place):
    database, make = place
    for number in range(6):
        await database.commit(job(number))
    async with make() as capture:
        first = await changes(capture)
        assert await changes(capture) == first
        async for batch in capture.changes(2):
            await capture.confirm(batch[-1].position)
            break
    async with make() as capture:
        assert await changes(capture) == first[2:]
        await capture.confirm(first[-1].position)
        assert await changes(capture) == []
        await capture.confirm(first[0].position)  # never goes back
        assert await changes(capture) == []
    await database.commit(job(7))
    async with make() as capture:
        (later,) = await changes(capture)
    assert later.position > first[-1].position


@pytest.mark.parametrize("most", [1, 5, 6, 7, 15, 100])
async def test_a_large_transaction_comes_in_batches_and_is_confirmed_once_all_of_it_was_read(place, most):
    database, make = place
    await database.commit(*(job(number) for number in range(15)))
    await database.commit(job(20))
    async with make() as capture:
        seen = []
        async with aclosing(capture.changes(most)) as batches:
            async for batch in batches:
                assert len(batch) <= most
                seen += batch
                await capture.confirm(batch[-1].position)
        assert [int(each.after["job_no"]) for each in seen] == [*range(15), 20]
        rest = await changes(capture)
        assert rest in ([], seen[15:])  # what ends with a batch is confirmed with the next
        if rest:
            await capture.confirm(rest[-1].position)
            assert await changes(capture) == []


async def test_a_changed_key_is_a_deletion_and_an_insertion(place):
    database, make = place
    await database.commit(job(1))
    await database.commit(Edit.set(1, "job_no", 2))
    async with make() as capture:
        _, delete, insert = await changes(capture)
    assert (delete.operation, int(delete.before["job_no"])) == ("delete", 1)
    assert (insert.operation, int(insert.after["job_no"])) == ("insert", 2)
    assert delete.position < insert.position


async def test_what_was_rolled_back_is_not_read(place):
    database, make = place
    with pytest.raises(Exception, match=r"(?i)unique"):
        await database.commit(job(1), job(1))
    async with make() as capture:
        assert await changes(capture) == []


async def test_origins_differ_and_stay(place, tmp_path):
    make = place[1]
    async with make() as one, make() as two, SqliteCapture(tmp_path / "other.sqlite") as other:
        assert one.origin == two.origin != other.origin


async def test_what_is_behind_is_told(place):
    database, make = place
    async with make() as capture:
        before = await capture.behind()
        await database.commit(job(1))
        assert await capture.behind() != before


async def test_a_closed_capture_says_so(place):
    capture = place[1]()
    with pytest.raises(CaptureError, match="not open"):
        await read(capture)


# PostgreSQL's own.

postgres = pytest.mark.postgres


@postgres
async def test_rows_of_one_copy_have_positions_of_their_own(on_postgres):
    database, make = on_postgres
    async with database, make() as capture:
        rows = [(number, "Cook", "Hotel", "Graz", 1, "EUR", None) for number in range(200)]
        await database._connection.copy_records_to_table("tbl_job", records=rows)
        found = await changes(capture)
    assert len({str(each.position) for each in found}) == 200
    assert len({each.position.commit for each in found}) == 1


@postgres
async def test_a_large_value_that_did_not_change_is_there_all_the_same(on_postgres):
    database, make = on_postgres
    long = uuid4().hex * 2000
    async with database, make() as capture:
        await database._connection.execute("ALTER TABLE tbl_job ALTER rec_note SET STORAGE EXTERNAL")
        await database.commit(Edit.insert(1, "Cook", "Hotel", "Graz", 1, "EUR", long))
        await database.commit(Edit.set(1, "sal_minor", 2))
        insert, update = await changes(capture)
    assert update.after == {**insert.after, "sal_minor": "2"}
    assert update.after["rec_note"] == long


@postgres
async def test_an_added_column_does_not_disturb(on_postgres):
    database, make = on_postgres
    async with database, make() as capture:
        await database.commit(job(1))
        await database._connection.execute("ALTER TABLE tbl_job ADD COLUMN extra TEXT DEFAULT 'x'")
        await database.commit(Edit.set(1, "sal_minor", 2))
        insert, update = await changes(capture)
    assert "extra" not in insert.after
    assert update.after["extra"] == "x"


@postgres
async def test_the_log_is_not_kept_for_what_other_tables_wrote(on_postgres):
    database, make = on_postgres
    async with database, make() as capture:
        await database._connection.execute(
            "CREATE TABLE other AS SELECT repeat('x', 100) FROM generate_series(1, 5000)"
        )
        assert _bytes(await capture.behind()) > 500_000
        assert await changes(capture) == []
        assert _bytes(await capture.behind()) < 100_000
        await database.commit(job(1))
        assert len(await changes(capture)) == 1


@postgres
async def test_a_transaction_under_way_while_the_slot_advances_is_not_lost(on_postgres):
    database, make = on_postgres
    async with database, make() as capture:
        async with database._connection.transaction():
            await database._connection.execute("INSERT INTO tbl_job (job_no) VALUES (1)")
            assert await changes(capture) == []  # which advances the slot
            await capture._advance(await _log_end(database))
        (found,) = await changes(capture)
    assert found.after["job_no"] == "1"


@postgres
async def test_truncate_is_refused(on_postgres):
    database, make = on_postgres
    async with database, make():
        with pytest.raises(asyncpg.RaiseError, match="TRUNCATE"):
            await database._connection.execute("TRUNCATE tbl_job")


@postgres
@pytest.mark.postgres
@pytest.mark.parametrize("identity", ["DEFAULT", "NOTHING"])
async def test_a_change_whose_old_row_is_not_in_the_log_says_what_to_do(on_postgres, identity):
    """Fault 24: somebody changed the table's replica identity; once the slot is dropped all goes on."""
    database, make = on_postgres
    async with database:
        async with make() as capture:
            await database.commit(job(1), job(2))
            await database._connection.execute(f"ALTER TABLE tbl_job REPLICA IDENTITY {identity}")
            change = Edit.set(1, "sal_minor", 5_000_000), Edit.delete(2)
            if identity == "NOTHING":  # PostgreSQL refuses it itself
                with pytest.raises(asyncpg.PostgresError):
                    await database.commit(*change)
                return
            await database.commit(*change)
            with pytest.raises(CaptureError, match=r"REPLICA IDENTITY FULL.*drop the slot"):
                await changes(capture)
            await database._connection.execute("SELECT pg_drop_replication_slot($1)", capture._slot)
        async with make() as capture:
            assert [each.after["job_no"] for each in await changes(capture)] == [1]
            await database.commit(Edit.delete(1))
            assert (await changes(capture))[-1].before["job_no"] == "1"


@pytest.mark.postgres
async def test_a_truncation_behind_the_trigger_is_noticed(on_postgres):
    """Fault 24: the log does not name the rows."""
    database, make = on_postgres
    async with database, make() as capture:
        await database.commit(job(1))
        async with database._connection.transaction():
            await database._connection.execute("SET LOCAL session_replication_role = replica")
            await database._connection.execute("TRUNCATE tbl_job")
        with pytest.raises(CaptureError, match=r"truncated.*drop the slot"):
            await changes(capture)


@pytest.mark.postgres
@pytest.mark.parametrize("text", ["", "no JSON", "[1]", "7", "[" * 3000])
async def test_a_strangers_logical_message_under_our_prefix_stops_nothing(on_postgres, text):
    """Fault 24."""
    database, make = on_postgres
    async with database, make() as capture:
        await database.commit(job(1))
        await database._connection.execute("SELECT pg_logical_emit_message(true, $1, $2)", capture._slot, text)
        await database.commit(job(2))
        assert [each.after["job_no"] for each in await changes(capture)] == ["1", "2"]


@pytest.mark.postgres
async def test_a_slot_that_is_gone_is_made_again(on_postgres):
    """Fault 24: dropped while it is read."""
    database, make = on_postgres
    async with database, make() as capture:
        await database.commit(job(1))
        await database._connection.execute("SELECT pg_drop_replication_slot($1)", capture._slot)
        with pytest.raises(CaptureError, match="does not exist"):
            await changes(capture)
        assert await capture.behind() == "no slot"
        await capture.aclose()
        await capture.open()
        assert [each.after["job_no"] for each in await changes(capture)] == [1]


@pytest.mark.postgres
async def test_a_slot_that_was_invalidated_says_what_to_do(on_postgres):
    """Fault 24: the server was not allowed to keep its log for so long."""
    database, make = on_postgres
    async with database:
        async with make() as capture:
            await database.commit(job(1))
        server = database._connection
        await server.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
        await server.execute("SELECT pg_reload_conf()")
        status = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1"
        try:
            while await server.fetchval(status, capture._slot) != "lost":
                await server.execute("SELECT pg_logical_emit_message(false, 'other', repeat('x', 1000000))")
                await server.execute("SELECT pg_switch_wal()")
                await server.execute("CHECKPOINT")
        finally:
            await server.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
            await server.execute("SELECT pg_reload_conf()")
        with pytest.raises(CaptureError, match=f"pg_drop_replication_slot.'{capture._slot}'"):
            async with make():
                pass
        await server.execute("SELECT pg_drop_replication_slot($1)", capture._slot)
        async with make() as capture:
            assert [each.after["job_no"] for each in await changes(capture)] == [1]


@pytest.mark.postgres
async def test_changes_before_and_after_the_schema_changed_are_read(on_postgres):
    """Fault 24: each row has the columns that its table had then."""
    database, make = on_postgres
    async with database, make() as capture:
        await database.commit(job(1))
        await database._connection.execute("ALTER TABLE tbl_job ADD COLUMN grade TEXT DEFAULT 'a'")
        await database.commit(job(2), Edit.set(1, "sal_minor", 5_000_000))
        await database._connection.execute("ALTER TABLE tbl_job DROP COLUMN rec_note")
        await database.commit(Edit.delete(2))
        found = await changes(capture)
        assert [("grade" in (each.after or each.before)) for each in found] == [False, True, True, True]
        assert [("rec_note" in (each.after or each.before)) for each in found] == [True, True, True, False]


async def test_two_publishers_at_once_read_the_same(on_postgres):
    database, make = on_postgres
    async with database, make() as one, make() as two:
        await database.commit(job(1))
        found = await changes(one)
        assert await changes(two) == found
        for capture in (one, two):
            await capture.confirm(found[0].position)
            assert await changes(capture) == []


@postgres
async def test_several_captures_opened_at_once_make_one_slot(on_postgres):
    database, make = on_postgres
    async with database:
        captures = [make() for _ in range(4)]
        await asyncio.gather(*(each.open() for each in captures))
        await database.commit(job(1))
        assert len(await changes(captures[3])) == 1
        for each in captures:
            await each.aclose()


@postgres
async def test_jobs_that_are_older_than_the_slot_come_first_as_insertions_and_only_once(on_postgres):
    database, make = on_postgres
    async with database:
        await database.commit(job(2, title="Köchin"), job(1))
        async with make() as capture:
            await database.commit(Edit.set(1, "sal_minor", 7))
            await database.commit(job(3))
            found = await changes(capture)
        assert [(each.operation, int(each.after["job_no"])) for each in found] == [
            ("insert", 1),
            ("insert", 2),
            ("update", 1),
            ("insert", 3),
        ]
        assert found[1].after["job_ttl"] == "Köchin"
        assert found[2].before == {
            name: None if value is None else str(value) for name, value in found[0].after.items()
        }
        async with make() as capture:
            assert await changes(capture) == found


@postgres
async def test_a_slot_whose_maker_died_before_it_came_to_the_jobs_is_made_again(on_postgres):
    database, make = on_postgres
    async with database:
        await database.commit(job(1))
        capture = make()
        async with capture:
            await database._connection.execute("DELETE FROM job_events_begun")  # as if it had not been committed
        await database.commit(job(2))
        async with make() as capture:
            assert [int(each.after["job_no"]) for each in await changes(capture)] == [1, 2]


@postgres
async def test_no_change_is_lost_or_doubled_while_the_slot_is_made_under_load(on_postgres):
    database, make = on_postgres
    async with database:
        await database.commit(*(job(number) for number in range(50)))
        made = asyncio.Event()

        async def agency():
            number = 50
            while not made.is_set() or number < 100:
                await database.commit(job(number))
                number += 1
            return number

        working = asyncio.create_task(agency())
        async with make() as capture:
            made.set()
            last = await working
            assert [int(each.after["job_no"]) for each in await changes(capture, 1000)] == list(range(last))


@postgres
async def test_a_transaction_that_waits_for_the_lock_while_the_slot_waits_for_it_is_let_through(
    on_postgres, monkeypatch
):
    database, make = on_postgres
    monkeypatch.setattr("examples.job_events.postgres_capture._SLOT_TIMEOUT", 0.5)
    async with database:
        await database._connection.execute("CREATE TABLE other (x INT)")
        transaction = database._connection.transaction()
        await transaction.start()
        await database._connection.execute("INSERT INTO other VALUES (1)")  # under way, with a number
        opening = asyncio.create_task(make().open())
        watch = await asyncpg.connect(database._dsn)
        locked = "SELECT 1 FROM pg_locks WHERE mode = 'ShareLock' AND relation = 'tbl_job'::regclass AND granted"
        while not await watch.fetchval(locked) and not opening.done():
            await asyncio.sleep(0.01)
        await watch.close()
        await database._connection.execute(job(1).sql.replace("?", "NULL").replace("NULL", "1", 1))
        await transaction.commit()
        with pytest.raises(CaptureError):
            await opening
        async with make() as capture:
            assert len(await changes(capture)) == 1


@postgres
async def test_a_publisher_whose_connections_are_cut_goes_on_and_misses_nothing(on_postgres):
    database, make = on_postgres
    async with database, MemoryTransport() as memory:
        await topology().apply(memory)
        queue = memory.queue(ANALYTICS)
        publisher = Publisher(make(), TransportChannels(memory), batch=5, idle=0.01, retry=Backoff(base=0.05))
        task, cut = asyncio.create_task(publisher.run()), 0
        for number in range(60):
            await database.commit(job(number))
            if number in (20, 40):
                while len(queue) < number - 10 and not task.done():
                    await asyncio.sleep(0.01)
                cut += await database._connection.fetchval(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
        while len(queue) < 60 and not task.done():
            await asyncio.sleep(0.01)
        await publisher.stop()
        await task
        assert [each.body["job_id"] for each in queue.messages()] == list(range(60))
        assert cut >= 2  # idle ones are replaced without a failure of the publisher


@postgres
async def test_a_publisher_goes_on_after_the_server_was_killed_and_started_again(on_postgres, postgres_server):
    database, make = on_postgres
    async with MemoryTransport() as memory:
        await topology().apply(memory)
        queue = memory.queue(ANALYTICS)
        publisher = Publisher(make(), TransportChannels(memory), batch=5, idle=0.01, retry=Backoff(base=0.05))
        task = asyncio.create_task(publisher.run())
        for start in (0, 20):
            async with database:
                for number in range(start, start + 20):
                    await database.commit(job(number))
                while len(queue) < start + 10 and not task.done():
                    await asyncio.sleep(0.01)
            if not start:
                postgres_server.kill()
                postgres_server.start()
        while len(queue) < 40 and not task.done():
            await asyncio.sleep(0.01)
        await publisher.stop()
        await task
        assert [each.body["job_id"] for each in queue.messages()] == list(range(40))


@postgres
async def test_an_unreachable_server_is_a_failure_of_the_capture():
    with pytest.raises(CaptureError):
        await PostgresCapture("postgresql://postgres@127.0.0.1:1/postgres").open()


def _bytes(behind):
    return int(behind.split()[0].replace(",", ""))


async def _log_end(database):
    return await database._connection.fetchval("SELECT pg_current_wal_flush_lsn()::text")
