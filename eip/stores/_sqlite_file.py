"""An SQLite file and the one thread that works on it, for what is kept in one.

Jobs that come while the thread is busy are gathered, and share the next transaction: one sync of the disk for all of
them ("group commit"). None is answered before the commit. Where one fails, all are done once more, each with a
savepoint, so that it takes nothing else back.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from typing_extensions import override

from eip.errors import ConfigurationError, StateError, StoreError
from eip.stores._forks import ClosedAtForks, close_at_forks
from eip.stores._gathering import Gatherers, Job

__all__ = ["SqliteFile"]

T = TypeVar("T")

_BATCH: Final = 500
"""Jobs of one transaction at most, so that no job waits for long."""
_BUSY_S: Final = 10.0
"""Seconds that SQLite waits for the write lock of another process."""
_TRANSIENT: Final = frozenset(
    (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
    )
)
"""Primary result codes after which the same call may succeed (sqlite.org/rescode.html)."""
_LOCKS: Final = frozenset((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED))
_text: Final = partial(str, encoding="utf-8", errors="surrogateescape")
"""Reads text that is not UTF-8 as one with lone surrogates: one row of another program hides no others."""
_VERSIONS: Final = """
CREATE TABLE IF NOT EXISTS eip_schema (collection TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""


@dataclass(slots=True, eq=False)
class _Job(Job):
    work: Callable[..., Any]
    arguments: tuple[Any, ...]
    writes: bool


class SqliteFile(ClosedAtForks):
    """A connection in WAL mode, opened at the first job, and a thread, so that a slow disk does not hold the loop up.

    File and tables are made at the first write; what only reads before finds nothing. A file that took the place of the
    one that was open is found at the next job. No connection is open while the process forks.

    Args:
        path: Path of the database.
        schema: SQL that makes the tables where they are missing.
        collection: What the tables are for; its schema's version is kept in the table ``eip_schema``.
        version: Version of the schema. A file of an earlier one is migrated by `schema`, one of a later one refused.
        synchronous: ``"NORMAL"`` survives the process, ``"FULL"`` the machine's power as well, at a disk sync a commit.

    Raises:
        ConfigurationError: ``synchronous`` is none of NORMAL, FULL, EXTRA.
    """

    def __init__(self, path: Path | str, schema: str, *, collection: str, version: int, synchronous: str) -> None:
        if synchronous not in ("NORMAL", "FULL", "EXTRA"):
            raise ConfigurationError(f"synchronous must be NORMAL, FULL or EXTRA, got {synchronous!r}")
        self._path, self._schema, self._synchronous = path, schema, synchronous
        self._collection, self._version = collection, version
        self._thread = self._new_thread()
        self._connection: sqlite3.Connection | None = None
        self._files: Sequence[Path] = ()
        """The file that is open, its log, and what its processes share; the log holds the last commits."""
        self._identities: Sequence[tuple[int, int] | None] = ()
        self._working = threading.Lock()
        """Held while the connection is worked with."""
        self._closed = False
        self._gatherers: Gatherers[_Job] = Gatherers(self._start, max_jobs=_BATCH)
        close_at_forks(self)

    def __repr__(self) -> str:
        return f"{self._collection} in {self._path}"

    async def read(self, work: Callable[..., T], *arguments: Any) -> T:
        """Call ``work(connection, *arguments)`` in the thread; raises `StoreError` where the database fails."""
        result: T = await self._submit(work, arguments, writes=False)
        return result

    async def write(self, work: Callable[..., T], *arguments: Any) -> T:
        """Like `read`, inside a transaction that holds the write lock; returns once it is committed."""
        result: T = await self._submit(work, arguments, writes=True)
        return result

    async def rows(self, sql: str, *parameters: Any) -> list[Any]:
        """Return all rows of a query."""
        return await self.read(_rows, sql, parameters)

    async def execute(self, sql: str, *parameters: Any) -> int:
        """Execute a statement that writes; returns the number of rows that it changed."""
        return await self.write(_execute, sql, parameters)

    def open(self) -> sqlite3.Connection:
        """Connect and make the tables, where that was not done; raises `StoreError`."""
        try:
            with self._working:
                return self._open()
        except sqlite3.Error as error:
            raise _store_error(error) from error

    @override
    def before_fork(self) -> None:
        self._working.acquire()
        self._disconnect()

    @override
    def after_fork(self, *, in_child: bool) -> None:
        if in_child:
            self._thread = self._new_thread()
        self._working.release()

    async def aclose(self) -> None:
        """Close the file once the jobs under way are committed. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self._gatherers.idle()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)

    async def _submit(self, work: Callable[..., Any], arguments: tuple[Any, ...], *, writes: bool) -> Any:
        if self._closed:
            raise StateError(f"SQLite: {self._path} is closed")
        try:
            return await self._gatherers.run(_Job(work, arguments, writes))
        except (sqlite3.Error, OSError, RuntimeError, TypeError, ValueError, OverflowError) as error:
            raise _store_error(error) from error

    def _start(self, jobs: Sequence[_Job]) -> asyncio.Future[None]:
        return asyncio.get_running_loop().run_in_executor(self._thread, self._work_off, jobs)

    def _new_thread(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix=f"sqlite {Path(self._path).name}")

    # In the thread.

    def _work_off(self, jobs: Sequence[_Job]) -> None:
        """Do the jobs; raises what failed for all of them."""
        with self._working:
            self._leave_moved()
            self._do(jobs)

    def _do(self, jobs: Sequence[_Job]) -> None:
        try:
            if any(each.writes for each in jobs):
                _commit(self._open(), jobs)
            elif self._connection is not None or self._has_tables():
                _read(self._open(), jobs)
            else:
                with closing(sqlite3.connect(":memory:")) as empty:
                    empty.executescript(self._schema)
                    _read(empty, jobs)
        except sqlite3.Error as error:
            if _primary(error) not in _LOCKS:  # a file that was moved or mended is found by a new connection only
                self._disconnect()
            raise

    def _has_tables(self) -> bool:
        """Whether the file has the collection's tables; makes neither."""
        path = Path(self._path)
        if not path.exists():
            return not path.parent.is_dir()  # a wrong path: opening it raises the error
        tables = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_S)) as connection:
            return connection.execute(tables, (self._collection,)).fetchone() is not None

    def _leave_moved(self) -> None:
        """Disconnect from files that were removed or replaced: only this process would see what is written to them."""
        if self._connection is not None and self._identities != list(map(_identity, self._files)):
            # Of a file in its place, this removes nothing: SQLite sees that its own was moved. A log that was removed
            # is written to its file.
            self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=_BUSY_S)
        connection.text_factory = _text
        try:
            _set_wal(connection)
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
            self._migrate(connection)
            path = Path(self._path).resolve()
            self._files = [path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")]
            self._identities = list(map(_identity, self._files))
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        """Make what is missing, and note the schema's version; refuses a file of a later version."""
        found = _version(connection, self._collection)
        if found == self._version:
            return
        if found is not None and found > self._version:
            raise StoreError(
                f"SQLite: {self._collection!r} in {self._path} has schema version {found}; this release reads up to "
                f"{self._version}: upgrade aioeip",
                transient=False,
            )
        connection.executescript(f"BEGIN IMMEDIATE; {_VERSIONS} {self._schema}")
        note = "INSERT OR REPLACE INTO eip_schema (collection, version) VALUES (?, ?)"
        connection.execute(note, (self._collection, self._version))
        connection.execute("COMMIT")


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _set_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL mode; SQLite does not wait for other processes that do so at the same time."""
    until = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if _primary(error) not in _LOCKS or time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return


def _version(connection: sqlite3.Connection, collection: str) -> int | None:
    """The version of a collection's schema; None for none, and for those of releases that did not note it."""
    tables = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'eip_schema'"
    if connection.execute(tables).fetchone() is None:
        return None
    found = connection.execute("SELECT version FROM eip_schema WHERE collection = ?", (collection,)).fetchone()
    return None if found is None else int(found[0])


def _commit(connection: sqlite3.Connection, jobs: Sequence[_Job]) -> None:
    """Do the jobs in one transaction, which takes the write lock at once: what was read is true when it is written.

    A savepoint for each would be two of the five statements of a reply that is written, and for each statement the
    thread gives up the interpreter's lock, for which a busy event loop lets it wait.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
        if not all(_attempt(connection, job) or not job.writes for job in jobs):
            _roll_back(connection)
            connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                _attempt_alone(connection, job)
        connection.execute("COMMIT")
    except BaseException:
        _roll_back(connection)
        raise


def _roll_back(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):  # some errors have rolled back already
        connection.execute("ROLLBACK")


def _read(connection: sqlite3.Connection, jobs: Sequence[_Job]) -> None:
    for job in jobs:
        _attempt(connection, job)


def _attempt(connection: sqlite3.Connection, job: _Job) -> bool:
    """Attempt a job; whether it succeeded."""
    try:
        job.result, job.error = job.work(connection, *job.arguments), None
    except Exception as error:  # noqa: BLE001 - one job's failure is its own
        job.error = error
    return job.error is None


def _attempt_alone(connection: sqlite3.Connection, job: _Job) -> None:
    """Attempt a job; what it did before it failed is taken back. Raises where the transaction is lost."""
    connection.execute("SAVEPOINT job")
    if not _attempt(connection, job):
        if not connection.in_transaction and job.error is not None:  # full disk, I/O error: SQLite has rolled back
            raise job.error
        connection.execute("ROLLBACK TO job")
    connection.execute("RELEASE job")


def _rows(connection: sqlite3.Connection, sql: str, parameters: tuple[Any, ...]) -> list[Any]:
    return connection.execute(sql, parameters).fetchall()


def _execute(connection: sqlite3.Connection, sql: str, parameters: tuple[Any, ...]) -> int:
    return connection.execute(sql, parameters).rowcount


def _primary(error: BaseException) -> int | None:
    """The primary result code of an error of SQLite."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def _store_error(error: BaseException) -> StoreError:
    """Any error of SQLite, or of Python's module for it, as the store's own."""
    if isinstance(error, StoreError):
        return error
    code = _primary(error)
    transient = isinstance(error, (OSError, RuntimeError)) if code is None else code in _TRANSIENT
    return StoreError(f"SQLite: {type(error).__name__}: {error}", transient=transient)
