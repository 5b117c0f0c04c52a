"""An SQLite file and the one thread that works on it, for what is kept in one."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from eip.errors import ConfigurationError, StoreError

__all__ = ["SqliteFile"]

T = TypeVar("T")


class SqliteFile:
    """A connection in WAL mode, and a thread, so that a slow disk does not hold the event loop up.

    Args:
        path: the database's file.
        schema: SQL that makes the tables where they are missing.
        synchronous: ``"NORMAL"`` survives the process, ``"FULL"`` the machine's power as well, at a disk sync a write.
    """

    def __init__(self, path: Path | str, schema: str, *, synchronous: str) -> None:
        if synchronous not in ("NORMAL", "FULL", "EXTRA"):
            raise ConfigurationError("synchronous is NORMAL, FULL or EXTRA")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"sqlite {Path(path).name}")
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
        """For functions that `run` calls."""
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute(f"PRAGMA synchronous={synchronous}")
        self.connection.executescript(schema)

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Call the function in the thread; raises `StoreError` where the database fails."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
        except (sqlite3.Error, RuntimeError) as error:  # RuntimeError: closed
            raise StoreError(f"SQLite: {error}") from error

    def rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        """All rows of a query; in the thread."""
        return self.connection.execute(sql, parameters).fetchall()

    def transaction(self) -> _Transaction:
        """Takes the write lock at once, so that what was read is still true when it is written; in the thread."""
        return _Transaction(self.connection)

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        self._thread.shutdown()
        self.connection.close()


class _Transaction:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._connection.execute("COMMIT" if kind is None else "ROLLBACK")
