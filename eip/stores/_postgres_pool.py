"""A pool of PostgreSQL connections that makes its tables at the first query, for what is kept in one."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

import asyncpg

from eip.errors import StoreError

__all__ = ["PostgresPool"]

_LOCK: Final = 0x6569705F73746F72
"""Of those who create tables at once: CREATE TABLE IF NOT EXISTS alone may fail then."""
_FAILURES: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)


class PostgresPool:
    """Runs statements; connects at the first one.

    Args:
        pool: an `asyncpg.Pool`, which stays the caller's; or a DSN, for which it makes one of up to ten connections,
            with statements limited to ten seconds, and closes it.
        schema: SQL that makes the tables where they are missing; None: they are there.
        last: the table that it makes last.
    """

    def __init__(self, pool: asyncpg.Pool | str, schema: str | None, *, last: str) -> None:
        self._schema, self._last = schema, last
        self._dsn = pool if isinstance(pool, str) else None
        self._pool: Any = None if isinstance(pool, str) else pool
        self._closed = False
        self._opening = asyncio.Lock()

    async def fetch(self, sql: str, *arguments: Any) -> list[Any]:
        """All rows of a statement; raises `StoreError` where the database fails."""
        try:
            pool = self._pool
            if self._schema is not None or pool is None:
                pool = await self._open()
            rows: list[Any] = await pool.fetch(sql, *arguments)
        except _FAILURES as error:
            raise StoreError(f"PostgreSQL: {type(error).__name__}: {error}") from error
        return rows

    async def _open(self) -> Any:
        """Connect and make the tables, once."""
        async with self._opening:
            if self._closed:
                raise asyncpg.InterfaceError("the store is closed")
            if self._pool is None:
                self._pool = await asyncpg.create_pool(self._dsn, min_size=0, max_size=10, command_timeout=10)
            if self._schema is not None:
                async with self._pool.acquire() as connection, connection.transaction():
                    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
                    # Making an index that is there already would wait for all who write.
                    if await connection.fetchval("SELECT to_regclass(quote_ident($1)) IS NULL", self._last):
                        await connection.execute(self._schema)
                self._schema = None
            return self._pool

    async def aclose(self) -> None:
        """Close the pool, if it was made here. Idempotent."""
        self._closed = True
        if self._dsn is not None and self._pool is not None:
            pool, self._pool = self._pool, None
            with suppress(*_FAILURES):
                await pool.close()
