"""Change data capture on SQLite: triggers write each change into a table, in the transaction that makes it.

One writer at a time means that the order of the positions is the order of the commits.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from examples.job_events.changes import CaptureError, Change, ChangeCapture, Operation, Position, Row
from examples.job_events.database import connect_sqlite

__all__ = ["SqliteCapture"]


class SqliteCapture(ChangeCapture):
    """The table of changes is the slot: a confirmed change is removed from it."""

    def __init__(self, path: Path | str) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None

    async def open(self) -> None:
        with _failures():
            self._db = connect_sqlite(self._path)
            ((self.origin,),) = self._db.execute("SELECT id FROM job_changes_origin")

    async def changes(self, most: int) -> AsyncGenerator[list[Change]]:
        after = 0
        sql = "SELECT * FROM job_changes WHERE position > ? ORDER BY position LIMIT ?"
        while True:
            with _failures():
                rows = self._open.execute(sql, (after, most)).fetchall()
            if not rows:
                return
            after = rows[-1][0]
            yield [_change(*row) for row in rows]

    async def confirm(self, position: Position) -> None:
        with _failures():
            self._open.execute("DELETE FROM job_changes WHERE position <= ?", (position.commit,))

    async def behind(self) -> str:
        with _failures():
            ((count,),) = self._open.execute("SELECT count(*) FROM job_changes")
        return f"{count:,} changes"

    async def aclose(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    @property
    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            raise CaptureError("the capture is not open")
        return self._db


def _change(position: int, operation: Operation, before: str | None, after: str | None, committed_at: float) -> Change:
    return Change(
        position=Position(position, 0),
        operation=operation,
        before=_row(before),
        after=_row(after),
        committed_at=datetime.fromtimestamp(committed_at, UTC),
    )


def _row(text: str | None) -> Row | None:
    return None if text is None else dict(json.loads(text))


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise CaptureError(f"SQLite: {error}") from error
