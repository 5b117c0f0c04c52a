"""Notifications of Amazon S3 (Amazon S3 User Guide, "Event message structure", 2026).

A notification is a message of the type of its event, e.g. ``ObjectCreated:Put``, with the record as body. Keys are
URL-encoded there; the header ``s3-key`` has the object's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final
from urllib.parse import unquote_plus

from eip.codec import Codec, dump_json
from eip.message import Message
from eip.transports.aws.lambda_host._record import EventSource, Record, listed, text_of

__all__ = ["S3"]


def _read(record: Mapping[str, Any], codec: Codec) -> Iterable[Record]:
    del codec  # the body is made here
    bucket, key = _bucket(record), unquote_plus(text_of(record["s3"]["object"], "key"), errors="strict")
    message = Message.received(
        dump_json(dict(record)),
        id=_identity(record, bucket, key),
        type=text_of(record, "eventName"),
        source=bucket,
        group_id=f"{bucket}/{key}",
        created_at=_time(text_of(record, "eventTime")),
        headers={"s3-bucket": bucket, "s3-key": key},
    )
    return (Record(f"{bucket}/{key}", message, None),)


def _bucket(record: Mapping[str, Any]) -> str:
    return text_of(record["s3"]["bucket"], "name")


def _identity(record: Mapping[str, Any], bucket: str, key: str) -> str:
    """The same for the same event, however often it comes: S3 gives its notifications no id."""
    inner = record["s3"]["object"]
    parts = (bucket, key, record["eventName"], str(inner.get("sequencer")), str(inner.get("versionId")))
    return sha256("\0".join((*parts, record["eventTime"])).encode("utf-8", "surrogatepass")).hexdigest()


def _time(text: str) -> float:
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _salvage(record: Mapping[str, Any]) -> dict[str, Any]:
    return {"identifier": f"{_bucket(record)}/{text_of(record['s3']['object'], 'key')}"}


def _name(_: Any, records: Sequence[Any]) -> str:
    return _bucket(records[0])


S3: Final = EventSource(listed("Records"), _read, _salvage, name=_name, default_name="s3", ordered=lambda _: True)
