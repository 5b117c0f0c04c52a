"""The user's own connections and sessions: one way to execute a statement on each, in the transaction of their rows.

They are asynchronous in form; those of synchronous connections never wait, so that `completed` runs what is written
with them. `eip.stores._clients` has one for each client.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeAlias, TypeVar

__all__ = [
    "AsyncConnection",
    "Statement",
    "SyncConnection",
    "UserConnection",
    "completed",
    "entered",
]

_T = TypeVar("_T")

if TYPE_CHECKING:
    import psycopg
    import sqlalchemy as sa
    from sqlalchemy import orm
    from sqlalchemy.ext import asyncio as sa_asyncio

    class AsyncpgConnection(Protocol):
        """What tells a connection of asyncpg, which has no types, from others."""

        def is_in_transaction(self) -> bool: ...
        async def executemany(self, command: str, args: Any, *, timeout: float | None = None) -> None: ...  # noqa: ASYNC109

    SyncConnection: TypeAlias = (
        sqlite3.Connection | psycopg.Connection[Any] | sa.Connection | orm.Session | orm.scoped_session[Any]
    )
    AsyncConnection: TypeAlias = (
        AsyncpgConnection
        | psycopg.AsyncConnection[Any]
        | sa_asyncio.AsyncConnection
        | sa_asyncio.AsyncSession
        | sa_asyncio.async_scoped_session[Any]
    )
else:
    SyncConnection = AsyncConnection = Any


class Statement:
    """SQL with ``?`` for each parameter, in the form that each client wants.

    Args:
        text: holds no other question marks, per cent signs or colons.
    """

    def __init__(self, text: str) -> None:
        self.question_marks: Final = text
        self.numbered: Final = _styled(text, lambda number: f"${number}")
        self.formatted: Final = text.replace("?", "%s")
        self.named: Final = _styled(text, lambda number: f":p{number}")


def _styled(text: str, parameter: Callable[[int], str]) -> str:
    first, *others = text.split("?")
    return first + "".join(f"{parameter(number)}{each}" for number, each in enumerate(others, 1))


class UserConnection(ABC):
    """A connection or session of one client; raises what the client raises."""

    is_async: ClassVar[bool]

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @abstractmethod
    async def write(self, statement: Statement, rows: Sequence[Sequence[Any]]) -> None:
        """Execute the statement once for each row of parameters, of which there is at least one."""

    @abstractmethod
    async def fetch(self, statement: Statement, row: Sequence[Any]) -> list[Any]:
        """Return the rows of the statement's result."""

    @abstractmethod
    def transaction(self) -> AbstractAsyncContextManager[Any] | AbstractContextManager[Any]:
        """A transaction that commits at the end of the block; nothing where one is open: whoever opened it commits."""

    @abstractmethod
    async def in_transaction(self) -> bool:
        """Whether a transaction is open; asked after a statement was executed."""


def completed(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine that never waits to its end, and return its result."""
    try:
        work.send(None)
    except StopIteration as end:
        result: _T = end.value
        return result
    work.close()
    raise RuntimeError("the coroutine waits, which synchronous code cannot")


@asynccontextmanager
async def entered(
    manager: AbstractAsyncContextManager[_T] | AbstractContextManager[_T],
) -> AsyncIterator[_T]:
    """Enter a context manager of either kind; one that is both, as those of asyncpg's pool, is asynchronous."""
    if isinstance(manager, AbstractAsyncContextManager):
        async with manager as value:
            yield value
    else:
        with manager as value:
            yield value
