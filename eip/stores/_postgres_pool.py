"""A pool of PostgreSQL connections that makes its tables at the first write, for what is kept in one.

Statements on single records that come together share a round trip and a commit, which is most of what each would cost
alone: `PostgresPool.gathered` has them pipelined, statement by statement as they are, so that each keeps its condition.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg

from eip.errors import StateError, StoreError
from eip.stores._gathering import Gatherers, Job

__all__ = ["PostgresPool"]

_LOCK: Final = 0x6569705F73746F72
"""Advisory lock for creating tables: CREATE TABLE IF NOT EXISTS may fail where two processes do so at once."""
_CONNECT_S: Final = 5.0
_STATEMENT_S: Final = 10.0
_LOCK_S: Final = 2.0
"""Seconds that a statement waits for a row that another transaction holds: that of a process whose machine lost its
power is open for hours. The other statements of the batch get their turn after it."""
_CALL_S: Final = 20.0
"""Seconds that one call may take, with waiting for a connection and connecting."""
_CLOSE_S: Final = 5.0
_BATCH: Final = 200
"""Statements that are sent together at most."""
_BATCHES: Final = 2
"""Batches under way at once; each takes a connection."""
_VERSIONS: Final = """
CREATE TABLE IF NOT EXISTS eip_schema (collection text PRIMARY KEY, version integer NOT NULL);
INSERT INTO eip_schema (collection, version) VALUES ('{collection}', {version})
    ON CONFLICT (collection) DO UPDATE SET version = excluded.version;
"""
_PERMANENT_CLASSES: Final = ("0A", "22", "23", "28", "2F", "34", "3D", "3F", "42", "44")
"""Classes of SQLSTATE after which the same call fails again: features, data, constraints, log-in, names, syntax
(PostgreSQL, appendix A). Connections, resources, transactions, operators' actions are the others."""
_PERMANENT: Final = (
    asyncpg.DataError,
    asyncpg.ClientConfigurationError,
    asyncpg.UnsupportedClientFeatureError,
    asyncpg.UnsupportedServerFeatureError,
    TypeError,
    ValueError,
    OverflowError,
)
_LEFT: Final = (
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidSQLStatementNameError,
    asyncpg.DuplicatePreparedStatementError,
)
"""After these, every call over the same connections fails: the address is another server's after a failover, or a
pooler between has another server's connection, with other prepared statements, behind each."""


@dataclass(slots=True, eq=False)
class _Statement(Job):
    sql: str
    key: str
    arguments: tuple[Any, ...]
    writes: bool


class PostgresPool:
    """Runs statements; connects at the first one. What only reads makes no tables, and finds nothing where none are.

    Args:
        pool: An `asyncpg.Pool`, which stays the caller's; or a DSN, for which it makes one of up to ten connections,
            with statements limited to ten seconds, and closes it.
        schema: SQL that makes the tables where they are missing.
        collection: What the tables are for; its schema's version is kept in the table ``eip_schema``.
        version: Version of the schema. Tables of an earlier one are migrated by `schema`, those of a later one refused.
        create: Make the tables at the first write, and migrate them; False: the user's migrations do.
    """

    def __init__(self, pool: asyncpg.Pool | str, schema: str, *, collection: str, version: int, create: bool) -> None:
        self._schema = schema
        self._collection, self._version, self._create = collection, version, create
        self._dsn = pool if isinstance(pool, str) else None
        self._pool: Any = None if isinstance(pool, str) else pool
        self._ready = self._lost = self._closed = False
        self._opening = asyncio.Lock()
        self._statements: Gatherers[_Statement] = Gatherers(self._start, max_jobs=_BATCH, max_batches=_BATCHES)

    def __repr__(self) -> str:
        return f"{self._collection} at {_server(self._dsn)}"

    async def fetch(self, sql: str, *arguments: Any, writes: bool = True) -> list[Any]:
        """Return all rows of a statement; raises `StoreError` where the database fails, or takes too long.

        Args:
            sql: the statement.
            arguments: its parameters.
            writes: missing tables are made before; False: there are no rows in tables that are missing.
        """
        self._check_open()
        unmade = self._may_be_unmade(writes=writes)
        try:
            async with asyncio.timeout(_CALL_S):
                rows: list[Any] = await self._on_connection(_fetch, sql, arguments, writes=writes)
        except Exception as error:  # noqa: BLE001 - whatever asyncpg, ssl or the network raises
            return await self._none_or_raise(error, unmade=unmade)
        return rows

    async def gathered(self, sql: str, key: str, *arguments: Any, writes: bool = True) -> list[Any]:
        """Like `fetch`, together with the other statements that were asked for meanwhile.

        Args:
            sql: reads or writes nothing but what is kept under the key. Its first parameter is an int that it returns
                in the first column of each row, by which the row finds its call; the second is the key.
            key: in whose order the statements of a batch are executed, so that no two processes deadlock.
            arguments: the other parameters.
            writes: see `fetch`.

        Returns:
            The rows, with that first column.
        """
        self._check_open()
        unmade = self._may_be_unmade(writes=writes)
        try:
            rows: list[Any] = await self._statements.run(_Statement(sql, key, arguments, writes))
        except Exception as error:  # noqa: BLE001 - as above
            return await self._none_or_raise(error, unmade=unmade)
        return rows

    def _may_be_unmade(self, *, writes: bool) -> bool:
        """Whether what begins now may find no tables: a read, before the first write has made them."""
        return self._create and not (writes or self._ready)

    async def _none_or_raise(self, error: Exception, *, unmade: bool) -> list[Any]:
        """No rows for a read of tables that were not made when it began; raises `StoreError` for any other failure.

        Tables that were dropped meanwhile are made again by the next call that writes.
        """
        if isinstance(error, StoreError):
            raise error
        failure = _store_error(error)
        if isinstance(error, _LEFT):
            with suppress(Exception):
                await self._pool.expire_connections()
        if self._create and isinstance(error, asyncpg.UndefinedTableError):
            if unmade:
                return []
            self._ready, self._lost, failure.transient = False, True, True
        raise failure from error

    def _check_open(self) -> None:
        if self._closed:
            raise StateError(f"PostgreSQL: {self!r} is closed")

    def _start(self, statements: Sequence[_Statement]) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_task(self._work_off(statements), name=f"PostgreSQL {self!r}")

    async def _work_off(self, statements: Sequence[_Statement]) -> None:
        async with asyncio.timeout(_CALL_S):
            await self._on_connection(_fetch_all, statements, writes=any(each.writes for each in statements))

    async def _on_connection(self, work: Any, *arguments: Any, writes: bool) -> Any:
        if not self._ready:
            await self._open(writes=writes)
        pool = self._pool
        connection = await pool.acquire()
        try:
            return await work(connection, *arguments)
        except (TimeoutError, asyncio.CancelledError):
            # Giving it back would wait until the server has confirmed that it cancelled the statement.
            connection.terminate()
            raise
        finally:
            await pool.release(connection)

    async def _open(self, *, writes: bool) -> None:
        """Connect, and check the tables, once; make them before the first write."""
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._dsn,
                    min_size=0,
                    max_size=10,
                    timeout=_CONNECT_S,
                    command_timeout=_STATEMENT_S,
                    init=_limit_locks,
                    reset=_keep,
                )
            if not self._ready:
                async with self._pool.acquire() as connection, connection.transaction():
                    self._ready = await self._prepare(connection, writes=writes)

    async def _prepare(self, connection: Any, *, writes: bool) -> bool:
        """Whether the tables are there, or are the user's affair."""
        found = await self._found_version(connection)
        if found == self._version and not self._lost:
            return True
        if found is not None and found > self._version:
            raise StoreError(
                f"PostgreSQL: {self._collection!r} has schema version {found}; this release reads up to "
                f"{self._version}: upgrade aioeip",
                transient=False,
            )
        if not self._create:
            return True
        if not writes and (found is None or self._lost):
            return False
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        if self._lost or await self._found_version(connection) != self._version:  # unless another process made them
            await connection.execute(self._schema)
        self._lost = False
        return True

    async def _found_version(self, connection: Any) -> int | None:
        """The version of the collection's schema; None for none, and for those of releases that did not note it."""
        if await connection.fetchval("SELECT to_regclass('eip_schema') IS NULL"):
            return None
        found: int | None = await connection.fetchval(
            "SELECT version FROM eip_schema WHERE collection = $1", self._collection
        )
        return found

    async def aclose(self) -> None:
        """Close the pool, if it was made here. Idempotent."""
        self._closed = True
        if self._dsn is None:
            return
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._statements.idle()  # may connect only now
                if self._pool is not None:
                    await self._pool.close()
        except Exception:  # noqa: BLE001 - a server that does not answer must not hold the end up
            if self._pool is not None:
                with suppress(Exception):
                    self._pool.terminate()


async def _fetch(connection: Any, sql: str, arguments: tuple[Any, ...]) -> list[Any]:
    rows: list[Any] = await connection.fetch(sql, *arguments)
    return rows


async def _fetch_all(connection: Any, statements: Sequence[_Statement]) -> None:
    """Execute the statements, those of one text together."""
    by_sql: defaultdict[str, list[_Statement]] = defaultdict(list)
    for each in statements:
        by_sql[each.sql].append(each)
    for sql, batch in by_sql.items():
        batch.sort(key=lambda each: each.key)
        try:
            await _fetch_batch(connection, sql, batch)
        except asyncpg.PostgresError:
            # The batch is one transaction, so nothing has happened: each fails alone, or not at all.
            for each in batch:
                await _fetch_alone(connection, each)


async def _fetch_batch(connection: Any, sql: str, batch: Sequence[_Statement]) -> None:
    for each in batch:
        each.result = []
    calls = [(number, each.key, *each.arguments) for number, each in enumerate(batch)]
    rows = await (connection.fetchmany(sql, calls) if len(calls) > 1 else connection.fetch(sql, *calls[0]))
    for row in rows:
        batch[row[0]].result.append(row)
    for each in batch:  # it is committed, whatever becomes of the other texts
        each.settle()


async def _fetch_alone(connection: Any, statement: _Statement) -> None:
    try:
        statement.result = await connection.fetch(statement.sql, 0, statement.key, *statement.arguments)
    except asyncpg.PostgresError as error:
        statement.error = error
    statement.settle()


def _server(dsn: str | None) -> str:
    """Host and port of a DSN, which may hold a password."""
    if dsn is None:
        return "the given pool"
    try:
        return urlsplit(dsn).netloc.rpartition("@")[2] or "the default server"
    except ValueError:
        return "the given server"


def versioned(schema: str, collection: str, version: int) -> str:
    """The SQL of a schema, with the note of its version."""
    return schema + _VERSIONS.format(collection=collection, version=version)


async def _limit_locks(connection: Any) -> None:
    """Have statements wait for locks up to `_LOCK_S`, but where a pooler lets other clients have the connection."""
    setting = f"set_config('lock_timeout', '{round(_LOCK_S * 1000)}', false)"
    await connection.execute(f"SELECT {setting} WHERE pg_backend_pid() = {connection.get_server_pid()}")


async def _keep(connection: Any) -> None:
    """Reset nothing when a connection of our own pool is released: statements here leave no state behind."""


def _store_error(error: Exception) -> StoreError:
    state = getattr(error, "sqlstate", None)
    permanent = isinstance(error, _PERMANENT) or (isinstance(state, str) and state[:2] in _PERMANENT_CLASSES)
    transient = not permanent or isinstance(error, (*_LEFT, asyncpg.InvalidCachedStatementError))
    return StoreError(f"PostgreSQL: {type(error).__name__}: {str(error) or 'no answer in time'}", transient=transient)
