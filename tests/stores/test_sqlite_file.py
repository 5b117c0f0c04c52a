"""Group commit in an SQLite file: what was asked for together is one transaction, and what fails fails alone."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from eip.errors import StoreError
from eip.stores._sqlite_file import SqliteFile


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
