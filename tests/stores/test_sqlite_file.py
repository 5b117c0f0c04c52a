"""Group commit in an SQLite file: what was asked for together is one transaction, and what fails fails alone."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys

import pytest

from eip import Message
from eip.channels import Sender
from eip.errors import StoreError
from eip.patterns.aggregator import Aggregator
from eip.stores import SqliteStore
from eip.stores._sqlite_file import SqliteFile
from eip.stores.base import ABSENT


@pytest.fixture
def statements() -> list[str]:
    return []


@pytest.fixture
async def file(tmp_path, statements):
    schema = "CREATE TABLE IF NOT EXISTS numbers (number INTEGER PRIMARY KEY);"
    made = SqliteFile(tmp_path / "it.sqlite", schema, collection="numbers", version=1, synchronous="NORMAL")
    made.open().set_trace_callback(statements.append)
    yield made
    await made.aclose()


def insert(db: sqlite3.Connection, *numbers: int) -> int:
    for number in numbers:
        db.execute("INSERT INTO numbers VALUES (?)", (number,))
    return len(numbers)


async def test_writes_that_come_together_are_one_transaction_without_savepoints(file, statements):
    writes = (file.write(insert, number) for number in range(10))
    assert await asyncio.gather(*writes) == [1] * 10
    assert len(statements) == 12  # BEGIN, each, COMMIT


async def test_a_write_that_fails_takes_back_what_it_did_and_nothing_else(file, statements):
    writes = [file.write(insert, *each) for each in ((1,), (2, 1), (3, 4))]
    one, two, three = await asyncio.gather(*writes, return_exceptions=True)
    assert (one, three) == (1, 2)
    assert isinstance(two, StoreError)
    assert not two.transient
    assert await file.rows("SELECT number FROM numbers") == [(1,), (3,), (4,)]
    assert statements.count("COMMIT") == 1
    assert await file.write(insert, 2) == 1


async def test_a_read_that_fails_beside_writes_takes_nothing_back(file, statements):
    calls = [file.write(insert, 1), file.rows("SELECT nothing FROM numbers")]
    one, two = await asyncio.gather(*calls, return_exceptions=True)
    assert one == 1
    assert isinstance(two, StoreError)
    assert "ROLLBACK" not in statements
    assert await file.rows("SELECT number FROM numbers") == [(1,)]


async def test_a_file_that_was_replaced_is_left_for_the_one_in_its_place(tmp_path):
    """Two processes, of which one wrote to the removed file, and only it saw that: both held the same claim."""
    path = tmp_path / "state.sqlite"
    async with SqliteStore(path) as one, SqliteStore(path) as other:
        await one.put("before", b"1")
        for each in tmp_path.iterdir():
            each.unlink()
        assert await one.get("before") is None
        assert await other.put("claim", b"other", version=ABSENT)
        assert await one.put("claim", b"one", version=ABSENT) is None
        (tmp_path / "restored.sqlite").write_bytes(path.read_bytes())
        for each in tmp_path.glob("state*"):
            each.unlink()
        (tmp_path / "restored.sqlite").rename(path)
        assert await one.put("restored", b"1")
        assert await other.get("restored")


async def test_a_log_that_was_removed_is_left_and_loses_nothing(tmp_path):
    """Its process went on to write to it; another saw none of its claims, and lost those that it made itself."""
    path = tmp_path / "state.sqlite"
    async with SqliteStore(path) as store:
        await store.put("before", b"1")
        for suffix in ("-wal", "-shm"):
            (tmp_path / f"state.sqlite{suffix}").unlink()
        assert await store.put("claim", b"1", version=ABSENT)
        code = """if True:
            import asyncio, sys
            from eip.stores import SqliteStore
            store = SqliteStore(sys.argv[1])
            print([asyncio.run(store.put(key, b"2", version="")) for key in ("before", "claim")])
        """
        other = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
        assert other.stdout.split() == ["[None,", "None]"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("opened", [True, False])
def test_a_store_goes_on_on_both_sides_of_a_fork(tmp_path, opened):
    """A web server that forks its workers after loading the application: the child waited for ever."""
    store = SqliteStore(tmp_path / "state.sqlite")
    if opened:
        asyncio.run(store.put("parent", b"before"))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert store._file._connection is None  # nothing that is open was copied
            asyncio.run(asyncio.wait_for(store.put("child", b"1"), 20))
            asyncio.run(asyncio.wait_for(store.aclose(), 20))
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert asyncio.run(store.get("child"))
    assert asyncio.run(store.put("parent", b"after"))
    asyncio.run(store.aclose())


async def test_a_fork_waits_for_the_transaction_under_way(tmp_path):
    async with SqliteStore(tmp_path / "state.sqlite") as store:
        await store.put("k", b"0")
        writes = [asyncio.create_task(store.put(f"{number}", b"1")) for number in range(200)]
        await asyncio.sleep(0)
        store._file.before_fork()
        assert store._file._connection is None
        store._file.after_fork(in_child=False)
        assert None not in await asyncio.gather(*writes)


async def test_a_row_that_is_not_ours_hides_no_others(tmp_path):
    """A key that is not UTF-8 failed what is due of the whole collection, a part's name all parts of its key."""
    async with SqliteStore(tmp_path / "it.sqlite") as store:
        await store.put("k", b"1", due=2.0)
        await store.put_part("k", "p", b"part")
        other = sqlite3.connect(tmp_path / "it.sqlite")
        row = "(CAST(X'FF' AS TEXT), X'00', CAST(X'FF' AS TEXT), 1.0, NULL)"
        other.execute(f"INSERT INTO eip (key, value, version, due, expires_at) VALUES {row}")
        other.execute("INSERT INTO eip_parts (key, part, value) VALUES ('k', CAST(X'FF' AS TEXT), X'00')")
        other.execute("INSERT INTO eip_parts (key, part, value) VALUES ('k', 'eip:sha256:ab', X'00')")
        other.commit()
        other.close()
        due = await store.due(5.0)
        assert due[1:] == ["k"]
        assert await store.get(due[0]) is None
        assert await store.next_due() == 1.0
        assert (await store.parts("k"))["p"] == b"part"


async def test_a_key_that_is_not_utf_8_stops_no_aggregator(tmp_path):
    sent: list[Message] = []

    class Out(Sender):
        name = "out"

        async def send(self, *messages: Message) -> None:
            sent.extend(messages)

    async with SqliteStore(tmp_path / "it.sqlite") as store:
        aggregator = Aggregator(store, output=Out(), deadline=1)
        await aggregator(Message("kept", correlation_id="g"))
        other = sqlite3.connect(tmp_path / "it.sqlite")
        row = "(CAST(X'FF' AS TEXT), X'00', 'v', 1.0, NULL)"
        other.execute(f"INSERT INTO eip (key, value, version, due, expires_at) VALUES {row}")
        other.commit()
        other.close()
        async with aggregator:
            while not sent:
                await asyncio.sleep(1)
    assert sent[0].body == ["kept"]
