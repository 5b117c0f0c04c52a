"""Records of DynamoDB Streams (AWS Lambda Developer Guide, "Using Lambda with Amazon DynamoDB", 2026).

A change is a message of the type ``INSERT``, ``MODIFY`` or ``REMOVE`` with the body

    {"keys": {"id": 101}, "new": {"id": 101, "total": 1.10}, "old": {…}}

"new" and "old" are there as far as the stream's view type has them. The items are plain JSON: numbers keep their
digits, binary values are base64, sets are lists.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from eip.codec import Codec, dump_json
from eip.errors import DecodeError
from eip.message import Message
from eip.transports.aws.lambda_host._record import EventSource, Record, identifier_of, listed, text_of

__all__ = ["DYNAMODB"]

_IMAGES: Final = {"Keys": "keys", "NewImage": "new", "OldImage": "old"}
"""Items of a record, and their names in the body."""
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?")


def _read(record: Mapping[str, Any], codec: Codec) -> Iterable[Record]:
    del codec  # the body is made here
    change = record["dynamodb"]
    sequence = text_of(change, "SequenceNumber")
    images = {ours: _item(change[theirs]) for theirs, ours in _IMAGES.items() if change.get(theirs) is not None}
    if "keys" not in images:
        raise DecodeError("Keys must be an item, got none")
    message = Message.received(
        _object(images).encode(),
        id=identifier_of(record.get("eventID")) or sequence,
        type=text_of(record, "eventName"),
        source=_table(None, [record]),
        group_id=images["keys"],
        headers=_headers(record, change),
        **_created_at(change.get("ApproximateCreationDateTime")),
    )
    return (Record(sequence, message, None),)


def _created_at(seconds: Any) -> dict[str, Any]:
    return {} if seconds is None else {"created_at": float(seconds)}


def _headers(record: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, str]:
    headers = {"sequence-number": change["SequenceNumber"]}
    if isinstance(change.get("StreamViewType"), str):
        headers["stream-view-type"] = change["StreamViewType"]
    if isinstance(user := record.get("userIdentity"), Mapping):  # what deleted it: expiry is DynamoDB's own
        headers["user-identity"] = str(user.get("principalId", ""))
    return headers


def _salvage(record: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": record.get("eventID"), "identifier": record["dynamodb"].get("SequenceNumber")}


def _table(_: Any, records: Any) -> str:
    """The table of a stream's ARN, ``…:table/NAME/stream/LABEL``."""
    return text_of(records[0], "eventSourceARN").partition("/")[2].partition("/")[0]


# DynamoDB's typed JSON as JSON text. Written here, since a number keeps its digits only as text.


def _item(item: Any) -> str:
    if not isinstance(item, Mapping):
        raise DecodeError(f"an item must be an object, got {type(item).__name__}")
    return _object({name: _value(value) for name, value in item.items()})


def _object(members: Mapping[str, str]) -> str:
    return "{" + ",".join(f"{_string(name)}:{value}" for name, value in members.items()) + "}"


def _list(values: Iterable[str]) -> str:
    return "[" + ",".join(values) + "]"


def _value(typed: Any) -> str:
    if not isinstance(typed, Mapping) or len(typed) != 1:
        raise DecodeError("a value of an item must be an object with one type")
    ((kind, value),) = typed.items()
    write = _WRITERS.get(kind)
    if write is None:
        raise DecodeError(f"a value's type must be one of {', '.join(_WRITERS)}, got {kind!r:.40}")
    return write(value)


def _string(value: Any) -> str:
    return dump_json(_of_type(value, str)).decode()


def _number(value: Any) -> str:
    text: str = _of_type(value, str)
    if not _NUMBER.fullmatch(text):
        raise DecodeError(f"a number must be a decimal, got {text!r:.60}")
    return text


def _bool(value: Any) -> str:
    return "true" if _of_type(value, bool) else "false"


def _null(value: Any) -> str:
    del value
    return "null"


def _each(write: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda values: _list(write(each) for each in _of_type(values, list))


def _of_type(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise DecodeError(f"a value must be of type {kind.__name__}, got {type(value).__name__}")
    return value


_WRITERS: Final[Mapping[str, Callable[[Any], str]]] = {
    "S": _string,
    "N": _number,
    "B": _string,
    "BOOL": _bool,
    "NULL": _null,
    "M": _item,
    "L": _each(_value),
    "SS": _each(_string),
    "NS": _each(_number),
    "BS": _each(_string),
}

DYNAMODB: Final = EventSource(
    listed("Records"),
    _read,
    _salvage,
    name=_table,
    default_name="dynamodb",
    partial=True,
    first_only=True,
    ordered=lambda _: True,
)
