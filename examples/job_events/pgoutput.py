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

from eip._logging import get_logger
from examples.job_events.changes import CaptureError, Change, Operation, Position, Row

__all__ = ["Committed", "Decoder"]

_log = get_logger("examples.job_events")
_BEGIN_AGAIN: Final = "drop the slot, and the next start begins with the jobs that there are then"

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
        """The changes of a message; nothing where it is only for the decoder.

        Raises:
            CaptureError: the message is none of the protocol, or the log does not hold what a change needs.
        """
        try:
            yield from self._decode(_Reader(data))
        except (struct.error, LookupError, ValueError, OverflowError) as error:
            raise CaptureError(
                f"message {data[:1]!r} of pgoutput cannot be read ({error!r}); {_BEGIN_AGAIN}"
            ) from error

    def _decode(self, message: _Reader) -> Iterator[Change | Committed]:
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
                yield self._change(self._old_row(message), None)
            case "T":
                raise CaptureError(f"the table was truncated: the log does not name the rows; {_BEGIN_AGAIN}")
            case "M":
                yield from self._emitted(message)

    def _emitted(self, message: _Reader) -> Iterator[Change]:
        """The row of a logical message; none where it is not ours: anybody may emit one under our prefix."""
        message.unpack("!BQ")
        if message.text() != self._snapshot:
            return
        try:
            row = json.loads(message.sized())
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            yield self._change(None, row)
        else:
            _log.warning("logical_message_ignored", prefix=self._snapshot, reason="no JSON object")

    def _update(self, message: _Reader) -> Iterator[Change]:
        old = self._old_row(message)
        message.letter()
        new = message.row(tuple(old), old)
        if old[self._key] == new[self._key]:
            yield self._change(old, new)
        else:
            yield self._change(old, None)
            yield self._change(None, new)

    def _old_row(self, message: _Reader) -> _Tuple:
        columns = self._columns[message.unpack("!I")[0]]
        if message.letter() != "O":  # K: the old key alone, N: no old row at all
            raise CaptureError(
                f"the log does not hold the old row of a change: set REPLICA IDENTITY FULL; {_BEGIN_AGAIN}"
            )
        return message.row(columns, {})

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
        if count != len(columns):
            raise ValueError(f"{count} values for {len(columns)} columns")
        row: _Tuple = {}
        for name in columns:
            match self.letter():
                case "n":
                    row[name] = None
                case "u":
                    row[name] = before[name]
                case "t":
                    row[name] = self.sized().decode()
                case kind:
                    raise ValueError(f"a value of kind {kind!r}")
        return row

    def sized(self) -> bytes:
        (size,) = self.unpack("!I")
        return self._take(size)

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) < size:
            raise ValueError("it ends too early")
        self._at += size
        return taken
