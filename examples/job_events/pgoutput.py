"""The messages of PostgreSQL's ``pgoutput`` plugin, protocol version 1, decoded to changes of rows.

Source: PostgreSQL documentation, chapter "Frontend/Backend Protocol", section "Logical Replication Message Formats".
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from examples.job_events.changes import Change, Operation, Position, Row

__all__ = ["Committed", "Decoder"]

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Committed:
    """The end of a transaction."""

    last: Position
    """Of its last change; its place is -1 where it had none."""
    end: int
    """The log position after it, which a slot is advanced to."""


_Tuple: TypeAlias = dict[str, str | None]


class Decoder:
    """Decodes one session's messages in their order: a table is described before its first change.

    The table's replica identity is FULL, so that old rows are whole; values are the text that PostgreSQL prints.
    Positions count the changes of a transaction, since its log positions do not tell rows apart that one COPY inserted;
    as the log never changes, neither do they.

    Args:
        key: the column by which a row is known; an update that changes it is a deletion and an insertion.
        snapshot: messages in the log with this prefix are rows, as JSON, that were there before: insertions.
    """

    def __init__(self, key: str, *, snapshot: str) -> None:
        self._key, self._snapshot = key, snapshot
        self._columns: dict[int, tuple[str, ...]] = {}
        self._commit = self._place = 0
        self._committed_at = _EPOCH

    def decode(self, data: bytes) -> Iterator[Change | Committed]:
        """What a message says; nothing where it is only for the decoder."""
        message = _Reader(data)
        match message.letter():
            case "B":
                self._commit, microseconds, _ = message.unpack("!QqI")
                self._committed_at = _EPOCH + timedelta(microseconds=microseconds)
                self._place = 0
            case "C":
                _, _, end, _ = message.unpack("!BQQq")
                yield Committed(Position(self._commit, self._place - 1), end)
            case "R":
                (relation,) = message.unpack("!I")
                message.text(), message.text(), message.unpack("!B")
                self._columns[relation] = tuple(_columns(message))
            case "I":
                columns = self._columns[message.unpack("!I")[0]]
                message.letter()
                yield self._change(None, message.row(columns, {}))
            case "U":
                yield from self._update(message)
            case "D":
                columns = self._columns[message.unpack("!I")[0]]
                message.letter()
                yield self._change(message.row(columns, {}), None)
            case "M":
                message.unpack("!BQ")
                if message.text() == self._snapshot:
                    yield self._change(None, json.loads(message.sized()))

    def _update(self, message: _Reader) -> Iterator[Change]:
        columns = self._columns[message.unpack("!I")[0]]
        message.letter()
        old = message.row(columns, {})
        message.letter()
        new = message.row(columns, old)
        if old[self._key] == new[self._key]:
            yield self._change(old, new)
        else:
            yield self._change(old, None)
            yield self._change(None, new)

    def _change(self, before: Row | None, after: Row | None) -> Change:
        position = Position(self._commit, self._place)
        self._place += 1
        operation: Operation = "insert" if before is None else "delete" if after is None else "update"
        return Change(
            position=position, operation=operation, before=before, after=after, committed_at=self._committed_at
        )


def _columns(message: _Reader) -> Iterator[str]:
    (count,) = message.unpack("!H")
    for _ in range(count):
        message.unpack("!B")
        yield message.text()
        message.unpack("!Ii")


class _Reader:
    """Reads a message from its beginning to its end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def letter(self) -> str:
        return self._take(1).decode("ascii")

    def unpack(self, layout: str) -> tuple[int, ...]:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))

    def text(self) -> str:
        end = self._data.index(0, self._at)
        text = self._data[self._at : end].decode()
        self._at = end + 1
        return text

    def row(self, columns: tuple[str, ...], before: _Tuple) -> _Tuple:
        """By column its text, None for NULL; a large value that did not change is not sent, it is as ``before``."""
        (count,) = self.unpack("!H")
        row: _Tuple = {}
        for name in columns[:count]:
            match self.letter():
                case "n":
                    row[name] = None
                case "u":
                    row[name] = before[name]
                case _:
                    row[name] = self.sized().decode()
        return row

    def sized(self) -> bytes:
        (size,) = self.unpack("!I")
        return self._take(size)

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken
