"""The agency's database: one old table of jobs, and how its own application writes to it."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import asyncpg

__all__ = [
    "POSTGRES_SCHEMA",
    "SQLITE_SCHEMA",
    "TABLE",
    "Database",
    "Edit",
    "PostgresDatabase",
    "SqliteDatabase",
    "database",
]

TABLE: Final = "tbl_job"

_COLUMNS: Final = """
    job_no BIGINT PRIMARY KEY,
    job_ttl TEXT,
    empl_nm TEXT,
    loc_txt TEXT,
    sal_minor BIGINT,
    sal_ccy TEXT,
    rec_note TEXT
"""

POSTGRES_SCHEMA: Final = f"CREATE TABLE IF NOT EXISTS {TABLE} ({_COLUMNS})"

_IMAGE: Final = ", ".join(f"'{name}', {{row}}.{name}" for name in (each.split()[0] for each in _COLUMNS.split(",")))
_OLD, _NEW = (f"json_object({_IMAGE.format(row=row)})" for row in ("OLD", "NEW"))


def _trigger(name: str, event: str, *changes: tuple[str, str, str]) -> str:
    inserts = "".join(
        f"INSERT INTO job_changes (operation, before, after) VALUES ('{kind}', {before}, {after});\n"
        for kind, before, after in changes
    )
    return f"CREATE TRIGGER IF NOT EXISTS {name} {event} BEGIN {inserts} END;\n"


SQLITE_SCHEMA: Final = (
    f"""
CREATE TABLE IF NOT EXISTS {TABLE} ({_COLUMNS});
CREATE TABLE IF NOT EXISTS job_changes (
    position INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice, though confirmed changes are removed
    operation TEXT NOT NULL,
    before TEXT,
    after TEXT,
    committed_at REAL NOT NULL DEFAULT ((julianday('now') - 2440587.5) * 86400.0)
);
CREATE TABLE IF NOT EXISTS job_changes_origin (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL);
INSERT OR IGNORE INTO job_changes_origin VALUES (1, lower(hex(randomblob(8))));
"""
    + _trigger("job_inserted", f"AFTER INSERT ON {TABLE}", ("insert", "NULL", _NEW))
    + _trigger("job_updated", f"AFTER UPDATE ON {TABLE} WHEN OLD.job_no = NEW.job_no", ("update", _OLD, _NEW))
    + _trigger(
        "job_renumbered",
        f"AFTER UPDATE ON {TABLE} WHEN OLD.job_no <> NEW.job_no",
        ("delete", _OLD, "NULL"),
        ("insert", "NULL", _NEW),
    )
    + _trigger("job_deleted", f"AFTER DELETE ON {TABLE}", ("delete", _OLD, "NULL"))
)


@dataclass(frozen=True, slots=True)
class Edit:
    """A statement of the agency's application: SQL that both databases take, with ``?`` for each value."""

    sql: str
    values: tuple[Any, ...]

    @classmethod
    def insert(cls, *row: Any) -> Self:
        """A job as a row: number, title, employer, place, salary in hundredths, currency, note."""
        return cls(f"INSERT INTO {TABLE} VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    @classmethod
    def set(cls, job: int, column: str, value: Any) -> Self:
        """One column of a job."""
        return cls(f"UPDATE {TABLE} SET {column} = ? WHERE job_no = ?", (value, job))

    @classmethod
    def raise_all(cls, employer: str, percent: int) -> Self:
        """The salaries of all jobs of an employer, in one statement."""
        return cls(f"UPDATE {TABLE} SET sal_minor = sal_minor * (100 + ?) / 100 WHERE empl_nm = ?", (percent, employer))

    @classmethod
    def delete(cls, job: int) -> Self:
        """A job that is filled."""
        return cls(f"DELETE FROM {TABLE} WHERE job_no = ?", (job,))


class Database(ABC):
    """The agency's database as its own application uses it; an async context manager."""

    @abstractmethod
    async def commit(self, *edits: Edit) -> None:
        """The edits in one transaction."""

    @abstractmethod
    async def jobs(self) -> dict[int, tuple[str, str, str]]:
        """By number, each offered job's title, employer and place; a job without a salary is not offered yet."""

    @abstractmethod
    async def numbers(self) -> set[int]:
        """The numbers of all jobs, offered or not."""

    @abstractmethod
    async def open(self) -> None:
        """Connect, and make the table where there is none."""

    @abstractmethod
    async def aclose(self) -> None:
        """Disconnect."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


_JOBS: Final = f"SELECT job_no, job_ttl, empl_nm, loc_txt FROM {TABLE} WHERE sal_minor IS NOT NULL"
_NUMBERS: Final = f"SELECT job_no FROM {TABLE}"


class SqliteDatabase(Database):
    """In a file; triggers note each change in a table of its own, in the same transaction."""

    def __init__(self, path: Path | str) -> None:
        self._path = path
        self._db: sqlite3.Connection

    async def open(self) -> None:
        self._db = connect_sqlite(self._path)

    async def commit(self, *edits: Edit) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for edit in edits:
                self._db.execute(edit.sql, edit.values)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    async def jobs(self) -> dict[int, tuple[str, str, str]]:
        return {number: tuple(rest) for number, *rest in self._db.execute(_JOBS)}

    async def numbers(self) -> set[int]:
        return {number for (number,) in self._db.execute(_NUMBERS)}

    async def aclose(self) -> None:
        self._db.close()


class PostgresDatabase(Database):
    """In PostgreSQL; its write-ahead log has the changes."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Any

    async def open(self) -> None:
        self._connection = await asyncpg.connect(self._dsn)
        await make_postgres_table(self._connection)

    async def commit(self, *edits: Edit) -> None:
        async with self._connection.transaction():
            for edit in edits:
                await self._connection.execute(_numbered(edit.sql), *edit.values)

    async def jobs(self) -> dict[int, tuple[str, str, str]]:
        return {number: tuple(rest) for number, *rest in await self._connection.fetch(_JOBS)}

    async def numbers(self) -> set[int]:
        return {number for (number,) in await self._connection.fetch(_NUMBERS)}

    async def aclose(self) -> None:
        await self._connection.close()


def database(where: str) -> Database:
    """The database of a PostgreSQL URL, or of an SQLite file's path."""
    return PostgresDatabase(where) if is_postgres(where) else SqliteDatabase(where)


def is_postgres(where: str) -> bool:
    """Whether that is a PostgreSQL URL."""
    return where.startswith(("postgresql://", "postgres://"))


def connect_sqlite(path: Path | str) -> sqlite3.Connection:
    """A connection to the file, its tables and triggers made; a commit survives a kill of the process."""
    db = sqlite3.connect(path, isolation_level=None, timeout=10.0)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    db.executescript(SQLITE_SCHEMA)
    return db


async def make_postgres_table(connection: Any) -> None:
    """The table, its old rows in the log as well, and no TRUNCATE: that would remove jobs without naming them.

    Does nothing where it is done: even an ALTER TABLE without effect would wait for whoever works with the table.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext($1))", TABLE)  # IF NOT EXISTS races
        if await connection.fetchval(_IS_MADE, TABLE):
            return
        await connection.execute(POSTGRES_SCHEMA)
        await connection.execute(f"ALTER TABLE {TABLE} REPLICA IDENTITY FULL")
        await connection.execute(_NO_TRUNCATE)


_IS_MADE: Final = """
SELECT 1 FROM pg_class AS made JOIN pg_trigger ON tgrelid = made.oid AND tgname = 'no_truncate'
WHERE made.oid = to_regclass($1) AND relreplident = 'f'
"""

_NO_TRUNCATE: Final = f"""
CREATE OR REPLACE FUNCTION {TABLE}_no_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'delete the jobs: whoever follows them would not hear of a TRUNCATE'; END $$;
CREATE OR REPLACE TRIGGER no_truncate BEFORE TRUNCATE ON {TABLE} EXECUTE FUNCTION {TABLE}_no_truncate();
"""


def _numbered(sql: str) -> str:
    """With PostgreSQL's ``$1`` for ``?``."""
    first, *rest = sql.split("?")
    return first + "".join(f"${number}{text}" for number, text in enumerate(rest, start=1))
