"""Change data capture on PostgreSQL: logical replication through a slot, with the ``pgoutput`` plugin it comes with.

The slot is read by SQL (pg_logical_slot_peek_binary_changes), which does not move it, and moved by
pg_replication_slot_advance once the changes were accepted. The server keeps its log for the slot, so nothing is missed
while no publisher runs; drop the slot where none will run any more, or the log grows.

Needs ``wal_level = logical``, and a role that may replicate and owns the table.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any, Final

import asyncpg

from examples.job_events.changes import CaptureError, Change, ChangeCapture, Position
from examples.job_events.database import TABLE, make_postgres_table
from examples.job_events.pgoutput import Committed, Decoder

__all__ = ["PostgresCapture"]

_PEEK: Final = """
SELECT data FROM pg_logical_slot_peek_binary_changes($1, NULL, $2, 'proto_version', '1', 'publication_names', $3)
"""
_ROWS: Final = 10_000
"""Messages of one peek, after which it ends with the transaction; the server holds them, this process a batch."""


class PostgresCapture(ChangeCapture):
    """The changes since the slot was made; jobs that are older than their slot are not read.

    Args:
        dsn: of the database, ``postgresql://...``.
        slot: the name of the slot, and of the publication that it reads.
    """

    def __init__(self, dsn: str, *, slot: str = "job_events") -> None:
        self._dsn, self._slot = dsn, slot
        self._pool: Any = None
        self._ends: deque[Committed] = deque()

    async def open(self) -> None:
        with _failures():
            self._pool = await asyncpg.create_pool(self._dsn, min_size=2, max_size=3)
            async with self._pool.acquire() as connection:
                await make_postgres_table(connection)
                await self._make_slot(connection)
                identifier = await connection.fetchval("SELECT system_identifier::text FROM pg_control_system()")
            self.origin = f"pg{identifier}"

    async def _make_slot(self, connection: Any) -> None:
        """Publication and slot, in transactions of their own: a slot is not made where something was written."""
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext($1))", self._slot)
            if not await connection.fetchval("SELECT 1 FROM pg_publication WHERE pubname = $1", self._slot):
                with_options = "WITH (publish = 'insert, update, delete')"
                await connection.execute(f'CREATE PUBLICATION "{self._slot}" FOR TABLE {TABLE} {with_options}')
        if not await connection.fetchval("SELECT 1 FROM pg_replication_slots WHERE slot_name = $1", self._slot):
            try:
                await connection.execute("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", self._slot)
            except asyncpg.DuplicateObjectError:
                return  # another publisher was faster

    async def changes(self, most: int) -> AsyncGenerator[list[Change]]:
        self._ends.clear()
        batch: list[Change] = []
        decoder = Decoder(key="job_no")
        empty = True
        with _failures():
            async with self._connections.acquire() as connection, connection.transaction():
                looked_until = await connection.fetchval("SELECT pg_current_wal_flush_lsn()::text")
                async for row in connection.cursor(_PEEK, self._slot, _ROWS, self._slot, prefetch=most):
                    for item in decoder.decode(row["data"]):
                        if isinstance(item, Committed):
                            self._ends.append(item)
                            continue
                        if len(batch) == most:  # only now, so that the end of its last transaction was read
                            yield batch
                            batch = []
                        batch.append(item)
                        empty = False
                if batch:
                    yield batch
            if empty:  # what others wrote would otherwise be kept for this slot, and read again and again
                await self._advance(looked_until)

    async def confirm(self, position: Position) -> None:
        end = None
        while self._ends and self._ends[0].last <= position:
            end = self._ends.popleft().end
        if end is not None:
            with _failures():
                await self._advance(f"{end >> 32:X}/{end & 0xFFFFFFFF:X}")

    async def _advance(self, end: str) -> None:
        """Never back: an LSN behind the slot is refused."""
        sql = """
            SELECT pg_replication_slot_advance(slot_name, $2::text::pg_lsn) FROM pg_replication_slots
            WHERE slot_name = $1 AND confirmed_flush_lsn < $2::text::pg_lsn
        """
        async with self._connections.acquire() as connection:
            await connection.execute(sql, self._slot, end)

    async def behind(self) -> str:
        sql = """
            SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)
            FROM pg_replication_slots WHERE slot_name = $1
        """
        with _failures():
            async with self._connections.acquire() as connection:
                size = await connection.fetchval(sql, self._slot)
        return f"{int(size or 0):,} bytes of log"

    async def aclose(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    @property
    def _connections(self) -> Any:
        if self._pool is None:
            raise CaptureError("the capture is not open")
        return self._pool


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise CaptureError(f"PostgreSQL: {error}") from error
