"""The events that AWS Lambda calls a function with, as messages: one reader for each kind of event source.

`_records_of` is the border of one record: whatever reading it raises is the failure of that record alone. Its message
holds the bytes that came (the body, ``Sns.Message``, the data), or the record's JSON where those cannot be had.

Sources: AWS Lambda Developer Guide, the chapters on SQS, SNS, EventBridge, Kinesis and Amazon MQ; EventBridge User
Guide, "Pipes sources", 2026.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from eip.codec import JSON, Codec
from eip.errors import ConfigurationError, DecodeError, error_text
from eip.message import Message
from eip.transports._event_format import is_event, message_of
from eip.transports.aws._event_sources import SOURCES, EventSource, Record, identifier_of

__all__ = ["Invocation", "Record", "invocation_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """The messages that a function was called with."""

    name: str
    """Of the queue, topic, stream or bus, for logs and dead letters."""
    records: Sequence[Record]
    ordered: bool
    """Whether message groups order them."""
    partial: bool
    """Whether the service takes ``batchItemFailures``; otherwise the whole invocation succeeds or fails."""
    first_only: bool = False
    """Whether only the first that failed counts: what follows it comes again (streams)."""


def invocation_of(event: Any, codec: Codec = JSON) -> Invocation:
    """The messages of an event.

    Args:
        event: as Lambda calls the function with it.
        codec: of the channel; decodes the bodies of foreign producers.

    Raises:
        ConfigurationError: an event of a source that is not known.
    """
    event = _as_mapped(event)
    if is_event(event):
        return Invocation(name=event["source"], records=(_of_event(event),), ordered=False, partial=False)
    source = SOURCES.get(_source_name(event))
    if source is None:
        raise ConfigurationError(
            f"the event must be of {', '.join(sorted(SOURCES))} or EventBridge, got {_describe(event)}"
        )
    name = source.default_name
    with suppress(Exception):  # only a name
        name = str(source.name(event, _first_object(event.get(source.key))) or name)
    return Invocation(
        name=name,
        records=_records_of(event, source, codec),
        ordered=source.ordered(name),
        partial=source.partial,
        first_only=source.first_only,
    )


def _as_mapped(event: Any) -> Any:
    """The event as an event source mapping has it: EventBridge Pipes hands over the bare list of its records.

    Those of Kinesis are flat there (EventBridge User Guide, "Pipes sources").
    """
    name = _source_name({"Records": event}) if isinstance(event, list) else ""
    if not name:
        return event
    key = SOURCES[name].key if name in SOURCES else "Records"
    flat = name == "aws:kinesis"
    return {
        "eventSource": name,
        key: [{"kinesis": each, **each} if flat and isinstance(each, Mapping) else each for each in event],
    }


def _source_name(event: Any) -> str:
    """The event source: of the event, or of the first record that names a known one; "" where there is none."""
    if not isinstance(event, Mapping):
        return ""
    records = event.get("Records")
    named = [event, *(each for each in (records if isinstance(records, list) else ()) if isinstance(each, Mapping))]
    sources = [each.get("eventSource", each.get("EventSource")) for each in named]
    texts = [each for each in sources if isinstance(each, str)]
    return next((each for each in texts if each in SOURCES), texts[0] if texts else "")


def _describe(event: Any) -> str:
    """An event of an unknown source, for the error."""
    if not isinstance(event, Mapping):
        return f"a value of type {type(event).__name__}"
    if source := _source_name(event):
        return f"event source {source!r:.80}"
    return f"an object with the keys {sorted(map(str, event))[:20]} and no event source"


def _first_object(records: Any) -> Mapping[str, Any]:
    return next(each for each in records if isinstance(each, Mapping))


# The border of one record.


def _records_of(event: Mapping[str, Any], source: EventSource, codec: Codec) -> tuple[Record, ...]:
    records = event.get(source.key)
    if not isinstance(records, list):
        error = DecodeError(f"{source.key} must be a list, got {type(records).__name__}")
        return (_unreadable(event, source, error),)
    found: list[Record] = []
    for each in records:
        try:
            found += tuple(source.read(_object(each), codec))
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this record only
            found.append(_unreadable(each, source, error))
    return tuple(found)


def _object(record: Any) -> Mapping[str, Any]:
    if not isinstance(record, Mapping):
        raise DecodeError(f"a record must be an object, got {type(record).__name__}")
    return record


def _unreadable(record: Any, source: EventSource, failure: Exception) -> Record:
    known: dict[str, Any] = {}
    with suppress(Exception):  # a record that is no object, or lacks even these
        known = source.salvage(record)
    identifier, raw = known.pop("identifier", None), known.pop("raw", None)
    texts = {name: value for name, value in known.items() if name == "attributes" or (value and type(value) is str)}
    if not isinstance(raw, (str, bytes)):
        raw = _json_of(record)
    error = (
        failure if isinstance(failure, DecodeError) else DecodeError(f"record cannot be read: {error_text(failure)}")
    )
    return Record(identifier_of(identifier), _received(raw, texts), error)


def _received(raw: str | bytes, known: Mapping[str, Any]) -> Message[Any]:
    data = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
    try:
        return Message.received(data, **known)
    except Exception:  # noqa: BLE001 - an id or a group that no message can have
        return Message.received(data)


def _json_of(record: Any) -> bytes:
    try:
        return json.dumps(record, ensure_ascii=False, separators=(",", ":"), default=str).encode(
            "utf-8", "surrogatepass"
        )
    except (TypeError, ValueError, RecursionError):  # not what Lambda's JSON can hold
        return repr(type(record)).encode()


def _of_event(event: Mapping[str, Any]) -> Record:
    try:
        message, error = message_of(event)
    except Exception as failure:  # noqa: BLE001 - as in `_records_of`
        message, error = Message.received(_json_of(event)), DecodeError(f"event cannot be read: {error_text(failure)}")
    return Record(identifier_of(event.get("id")), message, error)
