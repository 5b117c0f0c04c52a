"""What the readers of all event sources share: a record as a message, and a source as its ways to read."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from eip.codec import Codec
from eip.errors import DecodeError
from eip.message import Message
from eip.transports.aws._attributes import readable_attributes

__all__ = [
    "EventSource",
    "Record",
    "base64_of",
    "identifier_of",
    "last_part",
    "listed",
    "readable",
    "text_of",
    "text_or_bytes",
]


class Record(NamedTuple):
    """A message of an invocation."""

    identifier: str
    """Its name in ``batchItemFailures``; "" where it has none, by which the service takes the whole batch as failed."""
    message: Message[Any]
    error: Exception | None
    """Why it cannot be read."""
    receive_count: int = 1


class EventSource(NamedTuple):
    """How the events of one kind of source are read."""

    records: Callable[[Mapping[str, Any]], Sequence[Any]]
    """The records of an event, in order; may raise anything."""
    read: Callable[[Mapping[str, Any], Codec], Iterable[Record]]
    """The messages of a record; may raise anything."""
    salvage: Callable[[Mapping[str, Any]], dict[str, Any]]
    """Of a record that cannot be read: ``identifier``, ``raw``, and keywords of its message. May raise anything."""
    name: Callable[[Any, Sequence[Any]], Any]
    """Of the channel, from the event and its records. May raise anything."""
    default_name: str
    partial: bool = False
    first_only: bool = False
    ordered: Callable[[str], bool] = lambda _: False
    """Whether message groups order the records of the channel of that name."""
    from_pipe: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda record: record
    """A record as the source's own events have it, from the form in which EventBridge Pipes hands it over."""


def listed(key: str) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
    """The records of events that have them in a list of that name."""

    def records(event: Mapping[str, Any]) -> Sequence[Any]:
        found = event.get(key)
        if not isinstance(found, list):
            raise DecodeError(f"{key} must be a list, got {type(found).__name__}")
        return found

    return records


def identifier_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def text_of(record: Mapping[str, Any], key: str) -> str:
    """The text of that name; raises `DecodeError` where it is no text, and `KeyError` where there is none."""
    value = record[key]
    if not isinstance(value, str):
        raise DecodeError(f"{key} must be a string, got {type(value).__name__}")
    return value


def base64_of(record: Mapping[str, Any], key: str) -> bytes:
    """The bytes whose base64 has that name; raises as `text_of` does, or `ValueError`."""
    return b64decode(text_of(record, key), validate=True)


def text_or_bytes(raw: bytes) -> str | bytes:
    """The text that bytes are; themselves where they are none."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def last_part(arn: Any, separator: str) -> str:
    return text_of({"arn": arn}, "arn").rpartition(separator)[2]


def readable(given: Any, read: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """The message attributes that can be read, of a record that has failed already."""
    found: dict[str, Any] = {}
    for name, each in given.items() if isinstance(given, Mapping) else ():
        with suppress(Exception):
            found[name] = read(each)
    return readable_attributes(found)
