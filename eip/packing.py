"""Packs: many small messages as the body of one, so that a billed unit of 64 KB is filled.

A pack describes itself, so any consumer unpacks it without being told:

    {"eip-pack": {"version": 1, "encoding": "identity", "count": 2}, "messages": [{"id": …, "b": <body>}, …]}
    {"eip-pack": {"version": 1, "encoding": "zstd", "count": 181}, "data": "<the messages array, compressed, base64>"}

A CloudEvents batch (JSON array, CloudEvents 1.0, "JSON Batch Format") is the other format that is read and written.
Everything in a pack comes from a stranger: what it unpacks to is bounded in bytes, ratio, count and nesting.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import orjson

from eip.codec import JSON, Codec, TextCodec, dump_json, load_json
from eip.envelope import envelope_fields, parse_envelope
from eip.errors import ConfigurationError, DecodeError
from eip.limits import KIB, MIB
from eip.message import Message

__all__ = ["PACK_HEADER", "Bounds", "Encoding", "Format", "entry_of", "is_pack", "pack", "unpack"]

PACK_HEADER: Final = "pack"
"""The header that tells a pack from other messages without a look into its body."""

Encoding: TypeAlias = Literal["identity", "gzip", "zstd"]
Format: TypeAlias = Literal["eip", "cloudevents"]

_KEY: Final = "eip-pack"
_VERSION: Final = 1
_TEXT: Final = TextCodec()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a pack may unpack to at most."""

    size: int = 16 * MIB
    """Bytes."""
    ratio: float = 1000.0
    """Bytes unpacked per byte packed; well-packed JSON events reach a few dozen."""
    count: int = 10_000
    """Messages."""


_BOUNDS: Final = Bounds()


def is_pack(message: Message[Any]) -> bool:
    """Whether the message is a pack, or a CloudEvents batch."""
    if PACK_HEADER in message.headers:
        return True
    raw = message.raw
    return raw is not None and raw[:1] == b"[" and b'"specversion"' in raw[: 2 * KIB]


def entry_of(message: Message[Any], *, format: Format = "eip") -> bytes:  # noqa: A002 - the field's term
    """The message as one element of a pack's array."""
    if format == "cloudevents":
        return orjson.dumps(_to_cloud_event(message))
    fields = envelope_fields(message)
    if message.codec.content_type == "application/json":
        fields["b"] = orjson.Fragment(message.encode())
    else:
        fields["b"], fields["ct"] = message.encode().decode(), message.codec.content_type
    return orjson.dumps(fields)


def pack(
    entries: Sequence[bytes],
    like: Message[Any],
    *,
    encoding: Encoding = "identity",
    format: Format = "eip",  # noqa: A002 - the field's term
) -> Message[Any]:
    """One message that holds the entries; type, source, group and attributes are those of ``like``, which all share."""
    listed = b"[" + b",".join(entries) + b"]"
    if format == "cloudevents":
        body, how = listed, "cloudevents"
    else:
        about = {"version": _VERSION, "encoding": encoding, "count": len(entries)}
        content = (
            {"messages": orjson.Fragment(listed)} if encoding == "identity" else {"data": _pressed(listed, encoding)}
        )
        body, how = orjson.dumps({_KEY: about, **content}), encoding
    return Message.received(
        body,
        type=like.type,
        source=like.source,
        group_id=like.group_id,
        attributes=like.attributes,
        headers={PACK_HEADER: f"{_VERSION} {how} {len(entries)}"},
    )


def unpack(message: Message[Any], *, bounds: Bounds = _BOUNDS) -> list[Message[Any]]:
    """The messages of a pack, each with its own id, correlation, trace and headers, and the pack's attributes.

    Raises `DecodeError` for what is no pack, is malformed, holds packs itself, or exceeds the bounds.
    """
    body = message.body
    if isinstance(body, list):
        elements, count = body, len(body)
        read: Callable[[Any, Message[Any]], Message[Any]] = _from_cloud_event
    else:
        elements, count = _elements(body, bounds, len(message.encode()))
        read = _from_entry
    if len(elements) != count:
        raise DecodeError(f"pack says it holds {count} messages, but holds {len(elements)}")
    if count > bounds.count:
        raise DecodeError(f"pack of {count:,} messages exceeds the bound of {bounds.count:,}")
    return [read(each, message) for each in elements]


def _elements(body: Any, bounds: Bounds, packed_size: int) -> tuple[list[Any], int]:
    match body:
        case {"eip-pack": {"version": 1, "encoding": str() as encoding, "count": int() as count}, **content}:
            pass
        case {"eip-pack": {"version": version}} if version != _VERSION:
            raise DecodeError(f"pack of version {version!r}; this library reads version {_VERSION}")
        case _:
            raise DecodeError("body is not a pack")
    match encoding, content:
        case "identity", {"messages": list() as elements}:
            return elements, count
        case "gzip" | "zstd", {"data": str() as data}:
            limit = min(bounds.size, int(packed_size * bounds.ratio))
            elements = load_json(_inflated(data, encoding, limit))
            if isinstance(elements, list):
                return elements, count
    raise DecodeError(f"pack of encoding {encoding!r} without its messages")


def _from_entry(entry: Any, outer: Message[Any]) -> Message[Any]:
    if not isinstance(entry, Mapping) or "b" not in entry:
        raise DecodeError("pack holds something that is no message")
    envelope = parse_envelope(entry)
    codec: Codec = JSON
    if "ct" in entry:
        if entry["ct"] != _TEXT.content_type or not isinstance(entry["b"], str):
            raise DecodeError(f"packed body of content type {entry['ct']!r} cannot be read")
        codec = _TEXT
    return _inner(entry["b"], envelope, outer, codec)


def _inner(body: Any, envelope: dict[str, Any], outer: Message[Any], codec: Codec = JSON) -> Message[Any]:
    if PACK_HEADER in envelope.get("headers", ()):
        raise DecodeError("a pack inside a pack")
    envelope.setdefault("group_id", outer.group_id)
    made: Message[Any] = Message(body, **{**envelope, "attributes": outer.attributes})
    return made if codec is JSON else made.with_codec(codec)


def _pressed(listed: bytes, encoding: Encoding) -> str:
    if encoding == "gzip":
        pressed = zlib.compress(listed, 6, wbits=31)
    else:
        pressed = _zstandard().ZstdCompressor(level=1).compress(listed)
    return base64.b64encode(pressed).decode("ascii")


def _inflated(data: str, encoding: str, limit: int) -> bytes:
    """The data, decompressed to at most ``limit`` bytes; a bomb is refused before it takes more."""
    try:
        pressed = base64.b64decode(data, validate=True)
        inflate = _gunzip if encoding == "gzip" else _unzstd
        inflated = inflate(pressed, limit + 1)
    except (binascii.Error, zlib.error, EOFError) as error:
        raise DecodeError(f"pack cannot be decompressed: {error}") from error
    if len(inflated) > limit:
        raise DecodeError(f"pack unpacks to more than {limit:,} bytes")
    return inflated


def _gunzip(pressed: bytes, limit: int) -> bytes:
    stream = zlib.decompressobj(wbits=31)
    inflated = stream.decompress(pressed, limit)
    if len(inflated) < limit and not stream.eof:
        raise DecodeError("pack is truncated")
    return inflated


def _unzstd(pressed: bytes, limit: int) -> bytes:
    zstandard = _zstandard()
    try:
        with zstandard.ZstdDecompressor(max_window_size=8 * MIB).stream_reader(pressed) as stream:
            inflated: bytes = stream.read(limit)
            size = zstandard.frame_content_size(pressed)
    except zstandard.ZstdError as error:
        raise DecodeError(f"pack cannot be decompressed: {error}") from error
    if len(inflated) < min(size, limit):
        raise DecodeError("pack is truncated")
    return inflated


def _zstandard() -> Any:
    try:
        import zstandard  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError("zstd packs need the extra: pip install aioeip[zstd]") from error
    return zstandard


# CloudEvents 1.0: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md

_EXTENSIONS: Final = {"correlationid": "cid", "groupid": "group", "dedupid": "dedup", "traceparent": "trace"}
"""Extension attributes (lower case, as the specification wants) and the envelope's wire keys."""


def _to_cloud_event(message: Message[Any]) -> dict[str, Any]:
    fields = envelope_fields(message)
    event = {
        "specversion": "1.0",
        "id": message.id,
        "source": message.source or "/",
        "type": message.type or "message",
        "datacontenttype": message.codec.content_type,
        **{name: fields[key] for name, key in _EXTENSIONS.items() if key in fields},
    }
    rest = {key: value for key, value in fields.items() if key in ("at", "exp", "seq", "reply", "headers")}
    event["eipenvelope"] = dump_json(rest).decode()
    data = message.encode()
    event["data"] = orjson.Fragment(data) if message.codec is JSON else data.decode()
    return event


def _from_cloud_event(event: Any, outer: Message[Any]) -> Message[Any]:
    match event:
        case {"specversion": "1.0", "id": str() as identity, "source": str() as source, "type": str() as kind}:
            pass
        case _:
            raise DecodeError("batch holds something that is no CloudEvent of version 1.0")
    fields: dict[str, Any] = {}
    if isinstance(event.get("eipenvelope"), str):
        fields.update(parse_envelope(event["eipenvelope"]))
    named = {key: event[name] for name, key in _EXTENSIONS.items() if event.get(name) is not None}
    fields.update(parse_envelope(named), id=identity, source=source, type=kind)
    body, codec = _cloud_event_body(event)
    return _inner(body, fields, outer, codec)


def _cloud_event_body(event: Mapping[str, Any]) -> tuple[Any, Codec]:
    if "data_base64" in event:
        try:
            return load_json(base64.b64decode(event["data_base64"], validate=True)), JSON
        except (binascii.Error, TypeError, ValueError) as error:
            raise DecodeError(f"data_base64 of a CloudEvent cannot be read: {error}") from error
    text = event.get("datacontenttype") == _TEXT.content_type and isinstance(event.get("data"), str)
    return event.get("data"), _TEXT if text else JSON
