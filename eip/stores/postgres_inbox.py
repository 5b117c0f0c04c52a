"""The table of an inbox in PostgreSQL (extra ``postgres``); see `eip.stores.inbox`."""

from __future__ import annotations

import asyncpg
from typing_extensions import override

from eip.stores._postgres_pool import PostgresPool, versioned
from eip.stores.inbox import InboxTable, inbox_schema

__all__ = ["PostgresInbox", "schema"]


def schema(name: str = "eip_inbox") -> str:
    """The SQL that makes an inbox's table, for those whose migrations make it."""
    return versioned(inbox_schema(name), name, InboxTable.VERSION)


class PostgresInbox(InboxTable):
    """An inbox in PostgreSQL 11 or newer, beside the user's own tables.

    Args:
        pool: an `asyncpg.Pool`, which stays the caller's; or a DSN, for which it makes one, and closes it.
        name: of the table; letters, digits and ``_``.
        create: make the table at the first call, where it is missing; otherwise `schema` tells how.

    Raises:
        ConfigurationError: the name is invalid.
    """

    def __init__(self, pool: asyncpg.Pool | str, name: str = "eip_inbox", *, create: bool = True) -> None:
        super().__init__(name)
        self._pool = PostgresPool(pool, schema(name), collection=name, version=self.VERSION, create=create)

    def __repr__(self) -> str:
        return f"<PostgresInbox {self._pool!r}>"

    @override
    async def create(self) -> None:
        await self._pool.fetch("SELECT 1")

    @override
    async def purge(self, before: float, *, limit: int) -> int:
        return len(await self._pool.fetch(self._purge.numbered, before, limit))

    @override
    async def aclose(self) -> None:
        await self._pool.aclose()
