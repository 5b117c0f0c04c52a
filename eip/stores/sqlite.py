"""A store in an SQLite file, shared by the processes of one machine."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from eip import clock
from eip._ids import new_id
from eip.errors import ConfigurationError
from eip.stores._named import NamedStore
from eip.stores._sqlite_file import SqliteFile
from eip.stores.base import ABSENT, Record

__all__ = ["SqliteStore"]

_VERSION: Final = 2
"""Version of the schema. 1: releases before 1.0 did not note it; the tables are the same."""
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS "{name}" (
    key TEXT PRIMARY KEY, value BLOB NOT NULL, version TEXT NOT NULL, due REAL, expires_at REAL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS "{name}_due" ON "{name}" (due) WHERE due IS NOT NULL;
CREATE INDEX IF NOT EXISTS "{name}_expires" ON "{name}" (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS "{name}_parts" (
    key TEXT NOT NULL, part TEXT NOT NULL, value BLOB NOT NULL, expires_at REAL, PRIMARY KEY (key, part)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS "{name}_parts_expire" ON "{name}_parts" (expires_at) WHERE expires_at IS NOT NULL;
"""
_LIVE: Final = "coalesce(expires_at > ?, 1)"
_INSERT: Final = 'INSERT INTO "{name}" (key, value, version, due, expires_at) VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) '
_SET: Final = "value = excluded.value, version = excluded.version, due = excluded.due, expires_at = excluded.expires_at"
_STATEMENTS: Final = {
    "get": """SELECT value, version FROM "{name}" WHERE key = ? AND {live}""",
    "create": _INSERT + "DO NOTHING",
    "write": _INSERT + f"DO UPDATE SET {_SET}",
    "replace": """UPDATE "{name}" SET value = ?, version = ?, due = ?, expires_at = ?
        WHERE key = ? AND version = ? AND {live}""",
    "delete": """DELETE FROM "{name}" WHERE key = ? AND {live} AND coalesce(version = ?, 1)""",
    "bury": """DELETE FROM "{name}" WHERE key = ? AND expires_at <= ?""",
    "parts": """SELECT part, value FROM "{name}_parts" WHERE key = ? AND {live}""",
    "count_parts": """SELECT count(*) FROM "{name}_parts" WHERE key = ?""",
    "put_part": """INSERT INTO "{name}_parts" (key, part, value, expires_at) VALUES (?, ?, ?, ?)
        ON CONFLICT (key, part) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at""",
    "delete_parts": """DELETE FROM "{name}_parts" WHERE key = ?""",
    "due": """SELECT key FROM "{name}" WHERE due <= ? AND {live} ORDER BY due LIMIT ?""",
    "next_due": """SELECT due FROM "{name}" WHERE due IS NOT NULL AND {live} ORDER BY due LIMIT 1""",
    "tidy_parts": """DELETE FROM "{name}_parts"
        WHERE expires_at <= ? OR key IN (SELECT key FROM "{name}" WHERE expires_at <= ?)""",
    "tidy": """DELETE FROM "{name}" WHERE expires_at <= ?""",
}
_TIDY: Final = 100
"""Writes between removals of what has expired."""


class SqliteStore(NamedStore):
    """Records in a table of an SQLite database; what was written survives a kill of the process.

    Work is done in one thread of its own, so that a slow disk does not hold the event loop up; calls that come
    together share a transaction. The file is made at the first write. One of a later schema version is refused.

    Args:
        path: Path of the database.
        name: Name of the collection: a table, and one for parts; letters, digits and ``_``.
        synchronous: ``"NORMAL"`` survives the process, ``"FULL"`` the machine's power as well, at a disk sync a commit.

    Raises:
        ConfigurationError: the name or ``synchronous`` is invalid.
    """

    def __init__(self, path: Path | str, name: str = "eip", *, synchronous: str = "NORMAL") -> None:
        if not name.isidentifier() or not name.isascii():
            raise ConfigurationError(f"name must be letters, digits and _, got {name!r}")
        self._sql = {key: text.format(name=name, live=_LIVE) for key, text in _STATEMENTS.items()}
        self._writes = 0
        self._file = SqliteFile(
            path, _SCHEMA.format(name=name), collection=name, version=_VERSION, synchronous=synchronous
        )

    @override
    def __repr__(self) -> str:
        return f"<SqliteStore {self._file!r}>"

    @override
    async def next_due(self) -> float | None:
        rows = await self._file.rows(self._sql["next_due"], clock.now())
        return float(rows[0][0]) if rows else None

    @override
    async def aclose(self) -> None:
        await self._file.aclose()

    @override
    async def _get(self, name: str) -> Record | None:
        rows = await self._file.rows(self._sql["get"], name, clock.now())
        return Record(*rows[0]) if rows else None

    @override
    async def _put(
        self, name: str, value: bytes, version: str | None, due: float | None, expires_at: float | None
    ) -> str | None:
        made = new_id()
        done = await self._file.write(self._write, (name, value, made, due, expires_at), version, clock.now())
        return made if done else None

    @override
    async def _delete(self, name: str, version: str | None) -> bool:
        return await self._file.write(self._remove, name, version, clock.now())

    @override
    async def _put_part(self, name: str, part: str, value: bytes, expires_at: float | None) -> int:
        return await self._file.write(self._write_part, (name, part, value, expires_at), clock.now())

    @override
    async def _parts(self, name: str) -> dict[str, bytes]:
        return await self._file.read(self._read_parts, name, clock.now())

    @override
    async def _delete_parts(self, name: str) -> None:
        await self._file.execute(self._sql["delete_parts"], name)

    @override
    async def _due(self, now: float, limit: int) -> list[str]:
        return [key for (key,) in await self._file.rows(self._sql["due"], now, clock.now(), limit)]

    # In the thread.

    def _write(self, db: sqlite3.Connection, row: tuple[Any, ...], version: str | None, now: float) -> bool:
        self._tidy(db, now)
        if version not in (None, ABSENT):
            key, *values = row
            return db.execute(self._sql["replace"], (*values, key, version, now)).rowcount == 1
        self._bury(db, row[0], now)
        return db.execute(self._sql["create" if version == ABSENT else "write"], row).rowcount == 1

    def _write_part(self, db: sqlite3.Connection, row: tuple[Any, ...], now: float) -> int:
        self._bury(db, row[0], now)
        db.execute(self._sql["put_part"], row)
        return int(db.execute(self._sql["count_parts"], row[:1]).fetchone()[0])

    def _read_parts(self, db: sqlite3.Connection, key: str, now: float) -> dict[str, bytes]:
        return dict(db.execute(self._sql["parts"], (key, now)).fetchall())

    def _bury(self, db: sqlite3.Connection, key: str, now: float) -> None:
        """Remove an expired record and its parts; parts without a record stay."""
        if db.execute(self._sql["bury"], (key, now)).rowcount:
            db.execute(self._sql["delete_parts"], (key,))

    def _remove(self, db: sqlite3.Connection, key: str, version: str | None, now: float) -> bool:
        if not db.execute(self._sql["delete"], (key, now, version)).rowcount:
            return False
        db.execute(self._sql["delete_parts"], (key,))
        return True

    def _tidy(self, db: sqlite3.Connection, now: float) -> None:
        self._writes += 1
        if self._writes % _TIDY == 0:
            db.execute(self._sql["tidy_parts"], (now, now))
            db.execute(self._sql["tidy"], (now,))
