"""The table of a transactional outbox: messages that commit, or roll back, with the user's own rows.

`SqliteOutbox` has it in an SQLite database; `eip.stores.postgres_outbox` in PostgreSQL. Whatever client the user writes
with, `SqlOutbox.add` writes by the same connection. What was committed is sent by `eip.patterns.outbox.OutboxRelay`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from typing_extensions import override

from eip import clock
from eip.stores._outbox_table import Outbox, Refused, SqlOutbox, Waiting, checked_name, outbox_row
from eip.stores._sqlite_file import SqliteFile

__all__ = ["Outbox", "Refused", "SqlOutbox", "SqliteOutbox", "Waiting", "checked_name", "outbox_row"]

_VERSION: Final = 2
"""Version of the schema. 1: releases before 1.0 did not note it; the tables are the same."""
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS "{name}" (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    channel TEXT NOT NULL, group_id TEXT, message BLOB NOT NULL, written_at REAL NOT NULL, refused TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS "{name}_order" ON "{name}" (channel, number);
CREATE INDEX IF NOT EXISTS "{name}_refused" ON "{name}" (channel, group_id, number) WHERE refused IS NOT NULL;
CREATE TABLE IF NOT EXISTS "{name}_relay" (one INTEGER PRIMARY KEY CHECK (one = 1), owner TEXT, until REAL) STRICT;
"""


class SqliteOutbox(SqlOutbox):
    """An outbox in an SQLite database, beside the user's own tables.

        outbox = SqliteOutbox("shop.sqlite")
        with sqlite3.connect("shop.sqlite") as db:                     # the user's own connection and transaction
            db.execute("INSERT INTO orders ...")
            outbox.add(db, "orders", Message(order, group_id=order.id))

    Args:
        path: the database's file; the tables are made where they are missing.
        name: of the outbox: its table, and one for its relays; letters, digits and ``_``.

    Raises:
        ConfigurationError: the name is invalid.
        StoreError: the file cannot be opened, or has a later schema version.
    """

    def __init__(self, path: Path | str, name: str = "eip_outbox") -> None:
        super().__init__(name)
        self._file = SqliteFile(
            path, _SCHEMA.format(name=name), collection=name, version=_VERSION, synchronous="NORMAL"
        )
        self._file.open()  # the user's own connection writes to the tables
        self.insert: str = self._insert.question_marks
        """The statement that writes an `outbox_row`, for clients that `add` does not know."""

    def __repr__(self) -> str:
        return f"<SqliteOutbox {self._file!r}>"

    @override
    async def create(self) -> None:
        """Do nothing: the tables were made when the file was opened."""

    @override
    async def lead(self, owner: str, until: float) -> bool:
        sql = f"""INSERT INTO "{self._name}_relay" (one, owner, until) VALUES (1, ?, ?) ON CONFLICT (one) DO UPDATE
            SET owner = excluded.owner, until = excluded.until WHERE owner IS excluded.owner OR until <= ?"""  # noqa: S608
        return await self._file.execute(sql, owner, until, clock.now()) == 1

    @override
    async def resign(self, owner: str) -> None:
        await self._file.execute(f'DELETE FROM "{self._name}_relay" WHERE owner = ?', owner)  # noqa: S608

    @override
    async def waiting(self, channel: str, *, limit: int, skip_refused: bool) -> Sequence[Waiting]:
        held = f"""AND NOT EXISTS (SELECT 1 FROM "{self._name}" r WHERE r.channel = o.channel
            AND r.group_id = o.group_id AND r.number < o.number AND r.refused IS NOT NULL)"""  # noqa: S608
        sql = f"""SELECT number, message FROM "{self._name}" o WHERE channel = ? AND refused IS NULL
            {"" if skip_refused else held} ORDER BY number LIMIT ?"""  # noqa: S608
        return [Waiting(*row) for row in await self._file.rows(sql, channel, limit)]

    @override
    async def sent(self, numbers: Sequence[int]) -> None:
        await self._execute_for(f'DELETE FROM "{self._name}" WHERE number', numbers)  # noqa: S608

    @override
    async def refuse(self, number: int, reason: str) -> None:
        await self._file.execute(f'UPDATE "{self._name}" SET refused = ? WHERE number = ?', reason, number)  # noqa: S608

    @override
    async def refused(self, *, limit: int = 100) -> Sequence[Refused]:
        sql = f"""SELECT number, channel, group_id, refused, message FROM "{self._name}"
            WHERE refused IS NOT NULL ORDER BY number LIMIT ?"""  # noqa: S608
        return [Refused(*row) for row in await self._file.rows(sql, limit)]

    @override
    async def retry(self, numbers: Sequence[int] | None = None) -> int:
        return await self._execute_for(
            f'UPDATE "{self._name}" SET refused = NULL WHERE refused IS NOT NULL AND number',  # noqa: S608
            numbers,
        )

    @override
    async def drop(self, numbers: Sequence[int]) -> int:
        return await self._execute_for(f'DELETE FROM "{self._name}" WHERE refused IS NOT NULL AND number', numbers)  # noqa: S608

    @override
    async def unsent(self) -> dict[str, int]:
        sql = f'SELECT channel, count(*) FROM "{self._name}" GROUP BY channel'  # noqa: S608
        return dict(await self._file.rows(sql))

    async def aclose(self) -> None:
        """Let go of the database. Idempotent."""
        await self._file.aclose()

    async def _execute_for(self, sql: str, numbers: Sequence[int] | None) -> int:
        if numbers is None:
            return await self._file.execute(f"{sql} IS NOT NULL")
        return await self._file.execute(f"{sql} IN ({','.join(map(str, map(int, numbers)))})")
