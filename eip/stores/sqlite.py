"""A store in an SQLite file, shared by the processes of one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eip import clock
from eip._ids import new_id
from eip.errors import ConfigurationError
from eip.stores._sqlite_file import SqliteFile
from eip.stores.base import ABSENT, Record

__all__ = ["SqliteStore"]

_SCHEMA = """
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


class SqliteStore:
    """Records in a table of an SQLite database; what was written survives a kill of the process.

    Work is done in one thread of its own, so that a slow disk does not hold the event loop up.

    Args:
        path: the database's file.
        name: of the collection: a table, and one for parts; letters, digits and ``_``.
        synchronous: ``"NORMAL"`` survives the process, ``"FULL"`` the machine's power as well, at a disk sync a write.
    """

    def __init__(self, path: Path | str, name: str = "eip", *, synchronous: str = "NORMAL") -> None:
        if not name.isidentifier() or not name.isascii():
            raise ConfigurationError(f"a collection's name is letters, digits and _, not {name!r}")
        self._name, self._writes = name, 0
        self._file = SqliteFile(path, _SCHEMA.format(name=name), synchronous=synchronous)
        self._db, self._run = self._file.connection, self._file.run

    async def get(self, key: str) -> Record | None:
        """See `Store.get`."""
        row = await self._run(self._get, key, clock.now())
        return None if row is None else Record(*row)

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        version: str | None = None,
        due: float | None = None,
        expires_at: float | None = None,
    ) -> str | None:
        """See `Store.put`."""
        made = new_id()
        row = (key, value, made, due, expires_at)
        done = await self._run(self._put, row, version, clock.now())
        return made if done else None

    async def delete(self, key: str, *, version: str | None = None) -> bool:
        """See `Store.delete`."""
        return await self._run(self._delete, key, version, clock.now())

    async def put_part(self, key: str, part: str, value: bytes, *, expires_at: float | None = None) -> None:
        """See `Store.put_part`."""
        await self._run(self._put_part, (key, part, value, expires_at), clock.now())

    async def parts(self, key: str) -> dict[str, bytes]:
        """See `Store.parts`."""
        sql = f'SELECT part, value FROM "{self._name}_parts" WHERE key = ? AND coalesce(expires_at > ?, 1)'  # noqa: S608
        return dict(await self._run(self._file.rows, sql, (key, clock.now())))

    async def delete_parts(self, key: str) -> None:
        """See `Store.delete_parts`."""
        await self._run(self._db.execute, f'DELETE FROM "{self._name}_parts" WHERE key = ?', (key,))  # noqa: S608

    async def due(self, now: float, *, limit: int = 100) -> list[str]:
        """See `Store.due`."""
        live = "coalesce(expires_at > ?, 1)"
        sql = f'SELECT key FROM "{self._name}" WHERE due <= ? AND {live} ORDER BY due LIMIT ?'  # noqa: S608
        return [key for (key,) in await self._run(self._file.rows, sql, (now, clock.now(), limit))]

    async def next_due(self) -> float | None:
        """See `Store.next_due`."""
        sql = f'SELECT min(due) FROM "{self._name}" WHERE due IS NOT NULL AND coalesce(expires_at > ?, 1)'  # noqa: S608
        ((first,),) = await self._run(self._file.rows, sql, (clock.now(),))
        return None if first is None else float(first)

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        self._file.close()

    # In the thread.

    def _get(self, key: str, now: float) -> tuple[bytes, str] | None:
        sql = f'SELECT value, version FROM "{self._name}" WHERE key = ? AND coalesce(expires_at > ?, 1)'  # noqa: S608
        found: tuple[bytes, str] | None = self._db.execute(sql, (key, now)).fetchone()
        return found

    def _put(self, row: tuple[Any, ...], version: str | None, now: float) -> bool:
        with self._file.transaction():
            self._tidy(now)
            found = self._get(row[0], now)
            if version is not None and version != (ABSENT if found is None else found[1]):
                return False
            if found is None:
                self._bury(row[0], now)
            self._db.execute(f'INSERT OR REPLACE INTO "{self._name}" VALUES (?, ?, ?, ?, ?)', row)  # noqa: S608
            return True

    def _put_part(self, row: tuple[Any, ...], now: float) -> None:
        with self._file.transaction():
            self._bury(row[0], now)
            self._db.execute(f'INSERT OR REPLACE INTO "{self._name}_parts" VALUES (?, ?, ?, ?)', row)  # noqa: S608

    def _bury(self, key: str, now: float) -> None:
        """Remove an expired record with the parts that it had; parts without a record stay."""
        expired = f'DELETE FROM "{self._name}" WHERE key = ? AND expires_at <= ?'  # noqa: S608 - the name is checked
        if self._db.execute(expired, (key, now)).rowcount:
            self._db.execute(f'DELETE FROM "{self._name}_parts" WHERE key = ?', (key,))  # noqa: S608

    def _delete(self, key: str, version: str | None, now: float) -> bool:
        with self._file.transaction():
            found = self._get(key, now)
            if found is None or version not in (None, found[1]):
                return False
            for table in (self._name, f"{self._name}_parts"):
                self._db.execute(f'DELETE FROM "{table}" WHERE key = ?', (key,))  # noqa: S608
            return True

    def _tidy(self, now: float) -> None:
        """Every hundred writes, remove what has expired, with its parts."""
        self._writes += 1
        if self._writes % 100:
            return
        expired = f'SELECT key FROM "{self._name}" WHERE expires_at <= ?'  # noqa: S608
        self._db.execute(f'DELETE FROM "{self._name}_parts" WHERE key IN ({expired}) OR expires_at <= ?', (now, now))  # noqa: S608
        self._db.execute(f'DELETE FROM "{self._name}" WHERE expires_at <= ?', (now,))  # noqa: S608
