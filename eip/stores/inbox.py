"""The table of an inbox: which messages were handled, noted in the transaction of their handler's own rows.

`SqliteInbox` has it in an SQLite database; `eip.stores.postgres_inbox` in PostgreSQL. `eip.patterns.inbox.Inbox` is the
receiver.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from eip.stores._connections import Statement, UserConnection
from eip.stores._sqlite_file import SqliteFile
from eip.stores.base import stored_name
from eip.stores.outbox import checked_name

__all__ = ["InboxTable", "SqliteInbox", "inbox_schema"]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS "{name}" (
    scope text NOT NULL, key text NOT NULL, handled_at double precision NOT NULL, PRIMARY KEY (scope, key)
);
CREATE INDEX IF NOT EXISTS "{name}_handled" ON "{name}" (handled_at);
"""
_BUSY_S: Final = 10.0
"""Seconds that SQLite waits for the write lock of another transaction."""


def inbox_schema(name: str) -> str:
    """The SQL that makes the table of an inbox; raises `ConfigurationError` where the name cannot be a table's."""
    return _SCHEMA.format(name=checked_name(name))


class InboxTable(ABC):
    """The records of an inbox. Those who wrote one in a transaction wait for its end: that decides who handles.

    Args:
        name: of the table; letters, digits and ``_``.

    Raises:
        ConfigurationError: the name is invalid.
    """

    VERSION: Final = 1
    """Version of the schema."""

    def __init__(self, name: str) -> None:
        self.name = checked_name(name)
        where = f'"{name}" WHERE scope = ? AND key = ?'
        self._remember = Statement(
            f'INSERT INTO "{name}" (scope, key, handled_at) VALUES (?, ?, ?) '  # noqa: S608
            "ON CONFLICT (scope, key) DO NOTHING RETURNING 1"
        )
        self._knows = Statement(f"SELECT 1 FROM {where}")  # noqa: S608
        self._forget = Statement(f"DELETE FROM {where} AND handled_at = ? RETURNING 1")  # noqa: S608
        self._purge = Statement(
            f'DELETE FROM "{name}" WHERE (scope, key) IN '  # noqa: S608
            f'(SELECT scope, key FROM "{name}" WHERE handled_at < ? ORDER BY handled_at LIMIT ?) RETURNING 1'
        )

    # By the user's connection; these raise what its client raises.

    async def remember(self, user: UserConnection, scope: str, key: str, at: float) -> bool:
        """Note a message as handled at that time, if the transaction commits; False where it is noted already.

        Waits while another transaction that noted it is open.
        """
        return bool(await user.fetch(self._remember, (scope, stored_name(key), at)))

    async def knows(self, user: UserConnection, scope: str, key: str) -> bool:
        """Whether a message is noted, as this transaction sees it."""
        return bool(await user.fetch(self._knows, (scope, stored_name(key))))

    async def forget(self, user: UserConnection, scope: str, key: str, at: float) -> None:
        """Remove the note of a message where it is the one of that time."""
        await user.fetch(self._forget, (scope, stored_name(key), at))

    # By connections of its own; these raise `StoreError`.

    @abstractmethod
    async def create(self) -> None:
        """Make the table, where it is missing."""

    @abstractmethod
    async def purge(self, before: float, *, limit: int) -> int:
        """Remove notes of messages that were handled before that time, the oldest first; returns how many."""

    @abstractmethod
    async def aclose(self) -> None:
        """Let go of the database. Idempotent."""


class SqliteInbox(InboxTable):
    """An inbox in an SQLite database, beside the user's own tables.

    Args:
        path: the database's file; the table is made where it is missing.
        name: of the table; letters, digits and ``_``.

    Raises:
        ConfigurationError: the name is invalid.
        StoreError: the file cannot be opened, or has a later schema version.
    """

    def __init__(self, path: Path | str, name: str = "eip_inbox") -> None:
        super().__init__(name)
        self._path = path
        schema = inbox_schema(name)
        self._file = SqliteFile(path, schema, collection=name, version=self.VERSION, synchronous="NORMAL")
        self._file.open()  # the user's own connection writes to the table

    def __repr__(self) -> str:
        return f"<SqliteInbox {self._file!r}>"

    @contextmanager
    def connect(self) -> Iterator[sqlite3.Connection]:
        """A connection to the same file, for one transaction."""
        with closing(sqlite3.connect(self._path, isolation_level=None, timeout=_BUSY_S)) as connection:
            yield connection

    @override
    async def create(self) -> None:
        """Do nothing: the table was made when the file was opened."""

    @override
    async def purge(self, before: float, *, limit: int) -> int:
        return len(await self._file.write(_fetch, self._purge.question_marks, (before, limit)))

    @override
    async def aclose(self) -> None:
        await self._file.aclose()


def _fetch(connection: sqlite3.Connection, sql: str, parameters: tuple[Any, ...]) -> list[Any]:
    return connection.execute(sql, parameters).fetchall()
