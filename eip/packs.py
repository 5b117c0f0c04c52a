"""Packs: many small messages as the body of one, so that a billed unit of 64 KB is filled.

A pack describes itself, so any consumer unpacks it without configuration:

    {"eip-pack": {"version": 1, "encoding": "identity", "count": 2}, "messages": [{"id": …, "b": <body>}, …]}
    {"eip-pack": {"version": 1, "encoding": "zstd", "count": 181}, "data": "<the messages array, compressed, base64>"}

``"all"`` beside the count may hold what all of them have in common: type, source and group.

A CloudEvents batch (JSON array, CloudEvents 1.0, "JSON Batch Format") is the other format that is read and written.
Everything in a pack comes from a stranger: what it unpacks to is bounded in bytes, ratio, count and nesting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final, Literal, TypeAlias

import orjson

from eip._compression import Encoding, check_encoding, compressed, inflated
from eip.cloudevents import dump_cloud_event, load_cloud_event
from eip.codec import JSON, JsonCodec, dump_json, json_elements, json_members, load_json
from eip.envelope import body_from_json, body_to_json, dump_fields, envelope_fields, load_envelope, parse_envelope
from eip.errors import DecodeError, InvalidMessage, error_text
from eip.limits import KIB, MIB
from eip.message import Message

__all__ = [
    "PACK_HEADER",
    "Bounds",
    "Encoding",
    "Format",
    "check_encoding",
    "entry_of",
    "is_pack",
    "pack",
    "shared_fields",
    "unpack",
    "unreadable",
]

PACK_HEADER: Final = "pack"
"""The header that tells a pack from other messages without a look into its body."""

Format: TypeAlias = Literal["eip", "cloudevents"]

_KEY: Final = "eip-pack"
_SHARED: Final = ("type", "source", "group")
"""Wire keys of the envelope that a pack may say once for all its messages."""
_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Limits of a pack once it is unpacked."""

    size: int = 4 * MIB
    """Bytes. As values they take up to twenty times as much."""
    ratio: float = 1000.0
    """Bytes unpacked per byte packed; well-packed JSON events reach a few dozen."""
    count: int = 10_000
    """Messages."""


_BOUNDS: Final = Bounds()
_BATCH: Final = JsonCodec("application/cloudevents-batch+json")
_PREFIX: Final = b'{"eip-pack":'
_STARTS: Final = (_PREFIX, b"[")


def is_pack(message: Message[Any]) -> bool:
    """Whether the message is a pack, or a CloudEvents batch."""
    if message.header(PACK_HEADER) is not None:
        return True
    raw = message.raw
    if raw is None or not raw.startswith(_STARTS):
        return False
    return raw.startswith(_PREFIX) or b'"specversion"' in raw[: 2 * KIB]


def entry_of(message: Message[Any], *, format: Format = "eip", shared: bool = False) -> bytes:  # noqa: A002 - the field's term
    """The message as one element of a pack's array; ``shared``: without what the pack says for all, see `pack`."""
    if format == "cloudevents":
        return dump_cloud_event(message)
    fields = envelope_fields(message)
    if shared:
        for key in ("v", *_SHARED):
            fields.pop(key, None)
    piece, form = body_to_json(message)
    return dump_fields({**fields, **form, "b": orjson.Fragment(piece)})


def shared_fields(message: Message[Any]) -> dict[str, Any]:
    """Of the message's envelope, what all messages of its pack have in common, under its wire keys."""
    fields = envelope_fields(message)
    return {key: fields[key] for key in _SHARED if key in fields}


def pack(
    entries: Sequence[bytes],
    like: Message[Any],
    *,
    encoding: Encoding = "identity",
    format: Format = "eip",  # noqa: A002 - the field's term
    shared: bool = False,
) -> Message[Any]:
    """One message that holds the entries; type, source, group and attributes are those of ``like``, which all share.

    ``shared``: it says type, source and group once, for entries that were made without.
    """
    listed = b"[" + b",".join(entries) + b"]"
    if format == "cloudevents":
        body, how = listed, "cloudevents"
    else:
        about: dict[str, Any] = {"version": _VERSION, "encoding": encoding, "count": len(entries)}
        if shared and (fields := shared_fields(like)):
            about["all"] = fields
        content = (
            {"messages": orjson.Fragment(listed)} if encoding == "identity" else {"data": compressed(listed, encoding)}
        )
        body, how = orjson.dumps({_KEY: about, **content}), encoding
    return Message.received(
        body,
        codec=_BATCH if format == "cloudevents" else JSON,
        type=like.type,
        source=like.source,
        group_id=like.group_id,
        attributes=like.attributes,
        headers={PACK_HEADER: f"{_VERSION} {how} {len(entries)}"},
    )


def unpack(message: Message[Any], *, bounds: Bounds = _BOUNDS) -> list[Message[Any]]:
    """The messages of a pack, each with its own id, correlation, trace and headers, and the pack's attributes.

    An entry that is malformed, or a pack itself, is a message whose body is the entry and raises `DecodeError` when it
    is read, see `unreadable`; its neighbours are what they are.

    Raises:
        DecodeError: not a pack, another number of messages than it declares, or beyond the bounds.
    """
    body, raw = message.body, message.raw or message.encode()
    if isinstance(body, list):
        elements: list[Any] = body
        count, listed, key = len(elements), raw, "data"
        read: _Read = _from_event
    else:
        count, key = _count(body, bounds), "b"
        elements, listed = _elements(body, bounds, raw)
        read = partial(_from_entry, shared=parse_envelope(_mapping(body[_KEY].get("all", {}))))
    if len(elements) != count:
        raise DecodeError(f"pack says it holds {count} messages, but holds {len(elements)}")
    if count > bounds.count:
        raise DecodeError(f"pack of {count:,} messages exceeds the bound of {bounds.count:,}")
    texts = cache(partial(json_elements, listed))
    return [_alone(read, each, message, at, texts) for at, each in enumerate(_same(elements, listed, key))]


def _count(body: Any, bounds: Bounds) -> int:
    """The size that the pack states; refused before anything is decompressed where that is too much."""
    match body:
        case {"eip-pack": {"version": int() as version, "count": int() as count}} if version >= _VERSION:
            if 0 <= count <= bounds.count:
                return count
            raise DecodeError(f"pack of {count:,} messages exceeds the bound of {bounds.count:,}")
    raise DecodeError("body is not a pack")


def _elements(body: Mapping[str, Any], bounds: Bounds, raw: bytes) -> tuple[list[Any], bytes]:
    """The entries, and their text."""
    encoding = body[_KEY].get("encoding")
    match encoding, body:
        case "identity", {"messages": list() as elements}:
            return elements, json_members(raw)["messages"]
        case "gzip" | "zstd", {"data": str() as data}:
            limit = min(bounds.size, int(len(raw) * bounds.ratio))
            text = inflated(data, encoding, limit)
            elements = load_json(text)
            if isinstance(elements, list):
                return elements, text
    raise DecodeError(f"pack of encoding {encoding!r} without its messages")


def _same(elements: list[Any], listed: bytes, key: str) -> list[Any]:
    """The elements, whose bodies are to stay the bytes that they are in the text."""
    try:
        if dump_json(elements) == listed.strip():
            return elements
    except InvalidMessage:  # 1e400, which is read as an infinity
        pass
    return [_exact(entry, key) for entry in json_elements(listed)]


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise DecodeError("what a pack says for all its messages is not an object")
    return value


_Read: TypeAlias = Callable[[Any, Message[Any], int], Message[Any]]


def _from_entry(entry: Any, outer: Message[Any], at: int, *, shared: Mapping[str, Any]) -> Message[Any]:
    if not isinstance(entry, dict) or "b" not in entry:
        raise DecodeError("pack holds something that is not a message")
    envelope = {
        # What a foreign entry leaves out must be the same each time that the pack is read: attempts are counted by it.
        "id": f"{outer.id}-{at}",
        "created_at": outer.created_at,
        "group_id": outer.group_id,
        **shared,
        **parse_envelope(entry),
        "attributes": outer.attributes,
    }
    if not entry.keys() & {"ct", "enc"} and not isinstance(entry["b"], _Exact):
        return _not_a_pack(Message(entry["b"], codec=JSON, **envelope))
    piece = entry["b"].raw if isinstance(entry["b"], _Exact) else dump_json(entry["b"])
    form = body_from_json(piece, {"enc": None, **entry})
    return _not_a_pack(Message.received(form.raw, codec=form.codec, **envelope))


class _Exact:
    """A body's own text, where writing its value again would change it."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw


def _exact(entry: bytes, key: str) -> Any:
    """The entry of a text, its body, under that key, as it is written there."""
    found = load_envelope(entry) if key == "b" else load_json(entry)
    return {**found, key: _Exact(json_members(entry)[key])} if isinstance(found, dict) and key in found else found


class _Unreadable:
    """In the place of a codec: the body is an entry of a pack that is not a message."""

    content_type = JSON.content_type

    def __init__(self, error: DecodeError) -> None:
        self.error = error

    @staticmethod
    def encode(body: Any) -> bytes:
        return dump_json(body)

    def decode(self, _: bytes) -> Any:
        raise self.error


def unreadable(message: Message[Any]) -> DecodeError | None:
    """Why an entry of a pack could not be read; None for every other message."""
    return message.codec.error if isinstance(message.codec, _Unreadable) else None


def _alone(read: _Read, entry: Any, outer: Message[Any], at: int, texts: Callable[[], Sequence[bytes]]) -> Message[Any]:
    """The message of an entry; one that cannot be read is that entry's own failure, with its text as it came."""
    try:
        return read(entry, outer, at)
    except Exception as error:  # noqa: BLE001 - what reading an entry raises concerns that entry alone
        failure = error if isinstance(error, DecodeError) else DecodeError(error_text(error))
        return Message.received(
            texts()[at],
            codec=_Unreadable(failure),
            id=f"{outer.id}-{at}",
            created_at=outer.created_at,
            group_id=outer.group_id,
            attributes=outer.attributes,
        )


def _from_event(event: Any, outer: Message[Any], _: int) -> Message[Any]:
    data = event.get("data") if isinstance(event, dict) else None
    if isinstance(data, _Exact):
        return _not_a_pack(load_cloud_event({**event, "data": load_json(data.raw)}, like=outer, data=data.raw))
    return _not_a_pack(load_cloud_event(event, like=outer))


def _not_a_pack(message: Message[Any]) -> Message[Any]:
    if message.header(PACK_HEADER) is not None:
        raise DecodeError("a pack inside a pack")
    return message
