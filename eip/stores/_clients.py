"""The clients whose connections and sessions are known, each with its way to execute a statement.

A client that the program has not imported cannot have made the connection, so none is imported here.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import Any, Final

from typing_extensions import override

from eip.stores._connections import Statement, UserConnection

__all__ = ["user_connection"]


class _Sqlite(UserConnection):
    is_async = False

    @override
    async def write(self, statement: Statement, rows: Sequence[Sequence[Any]]) -> None:
        self._connection.executemany(statement.question_marks, rows)

    @override
    async def fetch(self, statement: Statement, row: Sequence[Any]) -> list[Any]:
        found: list[Any] = self._connection.execute(statement.question_marks, row).fetchall()
        return found

    @override
    def transaction(self) -> AbstractAsyncContextManager[Any] | AbstractContextManager[Any]:
        if self._connection.in_transaction:
            return nullcontext()
        self._connection.execute("BEGIN IMMEDIATE")
        # Commits or rolls back; unlike the savepoints of others it does not notice that the handler did so before.
        return self._connection  # type: ignore[no-any-return]

    @override
    async def in_transaction(self) -> bool:
        return bool(self._connection.in_transaction)


class _Asyncpg(UserConnection):
    is_async = True

    @override
    async def write(self, statement: Statement, rows: Sequence[Sequence[Any]]) -> None:
        await self._connection.executemany(statement.numbered, rows)

    @override
    async def fetch(self, statement: Statement, row: Sequence[Any]) -> list[Any]:
        return list(await self._connection.fetch(statement.numbered, *row))

    @override
    def transaction(self) -> AbstractAsyncContextManager[Any]:
        if self._connection.is_in_transaction():
            return nullcontext()
        return self._connection.transaction()  # type: ignore[no-any-return]

    @override
    async def in_transaction(self) -> bool:
        return bool(self._connection.is_in_transaction())


class _Psycopg(UserConnection):
    """Inside of its own transaction, psycopg refuses a commit by the handler."""

    is_async = False

    @override
    async def write(self, statement: Statement, rows: Sequence[Sequence[Any]]) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(statement.formatted, rows)

    @override
    async def fetch(self, statement: Statement, row: Sequence[Any]) -> list[Any]:
        found: list[Any] = self._connection.execute(statement.formatted, row).fetchall()
        return found

    @override
    def transaction(self) -> AbstractAsyncContextManager[Any] | AbstractContextManager[Any]:
        return self._connection.transaction()  # type: ignore[no-any-return]

    @override
    async def in_transaction(self) -> bool:
        return int(self._connection.info.transaction_status) != 0  # PQTRANS_IDLE


class _AsyncPsycopg(_Psycopg):
    is_async = True

    @override
    async def write(self, statement: Statement, rows: Sequence[Sequence[Any]]) -> None:
        async with self._connection.cursor() as cursor:
            await cursor.executemany(statement.formatted, rows)

    @override
    async def fetch(self, statement: Statement, row: Sequence[Any]) -> list[Any]:
        cursor = await self._connection.execute(statement.formatted, row)
        return list(await cursor.fetchall())


class _SqlAlchemy(UserConnection):
    """A session or a connection: the two share the methods that are used here."""

    is_async = False

    @override
    async def write(self, statement: Statement, rows: Sequence[Sequence[Any]]) -> None:
        self._connection.execute(_text(statement), [_named(row) for row in rows])

    @override
    async def fetch(self, statement: Statement, row: Sequence[Any]) -> list[Any]:
        return list(self._connection.execute(_text(statement), _named(row)).all())

    @override
    def transaction(self) -> AbstractAsyncContextManager[Any] | AbstractContextManager[Any]:
        return nullcontext() if self._connection.in_transaction() else self._connection.begin()

    @override
    async def in_transaction(self) -> bool:
        session = hasattr(self._connection, "get_bind")
        return await _driver_in_transaction(self._connection.connection() if session else self._connection)


class _AsyncSqlAlchemy(_SqlAlchemy):
    is_async = True

    @override
    async def write(self, statement: Statement, rows: Sequence[Sequence[Any]]) -> None:
        await self._connection.execute(_text(statement), [_named(row) for row in rows])

    @override
    async def fetch(self, statement: Statement, row: Sequence[Any]) -> list[Any]:
        return list((await self._connection.execute(_text(statement), _named(row))).all())

    @override
    async def in_transaction(self) -> bool:
        session = hasattr(self._connection, "get_bind")
        connection = await self._connection.connection() if session else self._connection
        return await _driver_in_transaction(connection.sync_connection)


async def _driver_in_transaction(connection: Any) -> bool:
    """Whether SQLAlchemy's driver has a transaction open, which an engine in AUTOCOMMIT has not."""
    driver = connection.connection.driver_connection
    adapter = _adapter_of(driver)
    return True if adapter is None else await adapter(driver).in_transaction()


def _text(statement: Statement) -> Any:
    return sys.modules["sqlalchemy"].text(statement.named)


def _named(row: Sequence[Any]) -> dict[str, Any]:
    return {f"p{number}": each for number, each in enumerate(row, 1)}


_CLIENTS: Final[Sequence[tuple[str, tuple[str, ...], type[UserConnection]]]] = (
    ("asyncpg.connection", ("Connection",), _Asyncpg),
    ("asyncpg.pool", ("PoolConnectionProxy",), _Asyncpg),
    ("psycopg", ("AsyncConnection",), _AsyncPsycopg),
    ("psycopg", ("Connection",), _Psycopg),
    ("sqlalchemy.ext.asyncio", ("AsyncConnection", "AsyncSession", "async_scoped_session"), _AsyncSqlAlchemy),
    ("sqlalchemy.engine", ("Connection",), _SqlAlchemy),
    ("sqlalchemy.orm", ("Session", "scoped_session"), _SqlAlchemy),
)
"""By module and class, how a connection is used."""


def user_connection(connection: object) -> UserConnection:
    """The connection, as statements are executed on it.

    Raises:
        TypeError: it is of no client that is known here.
    """
    adapter = _adapter_of(connection)
    if adapter is None:
        raise TypeError(
            "connection must be a connection of asyncpg, psycopg or sqlite3, or a session or connection of SQLAlchemy, "
            f"got {type(connection).__module__}.{type(connection).__qualname__}"
        )
    return adapter(connection)


def _adapter_of(connection: object) -> type[UserConnection] | None:
    if isinstance(connection, sqlite3.Connection):
        return _Sqlite
    for module, names, adapter in _CLIENTS:
        if module in sys.modules and isinstance(
            connection, tuple(getattr(sys.modules[module], name) for name in names)
        ):
            return adapter
    return None
