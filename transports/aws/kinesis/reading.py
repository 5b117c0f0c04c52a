"""What polling, enhanced fan-out and Lambda share: where reading begins, and the records and messages of what came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from eip import clock
from eip.codec import JSON, Codec
from eip.errors import CheckpointInvalid, ConnectionLost, EipError
from eip.message import Message
from eip.streams import Position, Record
from eip.transports.aws.kinesis.aggregation import deaggregate
from eip.transports.aws.kinesis.records import load_record

__all__ = ["ReadAhead", "checked_position", "message_of", "records_of", "starting_at"]


def starting_at(position: Position) -> dict[str, Any]:
    """A position as the service names it; of an aggregate that is done in part all of it is read again."""
    if position.sequence is not None:
        kind = "AFTER_SEQUENCE_NUMBER" if position.part is None else "AT_SEQUENCE_NUMBER"
        return {"Type": kind, "SequenceNumber": position.sequence}
    if position.at is not None:
        return {"Type": "AT_TIMESTAMP", "Timestamp": datetime.fromtimestamp(position.at, UTC)}
    return {"Type": "TRIM_HORIZON"}


@contextmanager
def checked_position(channel: str, shard: str, position: Position) -> Iterator[None]:
    """Raise `CheckpointInvalid` where the service refuses the position, as it does one of another stream."""
    try:
        yield
    except EipError as error:
        text = str(error)
        if position.sequence is None or not ("InvalidArgument" in text or "SequenceNumber" in text):
            raise
        raise CheckpointInvalid(
            f"{channel}: the checkpoint {position.sequence} of {shard} is not of this stream: it was probably deleted "
            'and made again; begin again with `await group.seek("trim_horizon")`, which reads all of its records '
            f"({error})"
        ) from error


def records_of(received: Sequence[Mapping[str, Any]], after: Position) -> Iterator[Record]:
    """User records of what was received, aggregates taken apart.

    Left out is what the position is after and the service cannot know: the parts of an aggregate that are done, and
    what arrived in the second of a start before it (the SDK sends whole seconds).

    Raises:
        ConnectionLost: something in it is no record; of an answer all is read, or nothing.
    """
    try:
        return _taken_apart([_received(each) for each in received], after)
    except (TypeError, LookupError, AttributeError, ValueError) as error:
        raise ConnectionLost(f"the answer has something that is no record: {type(error).__name__}: {error}") from error


def _received(record: Mapping[str, Any]) -> tuple[bytes, str, str, float]:
    """Data, sequence number, partition key and time of arrival."""
    data, sequence, key = record["Data"], record["SequenceNumber"], record["PartitionKey"]
    if not (data.__class__ is bytes and sequence.__class__ is key.__class__ is str):
        raise TypeError("a member has the wrong type")
    return data, sequence, key, _arrived(record.get("ApproximateArrivalTimestamp"))


def _taken_apart(received: Sequence[tuple[bytes, str, str, float]], after: Position) -> Iterator[Record]:
    start = after.at or 0.0
    for data, sequence, key, at in received:
        if at < start:
            continue
        parts = deaggregate(data)
        if parts is None:
            yield Record(sequence, key, at, len(data), data)
            continue
        done = -1 if after.part is None or after.sequence != sequence else after.part
        final = len(parts) - 1
        for number, part in enumerate(parts):
            if number > done:
                yield Record(sequence, part.key, at, len(part.data), part.data, number, number == final)


def _arrived(at: datetime | float | None) -> float:
    """Seconds since the epoch: the SDK gives a datetime, the wire has a number."""
    if at is None:
        return clock.now()
    return at.timestamp() if isinstance(at, datetime) else float(at)


class ReadAhead:
    """User records of what was received, handed out a few at a time: an aggregate may hold 170,000 of them."""

    def __init__(self) -> None:
        self._records: Iterator[Record] = iter(())
        self._next: Record | None = None

    def __bool__(self) -> bool:
        """Whether records are left."""
        return self._next is not None

    def fill(self, received: Sequence[Mapping[str, Any]], after: Position) -> None:
        """Take in what one call brought, once all before is taken; raises `ConnectionLost`, see `records_of`."""
        self._records = records_of(received, after)
        self._next = next(self._records, None)

    def take(self, limit: int) -> list[Record]:
        """The next records, ``limit`` at most."""
        taken: list[Record] = []
        while self._next is not None and len(taken) < limit:
            taken.append(self._next)
            self._next = next(self._records, None)
        return taken


def message_of(shard: str, record: Record, *, codec: Codec = JSON) -> tuple[Message[Any], Exception | None]:
    """The message of a record, saying where the record is, and why its envelope cannot be read."""
    alone = record.last and not record.part
    where = {"shard": shard, "sequence-number": record.sequence}
    if not alone:
        where["sub-sequence-number"] = str(record.part)
    return load_record(
        record.payload,
        key=record.key,
        codec=codec,
        id=f"{shard}:{record.sequence}" if alone else f"{shard}:{record.sequence}:{record.part}",
        created_at=record.at,
        headers=where,
    )
