"""A store in PostgreSQL 11 or newer, shared by any number of processes (extra ``postgres``)."""

from __future__ import annotations

from typing import Any, Final

import asyncpg
from typing_extensions import override

from eip import clock
from eip._ids import new_id
from eip.errors import ConfigurationError
from eip.stores._named import NamedStore
from eip.stores._postgres_pool import PostgresPool, versioned
from eip.stores.base import ABSENT, Record

__all__ = ["PostgresStore", "schema"]

_VERSION: Final = 2
"""Version of the schema. 1: releases before 1.0 did not note it; the tables are the same."""
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS "{name}" (
    key text COLLATE "C" PRIMARY KEY, value bytea NOT NULL, version text NOT NULL,
    due double precision, expires_at double precision
);
CREATE INDEX IF NOT EXISTS "{name}_due" ON "{name}" (due) WHERE due IS NOT NULL;
CREATE INDEX IF NOT EXISTS "{name}_expires" ON "{name}" (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS "{name}_parts" (
    key text COLLATE "C", part text COLLATE "C", value bytea NOT NULL, expires_at double precision,
    PRIMARY KEY (key, part)
);
CREATE INDEX IF NOT EXISTS "{name}_parts_expire" ON "{name}_parts" (expires_at) WHERE expires_at IS NOT NULL;
"""
_SET: Final = "value = excluded.value, version = excluded.version, due = excluded.due, expires_at = excluded.expires_at"
_INSERT: Final = """INSERT INTO "{name}" AS t (key, value, version, due, expires_at) VALUES ($2, $3, $4, $5, $6)
    ON CONFLICT (key) """
_GATHERED: Final = {
    "get": """SELECT $1::int, value, version FROM "{name}" t WHERE key = $2 AND coalesce(t.expires_at > $3, true)""",
    "create": _INSERT + "DO NOTHING RETURNING $1::int",
    "write": _INSERT + f"DO UPDATE SET {_SET} WHERE coalesce(t.expires_at > $7, true) RETURNING $1::int",
    "replace": """UPDATE "{name}" t SET value = $3, version = $4, due = $5, expires_at = $6
        WHERE key = $2 AND version = $8 AND coalesce(t.expires_at > $7, true) RETURNING $1::int""",
    # Whoever removes an expired record removes its parts; one who comes second finds neither. Says whether a record is
    # there that has not expired: where none is, another may have removed the expired one and made none in its place.
    "purge": """WITH gone AS (DELETE FROM "{name}" WHERE key = $2 AND expires_at <= $3 RETURNING key),
        parts AS (DELETE FROM "{name}_parts" WHERE key IN (SELECT key FROM gone))
        SELECT $1::int, EXISTS (SELECT FROM "{name}" t WHERE key = $2 AND coalesce(t.expires_at > $3, true))""",
    "delete": """WITH gone AS (
            DELETE FROM "{name}" t WHERE key = $2 AND coalesce(t.expires_at > $3, true)
            AND coalesce(version = $4, true) RETURNING key
        ), parts AS (DELETE FROM "{name}_parts" WHERE key IN (SELECT key FROM gone)) SELECT $1::int FROM gone""",
    "put_part": """WITH gone AS (DELETE FROM "{name}" WHERE key = $2 AND expires_at <= $6 RETURNING key), parts AS (
            DELETE FROM "{name}_parts" WHERE key IN (SELECT key FROM gone) AND part <> $3
        ) INSERT INTO "{name}_parts" (key, part, value, expires_at) VALUES ($2, $3, $4, $5)
        ON CONFLICT (key, part) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at
        RETURNING $1::int""",
    "parts": """SELECT $1::int, part, value FROM "{name}_parts" t
        WHERE key = $2 AND coalesce(t.expires_at > $3, true)
        AND NOT EXISTS (SELECT FROM "{name}" r WHERE r.key = t.key AND r.expires_at <= $3)""",
    "delete_parts": """DELETE FROM "{name}_parts" WHERE key = $2 RETURNING $1::int""",
}
"""Statements on one key, see `PostgresPool.gathered`."""
_READS: Final = ("get", "parts", "due", "next_due")
_STATEMENTS: Final = {
    "due": """SELECT key FROM "{name}" t WHERE due <= $1 AND coalesce(t.expires_at > $2, true) ORDER BY due LIMIT $3""",
    "next_due": """SELECT due FROM "{name}" t WHERE due IS NOT NULL AND coalesce(t.expires_at > $1, true)
        ORDER BY due LIMIT 1""",
    "tidy": """WITH old AS (SELECT key FROM "{name}" WHERE expires_at <= $1 LIMIT 1000 FOR UPDATE SKIP LOCKED),
        gone AS (DELETE FROM "{name}" WHERE key IN (SELECT key FROM old) RETURNING key)
        DELETE FROM "{name}_parts" WHERE key IN (SELECT key FROM gone)""",
    "tidy_parts": """DELETE FROM "{name}_parts" WHERE (key, part) IN (
        SELECT key, part FROM "{name}_parts" WHERE expires_at <= $1 LIMIT 1000 FOR UPDATE SKIP LOCKED)""",
}
_MAX_NAME: Final = 48
_GRACE: Final = 60.0
"""Seconds after which what has expired is removed: never before its readers, whose clocks may differ, agree."""
_TIDY: Final = 200
"""Writes between removals of what has expired."""


def schema(name: str = "eip") -> str:
    """The SQL that makes a collection's tables, for those whose migrations make them."""
    if not name.isidentifier() or not name.isascii() or len(name) > _MAX_NAME:
        raise ConfigurationError(f"name must be up to {_MAX_NAME} letters, digits and _, got {name!r}")
    return versioned(_SCHEMA.format(name=name), name, _VERSION)


class PostgresStore(NamedStore):
    """Records in a table; what was written is as durable as the database's ``synchronous_commit`` makes it.

    Tables of a later schema version are refused.

    Args:
        pool: An `asyncpg.Pool`, which stays the caller's; or a DSN, for which it makes one of up to ten connections,
            with statements limited to ten seconds, and closes it.
        name: Name of the collection: a table, and one for parts; letters, digits and ``_``.
        create: Make the tables at the first write, where they are missing; otherwise `schema` gives the SQL.

    Raises:
        ConfigurationError: the name is invalid.
    """

    def __init__(self, pool: asyncpg.Pool | str, name: str = "eip", *, create: bool = True) -> None:
        self._pool = PostgresPool(pool, schema(name), collection=name, version=_VERSION, create=create)
        self._sql = {key: text.format(name=name) for key, text in (_GATHERED | _STATEMENTS).items()}
        self._writes = 0

    @override
    def __repr__(self) -> str:
        return f"<PostgresStore {self._pool!r}>"

    @override
    async def next_due(self) -> float | None:
        rows = await self._fetch("next_due", clock.now())
        return float(rows[0][0]) if rows else None

    @override
    async def aclose(self) -> None:
        await self._pool.aclose()

    @override
    async def _get(self, name: str) -> Record | None:
        rows = await self._gathered("get", name, clock.now())
        return Record(*rows[0][1:]) if rows else None

    @override
    async def _put(
        self, name: str, value: bytes, version: str | None, due: float | None, expires_at: float | None
    ) -> str | None:
        now, made = clock.now(), new_id()
        row = (name, value, made, due, expires_at)
        await self._tidy(now)
        if version not in (None, ABSENT):
            return made if await self._gathered("replace", *row, now, version) else None
        while True:
            done = await (self._gathered("create", *row) if version == ABSENT else self._gathered("write", *row, now))
            if done:
                return made
            ((_, live),) = await self._gathered("purge", name, now)
            if live and version == ABSENT:
                return None

    @override
    async def _delete(self, name: str, version: str | None) -> bool:
        return bool(await self._gathered("delete", name, clock.now(), version))

    @override
    async def _put_part(self, name: str, part: str, value: bytes, expires_at: float | None) -> None:
        await self._gathered("put_part", name, part, value, expires_at, clock.now())

    @override
    async def _parts(self, name: str) -> dict[str, bytes]:
        return {row[1]: row[2] for row in await self._gathered("parts", name, clock.now())}

    @override
    async def _delete_parts(self, name: str) -> None:
        await self._gathered("delete_parts", name)

    @override
    async def _due(self, now: float, limit: int) -> list[str]:
        return [row[0] for row in await self._fetch("due", now, clock.now(), limit)]

    async def _gathered(self, statement: str, name: str, *arguments: Any) -> list[Any]:
        return await self._pool.gathered(self._sql[statement], name, *arguments, writes=statement not in _READS)

    async def _fetch(self, statement: str, *arguments: Any) -> list[Any]:
        return await self._pool.fetch(self._sql[statement], *arguments, writes=statement not in _READS)

    async def _tidy(self, now: float) -> None:
        """Every `_TIDY` writes, remove expired records with their parts."""
        self._writes += 1
        if self._writes % _TIDY == 0:
            await self._fetch("tidy", now - _GRACE)
            await self._fetch("tidy_parts", now - _GRACE)
