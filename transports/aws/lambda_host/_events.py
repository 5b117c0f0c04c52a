"""The events that AWS Lambda calls a function with, as messages.

`_read_each` is the border of one record: whatever reading it raises is the failure of that record alone. Its message
holds the bytes that came (the body, ``Sns.Message``, the data), or the record's JSON where those cannot be had.

Sources: AWS Lambda Developer Guide; EventBridge User Guide, "Pipes sources"; EventBridge Scheduler User Guide, 2026.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from eip.codec import JSON, Codec, load_json
from eip.errors import ConfigurationError, DecodeError, error_text
from eip.message import Message
from eip.transports._event_format import is_event, message_of
from eip.transports.aws.lambda_host._record import EventSource, Record, identifier_of
from eip.transports.aws.lambda_host._sources import SOURCES

__all__ = ["Arrived", "OnUnknown", "arrived"]

OnUnknown: TypeAlias = Literal["raise", "handle"]

_EVENTBRIDGE: Final = "aws:events"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """The messages that a function was called with."""

    source: str
    """The event source, as `LambdaInvocation.source` has it."""
    name: str
    """Of the queue, topic, stream or bus, for logs and dead letters."""
    records: Sequence[Record]
    ordered: bool = False
    """Whether message groups order them."""
    partial: bool = False
    """Whether the service takes ``batchItemFailures``; otherwise the whole invocation succeeds or fails."""
    first_only: bool = False
    """Whether only the first that failed counts: what follows it comes again (streams)."""


def arrived(event: Any, codec: Codec = JSON, *, on_unknown: OnUnknown = "raise") -> Arrived:
    """The messages of an event.

    Args:
        event: as Lambda calls the function with it.
        codec: of the channel; decodes the bodies of foreign producers.
        on_unknown: ``"handle"`` takes an event of an unknown source as one message, with the event as body.

    Returns:
        The messages; none for a batch without records.

    Raises:
        ConfigurationError: an event of a source that is not known.
    """
    event = _with_detail(event)
    if is_event(event):
        return Arrived(source=_EVENTBRIDGE, name=event["source"], records=(_of_event(event),))
    name = _source_name(event)
    if (source := SOURCES.get(name)) is not None:
        return _of_source(event, name, source, codec)
    if _is_empty(event, on_unknown):
        return Arrived(source="", name="lambda", records=())
    if on_unknown == "handle":
        return Arrived(source="direct", name="lambda", records=(Record("", Message.received(_json_of(event)), None),))
    raise ConfigurationError(
        f"the event must be of {', '.join(sorted(SOURCES))}, EventBridge or Scheduler, got {_describe(event)}"
    )


def _of_source(event: Any, name: str, source: EventSource, codec: Codec) -> Arrived:
    """The messages of an event source mapping, a topic or a bucket, or of a pipe, which gives a bare list."""
    channel = source.default_name
    try:
        records = [_from_pipe(each, source) for each in event] if isinstance(event, list) else source.records(event)
    except DecodeError as error:
        found = [_unreadable(event, source, error)]
    else:
        found = _read_each(records, source, codec)
        channel = _channel(event, records, source)
    return Arrived(
        source=name,
        name=channel,
        records=found,
        ordered=source.ordered(channel),
        partial=source.partial,
        first_only=source.first_only,
    )


def _channel(event: Any, records: Sequence[Any], source: EventSource) -> str:
    """The channel's name, which also says whether its groups order it: of any record, where the first has none."""
    known = [each for each in records if isinstance(each, Mapping)]
    for some in (known, *([each] for each in known)):
        with suppress(Exception):
            if name := source.name(event, some):
                return str(name)
    return source.default_name


def _from_pipe(record: Any, source: EventSource) -> Any:
    return source.from_pipe(record) if isinstance(record, Mapping) else record


# Which source it is.


def _source_name(event: Any) -> str:
    """The event source: of the event, or of the first record that names a known one; "" where there is none."""
    if isinstance(event, list):
        event = {"Records": event}
    if not isinstance(event, Mapping):
        return ""
    records = event.get("Records")
    named = [event, *(each for each in (records if isinstance(records, list) else ()) if isinstance(each, Mapping))]
    sources = [each.get("eventSource", each.get("EventSource")) for each in named]
    texts = [each for each in sources if isinstance(each, str)]
    return next((each for each in texts if each in SOURCES), texts[0] if texts else _source_of_window(event))


def _source_of_window(event: Mapping[str, Any]) -> str:
    """The source of a time window, whose last event may have no records: only its ARN says it."""
    arn = event.get("eventSourceARN")
    if event.get("window") is None or not isinstance(arn, str):
        return ""
    return f"aws:{arn.split(':', 3)[2]}" if arn.count(":") >= 3 else ""


def _is_empty(event: Any, on_unknown: OnUnknown) -> bool:
    """Whether it is a batch without records, as filters and tests leave one: nothing says of which source."""
    if isinstance(event, Mapping):
        return event.get("Records") == []
    return event == [] and on_unknown == "raise"  # of a pipe; by a direct call it may be the message


def _describe(event: Any) -> str:
    """An event of an unknown source, for the error."""
    if source := _source_name(event):
        return f"event source {source!r:.80}"
    if not isinstance(event, Mapping):
        return f"a value of type {type(event).__name__}"
    return f"an object with the keys {sorted(map(str, event))[:20]} and no event source"


# The border of one record.


def _read_each(records: Sequence[Any], source: EventSource, codec: Codec) -> list[Record]:
    found: list[Record] = []
    for each in records:
        try:
            found += tuple(source.read(_object(each), codec))
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this record only
            found.append(_unreadable(each, source, error))
    return found


def _object(record: Any) -> Mapping[str, Any]:
    if not isinstance(record, Mapping):
        raise DecodeError(f"a record must be an object, got {type(record).__name__}")
    return record


def _unreadable(record: Any, source: EventSource, failure: Exception) -> Record:
    known: dict[str, Any] = {}
    with suppress(Exception):  # a record that is not an object, or lacks even these
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


# Events that are one message each.


def _with_detail(event: Any) -> Any:
    """The event with its detail as an object: Scheduler sends ``"{}"``, a text, for a schedule without input."""
    if isinstance(event, Mapping) and event.get("source") == "aws.scheduler" and isinstance(event.get("detail"), str):
        with suppress(DecodeError):
            return {**event, "detail": load_json(event["detail"])}
    return event


def _of_event(event: Mapping[str, Any]) -> Record:
    try:
        message, error = message_of(event)
    except Exception as failure:  # noqa: BLE001 - as in `_read_each`
        message, error = Message.received(_json_of(event)), DecodeError(f"event cannot be read: {error_text(failure)}")
    return Record(identifier_of(event.get("id")), message, error)
