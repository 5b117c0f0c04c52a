"""Connections to one PostgreSQL by each client that an outbox and an inbox know, a transaction each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import asyncpg
import psycopg
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.pool import NullPool

from eip.stores._clients import user_connection
from eip.stores._connections import Statement, completed


@contextlib.asynccontextmanager
async def of_asyncpg(dsn):
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def of_asyncpg_pool(dsn):
    async with asyncpg.create_pool(dsn, min_size=0) as pool, pool.acquire() as connection, connection.transaction():
        yield connection


@contextlib.asynccontextmanager
async def of_async_psycopg(dsn):
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        yield connection


def of_sqlalchemy(make: Callable[[sa.Engine], Any], **options: Any) -> Callable[[str], Any]:
    """A synchronous session or connection."""

    @contextlib.contextmanager
    def opened(dsn):
        engine = sa.create_engine(dsn.replace("postgresql", "postgresql+psycopg"), poolclass=NullPool, **options)
        with make(engine) as connection:
            yield connection

    return opened


def of_async_sqlalchemy(driver: str, make: Callable[[Any], Any]) -> Callable[[str], Any]:
    @contextlib.asynccontextmanager
    async def opened(dsn):
        engine = create_async_engine(dsn.replace("postgresql", f"postgresql+{driver}"), poolclass=NullPool)
        async with make(engine) as connection:
            yield connection

    return opened


@contextlib.contextmanager
def scoped(engine):
    session = orm.scoped_session(orm.sessionmaker(engine))
    with session.begin():
        yield session
    session.remove()


@contextlib.asynccontextmanager
async def async_scoped(engine):
    session = async_scoped_session(async_sessionmaker(engine), scopefunc=asyncio.current_task)
    async with session.begin():
        yield session
    await session.remove()


CLIENTS: dict[str, Callable[[str], Any]] = {
    "asyncpg": of_asyncpg,
    "asyncpg's pool": of_asyncpg_pool,
    "psycopg": psycopg.connect,
    "psycopg, async": of_async_psycopg,
    "SQLAlchemy's session": of_sqlalchemy(lambda engine: orm.sessionmaker(engine).begin()),
    "SQLAlchemy's connection": of_sqlalchemy(lambda engine: engine.begin()),
    "SQLAlchemy's scoped session": of_sqlalchemy(scoped),
    "SQLAlchemy's async session": of_async_sqlalchemy("asyncpg", lambda engine: async_sessionmaker(engine).begin()),
    "SQLAlchemy's async connection": of_async_sqlalchemy("asyncpg", lambda engine: engine.begin()),
    "SQLAlchemy's async scoped session": of_async_sqlalchemy("asyncpg", async_scoped),
    "SQLAlchemy's async session on psycopg": of_async_sqlalchemy(
        "psycopg", lambda engine: async_sessionmaker(engine).begin()
    ),
}
"""By name, what opens a transaction, given a DSN: a context manager of the client's own kind."""


async def execute(connection: Any, sql: str, *parameters: Any) -> None:
    """Execute a statement with ``?`` for parameters."""
    await user_connection(connection).write(Statement(sql), [parameters])


def execute_now(connection: Any, sql: str, *parameters: Any) -> None:
    """The same on a synchronous connection."""
    completed(execute(connection, sql, *parameters))
