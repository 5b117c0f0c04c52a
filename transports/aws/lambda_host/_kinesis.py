"""Records of Amazon Kinesis, aggregated ones taken apart (AWS Lambda Developer Guide, "Kinesis", 2026)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from eip.codec import Codec
from eip.streams.log import Position
from eip.transports.aws.kinesis.reading import message_of, records_of
from eip.transports.aws.lambda_host._record import EventSource, Record, base64_of, last_part, listed, text_of

__all__ = ["KINESIS"]


def _read(record: Mapping[str, Any], codec: Codec) -> Iterable[Record]:
    """The user records of a record; keys are groups, so that each key's order is kept."""
    shard, inner = str(record.get("eventID", "")).partition(":")[0], record["kinesis"]
    sequence = text_of(inner, "sequenceNumber")
    received = {
        "Data": base64_of(inner, "data"),
        "SequenceNumber": sequence,
        "PartitionKey": text_of(inner, "partitionKey"),
        "ApproximateArrivalTimestamp": datetime.fromtimestamp(float(inner["approximateArrivalTimestamp"]), UTC),
    }
    for part in records_of([received], Position()):
        message, error = message_of(shard, part, codec=codec)
        yield Record(sequence, message, error)


def _salvage(record: Mapping[str, Any]) -> dict[str, Any]:
    inner = record["kinesis"]
    known = {
        "identifier": inner.get("sequenceNumber"),
        "group_id": inner.get("partitionKey"),
        "id": record.get("eventID"),
    }
    with suppress(Exception):  # then the record's JSON
        known["raw"] = base64_of(inner, "data")
    return known


KINESIS: Final = EventSource(
    listed("Records"),
    _read,
    _salvage,
    name=lambda _, records: last_part(records[0]["eventSourceARN"], "/"),
    default_name="kinesis",
    partial=True,
    first_only=True,
    ordered=lambda _: True,
    from_pipe=lambda record: {"kinesis": record, **record},
)
"""A pipe has the fields of ``kinesis`` beside the others (EventBridge User Guide, "Pipes sources")."""
