"""A transactional outbox in PostgreSQL (extra ``postgres``); see `eip.stores.outbox`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import asyncpg
from typing_extensions import override

from eip import clock
from eip.stores._postgres_pool import PostgresPool, versioned
from eip.stores.outbox import Refused, SqlOutbox, Waiting, checked_name

__all__ = ["PostgresOutbox", "schema"]

_VERSION: Final = 2
"""Version of the schema. 1: releases before 1.0 did not note it; the tables are the same."""
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS "{name}" (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel text NOT NULL, group_id text, message bytea NOT NULL, written_at double precision NOT NULL, refused text
);
CREATE INDEX IF NOT EXISTS "{name}_order" ON "{name}" (channel, number);
CREATE INDEX IF NOT EXISTS "{name}_refused" ON "{name}" (channel, group_id, number) WHERE refused IS NOT NULL;
CREATE TABLE IF NOT EXISTS "{name}_relay" (
    one integer PRIMARY KEY CHECK (one = 1), owner text NOT NULL, until double precision NOT NULL
);
"""
_STATEMENTS: Final = {
    "lead": """INSERT INTO "{name}_relay" AS t (one, owner, until) VALUES (1, $1, $2) ON CONFLICT (one) DO UPDATE
        SET owner = excluded.owner, until = excluded.until WHERE t.owner = excluded.owner OR t.until <= $3
        RETURNING 1""",
    "resign": """DELETE FROM "{name}_relay" WHERE owner = $1""",
    "waiting": """SELECT number, message FROM "{name}" o WHERE channel = $1 AND refused IS NULL AND ($3 OR NOT EXISTS (
            SELECT FROM "{name}" r WHERE r.channel = o.channel AND r.group_id = o.group_id AND r.number < o.number
            AND r.refused IS NOT NULL)) ORDER BY number LIMIT $2""",
    "sent": """DELETE FROM "{name}" WHERE number = ANY($1::bigint[])""",
    "refuse": """UPDATE "{name}" SET refused = $2 WHERE number = $1""",
    "refused": """SELECT number, channel, group_id, refused, message FROM "{name}" WHERE refused IS NOT NULL
        ORDER BY number LIMIT $1""",
    "retry": """UPDATE "{name}" SET refused = NULL
        WHERE refused IS NOT NULL AND ($1::bigint[] IS NULL OR number = ANY($1::bigint[])) RETURNING 1""",
    "drop": """DELETE FROM "{name}" WHERE refused IS NOT NULL AND number = ANY($1::bigint[]) RETURNING 1""",
    "unsent": """SELECT channel, count(*) FROM "{name}" GROUP BY channel""",
}


def schema(name: str = "eip_outbox") -> str:
    """The SQL that makes an outbox's tables, for those whose migrations make them."""
    return versioned(_SCHEMA.format(name=checked_name(name)), name, _VERSION)


class PostgresOutbox(SqlOutbox):
    """An outbox in PostgreSQL 11 or newer, beside the user's own tables.

        outbox = PostgresOutbox(pool)
        async with pool.acquire() as connection, connection.transaction():   # the user's own
            await connection.execute("INSERT INTO orders ...")
            await outbox.add(connection, "orders", Message(order, group_id=order.id))

        async with sessions.begin() as session:                              # or SQLAlchemy's, or psycopg's
            session.add(Order(...))
            await outbox.add(session, "orders", Message(order, group_id=order.id))

    The order within a group is that of writing. Of transactions that write to one group at the same time it is
    undefined, unless something makes them wait for each other: an update of the row that the group stands for does.

    Args:
        pool: an `asyncpg.Pool`, which stays the caller's; or a DSN, for which it makes one, and closes it.
        name: of the outbox: its table, and one for its relays; letters, digits and ``_``.
        create: make the tables at the first call, where they are missing; otherwise `schema` tells how.
    """

    def __init__(self, pool: asyncpg.Pool | str, name: str = "eip_outbox", *, create: bool = True) -> None:
        super().__init__(name)
        self._pool = PostgresPool(pool, schema(name), collection=name, version=_VERSION, create=create)
        self._sql = {key: text.format(name=name) for key, text in _STATEMENTS.items()}
        self.insert: str = self._insert.numbered
        """The statement that writes an `eip.stores.outbox.outbox_row`, for clients that `add` does not know."""

    @override
    async def create(self) -> None:
        """Make the tables now, where they are missing; otherwise the first call of a relay does."""
        await self._fetch("unsent")

    def __repr__(self) -> str:
        return f"<PostgresOutbox {self._pool!r}>"

    @override
    async def lead(self, owner: str, until: float) -> bool:
        return bool(await self._fetch("lead", owner, until, clock.now()))

    @override
    async def resign(self, owner: str) -> None:
        await self._fetch("resign", owner)

    @override
    async def waiting(self, channel: str, *, limit: int, skip_refused: bool) -> Sequence[Waiting]:
        return [Waiting(*row) for row in await self._fetch("waiting", channel, limit, skip_refused)]

    @override
    async def sent(self, numbers: Sequence[int]) -> None:
        await self._fetch("sent", numbers)

    @override
    async def refuse(self, number: int, reason: str) -> None:
        await self._fetch("refuse", number, reason)

    @override
    async def refused(self, *, limit: int = 100) -> Sequence[Refused]:
        return [Refused(*row) for row in await self._fetch("refused", limit)]

    @override
    async def retry(self, numbers: Sequence[int] | None = None) -> int:
        return len(await self._fetch("retry", numbers))

    @override
    async def drop(self, numbers: Sequence[int]) -> int:
        return len(await self._fetch("drop", numbers))

    @override
    async def unsent(self) -> dict[str, int]:
        return {row[0]: row[1] for row in await self._fetch("unsent")}

    async def aclose(self) -> None:
        """Close the pool, if it was made here. Idempotent."""
        await self._pool.aclose()

    async def _fetch(self, statement: str, *arguments: Any) -> list[Any]:
        return await self._pool.fetch(self._sql[statement], *arguments)
