"""Change data capture on PostgreSQL: logical replication through a slot, with the ``pgoutput`` plugin it comes with.

The slot is read by SQL (pg_logical_slot_peek_binary_changes), which does not move it, and moved by
pg_replication_slot_advance once the changes were accepted. The server keeps its log for the slot, so nothing is missed
while no publisher runs; drop the slot where none will run any more, or the log grows.

Jobs that are older than their slot come first, as insertions: while writers wait for a moment, the slot is made and the
rows are written into the log behind its beginning (pg_logical_emit_message). From there on they are like any change:
read until confirmed.

Needs ``wal_level = logical``, and a role that may replicate and owns the table.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any, Final

import asyncpg

from eip._logging import get_logger
from examples.job_events.changes import CaptureError, Change, ChangeCapture, Position
from examples.job_events.database import TABLE, make_postgres_table
from examples.job_events.pgoutput import Committed, Decoder

__all__ = ["PostgresCapture"]

_log = get_logger("examples.job_events")

_PEEK: Final = """
SELECT data FROM pg_logical_slot_peek_binary_changes(
    $1, NULL, $2, 'proto_version', '1', 'publication_names', $3, 'messages', 'true'
)
"""
_ROWS: Final = 10_000
"""Messages of one peek, after which it ends with the transaction; the server holds them, this process a batch."""
_BEGUN: Final = "job_events_begun"
"""The table of slots whose log has the jobs that were older."""
_OWN_SLOT: Final = "FROM pg_replication_slots WHERE slot_name = $1 AND database = current_database()"
_EMIT: Final = f"""
SELECT pg_logical_emit_message(true, $1::text, to_json(job)::text) FROM {TABLE} AS job ORDER BY job_no
"""
_SLOT_TIMEOUT: Final = 10.0


class PostgresCapture(ChangeCapture):
    """The jobs that there were when the slot was made, and all changes since.

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
            self._pool = await asyncpg.create_pool(self._dsn, min_size=2, max_size=4)
            async with self._pool.acquire() as connection:
                await make_postgres_table(connection)
                # One process at a time; the lock is the connection's, as no transaction may hold a slot's making up.
                await connection.execute("SELECT pg_advisory_lock(hashtext($1))", self._slot)
                try:
                    await self._make_slot(connection)
                finally:
                    await connection.execute("SELECT pg_advisory_unlock(hashtext($1))", self._slot)
                identifier = await connection.fetchval("SELECT system_identifier::text FROM pg_control_system()")
            self.origin = f"pg{identifier}"

    async def _make_slot(self, connection: Any) -> None:
        """Publication, slot and, in its log, the jobs that there are; does nothing where all of that was done."""
        await connection.execute(f"CREATE TABLE IF NOT EXISTS {_BEGUN} (slot TEXT PRIMARY KEY)")
        begun = await connection.fetchval(f"SELECT count(*) FROM {_BEGUN} WHERE slot = $1", self._slot)
        status = await connection.fetchval(f"SELECT wal_status {_OWN_SLOT}", self._slot)
        if status == "lost":
            raise CaptureError(
                f"PostgreSQL: the slot {self._slot} was invalidated, and the log since then is lost:"
                f" SELECT pg_drop_replication_slot('{self._slot}'), and the next start begins with the jobs that there"
                " are then. Deletions in between are not in the log; raise max_slot_wal_keep_size to keep it for longer"
            )
        if begun and status:
            return
        if begun:
            _log.warning("slot_made_again", slot=self._slot, lost="deletions since the former slot was dropped")
        if status:  # made by a process that died before it came to the jobs: nothing was read from it
            await connection.execute("SELECT pg_drop_replication_slot($1)", self._slot)
        if not await connection.fetchval("SELECT 1 FROM pg_publication WHERE pubname = $1", self._slot):
            with_options = "WITH (publish = 'insert, update, delete, truncate')"
            await connection.execute(f'CREATE PUBLICATION "{self._slot}" FOR TABLE {TABLE} {with_options}')
        # A slot is made once all transactions under way have ended, and one of them may wait for the lock taken here:
        # the timeout ends that, and the publisher tries again.
        async with self._connections.acquire() as writer, writer.transaction():
            await writer.execute(f"LOCK TABLE {TABLE} IN SHARE MODE")
            create = "SELECT pg_create_logical_replication_slot($1, 'pgoutput')"
            await connection.execute(create, self._slot, timeout=_SLOT_TIMEOUT)
            await writer.execute(_EMIT, self._slot)
            await writer.execute(f"INSERT INTO {_BEGUN} VALUES ($1) ON CONFLICT DO NOTHING", self._slot)

    async def changes(self, most: int) -> AsyncGenerator[list[Change]]:
        self._ends.clear()
        batch: list[Change] = []
        decoder = Decoder(key="job_no", snapshot=self._slot)
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
        return "no slot" if size is None else f"{int(size):,} bytes of log"

    async def aclose(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    @property
    def _connections(self) -> Any:
        if self._pool is None:
            raise CaptureError("the capture is not open")
        return self._pool


_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what a transaction ends with whose connection was cut in the middle of a fetch
    OSError,
    TimeoutError,
)


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except _ERRORS as error:
        raise CaptureError(f"PostgreSQL: {str(error) or repr(error)}") from error
