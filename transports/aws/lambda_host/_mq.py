"""Messages of Amazon MQ for ActiveMQ (AWS Lambda Developer Guide, "Using Lambda with Amazon MQ", 2026)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from eip.codec import Codec
from eip.transports.aws.lambda_host._record import EventSource, Record, base64_of, identifier_of, listed, text_of

__all__ = ["ACTIVEMQ"]


def _read(record: Mapping[str, Any], codec: Codec) -> Iterable[Record]:
    from eip.transports.aws.lambda_host._mq_messages import read_mq_message  # noqa: PLC0415 - only where ActiveMQ is the source

    message, error, count = read_mq_message(record, codec)
    return (Record(identifier_of(record.get("messageID")), message, error, count),)


def _salvage(record: Mapping[str, Any]) -> dict[str, Any]:
    identifier, properties = record.get("messageID"), record.get("properties")
    known = {"identifier": identifier, "id": identifier}
    if isinstance(properties, Mapping):
        known["group_id"] = properties.get("JMSXGroupID")
    with suppress(Exception):  # then the record's JSON
        known["raw"] = base64_of(record, "data")
    return known


def _name(_: Any, records: Sequence[Any]) -> str:
    """The queues of the messages; the documentation spells their key in two ways."""
    found: set[str] = set()
    for each in records:
        with suppress(Exception):  # a message without one
            destination = each["destination"]
            found.add(text_of({"name": destination.get("physicalName", destination.get("physicalname"))}, "name"))
    return ",".join(sorted(found))


ACTIVEMQ: Final = EventSource(
    listed("messages"), _read, _salvage, name=_name, default_name="activemq", ordered=lambda _: True
)
