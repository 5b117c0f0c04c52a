"""A message's attributes and envelope as SQS and SNS carry them: ten attributes, one of them our envelope's.

The user's attributes are native, so that filter policies and other programs read them; every field of the envelope is
in one attribute named ``eip`` (docs/wire-format.md). Types that a native attribute does not tell apart (bool, Decimal,
float) are noted in the envelope under ``types``.

What was received can be sent again, on its way to a dead-letter queue and back: attributes that the services deliver
but do not take (names ``AWS.…``, an eleventh) travel in the envelope under ``attrs``, and where there is no room for
the envelope, the reason of a dead letter is cut, then left out and logged, and last the whole envelope, where it holds
nothing that the message did not come with.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from eip._ids import from_native_id, is_own_group, new_id, own_group, to_native_id
from eip._logging import get_logger
from eip.attributes import (
    Foreign,
    Native,
    check_attributes,
    from_native,
    is_native,
    load_attributes,
    to_native,
    to_wire,
)
from eip.codec import JSON, Codec
from eip.envelope import (
    ENVELOPE_KEY,
    body_from_text,
    body_to_text,
    dump_fields,
    envelope_fields,
    load_envelope,
    parse_envelope,
)
from eip.errors import DecodeError, InvalidMessage, MessageTooLarge
from eip.message import Message

__all__ = ["Carried", "carried", "fifo_ids", "from_carried", "native_fields", "readable_attributes"]

_log = get_logger("eip.aws")

_MAX_ATTRIBUTES: Final = 10
_UNREAD_KEY: Final = "eip-unread"
"""The attribute that keeps an envelope which cannot be read, as it came."""
_NAME: Final = re.compile(r"(?!(?:aws|amazon)\.)(?!\.)(?!.*\.\.)[A-Za-z0-9_.-]{1,256}(?<!\.)", re.IGNORECASE)
_UNCARRIED: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""Characters that XML 1.0 cannot express (SQS API reference, SendMessage)."""
_REASON: Final = "dead-letter-reason"
_FAILURE: Final = frozenset((_REASON, "dead-letter-source", "dead-letter-count", "attempts"))
"""Headers that describe a failure; the message is the same without them."""
_FIELDS: Final = {"MessageGroupId": "group", "MessageDeduplicationId": "dedup"}
"""Fields of the envelope by the parameters that carry the same."""
_SPARE: Final = frozenset(("v", "id", "at", "group", "dedup", "trace", "ct"))
"""Envelope fields that the queue itself supplies, or that the channel knows."""
_MIN_REASON: Final = 20
"""Shortest reason, in characters, that is kept; a shorter one is dropped."""


_NOTHING: Final[Mapping[str, str | None]] = MappingProxyType({})


class Carried(NamedTuple):
    """A message as a service carries it."""

    body: str
    attributes: dict[str, dict[str, Any]]
    size: int
    """Bytes of UTF-8, attributes included: names, types and values, as the services count them."""


def carried(message: Message[Any], *, channel: str, limit: int, native: Mapping[str, str | None] = _NOTHING) -> Carried:
    """The message's body and attributes; raises `InvalidMessage` if they cannot be carried.

    Args:
        message: what is sent.
        channel: for people.
        limit: bytes of a message, attributes included.
        native: the fields of the envelope that the channel carries itself, as it carries them; one that had to be
            mapped is in the envelope, too.
    """
    body, form = body_to_text(message)
    fields = envelope_fields(message) | form
    for key, text in native.items():
        if fields.get(key) == text:
            fields.pop(key, None)
    attributes, left = _natives(message, channel, fields)
    spare = message.raw is not None and not left and not _needed(fields)
    if not spare:
        _make_room(message, attributes, left)
    if left:
        fields["attrs"] = left
    whole = size = _length(body) + sum(_size(name, each) for name, each in attributes.items())
    if len(attributes) < _MAX_ATTRIBUTES:
        envelope, length = _envelope(message, fields, room=limit - size)
        whole += length
        if whole <= limit:
            attributes[ENVELOPE_KEY] = envelope
            return Carried(body, attributes, whole)
    if spare and size <= limit:
        _log_left_out(message)
        return Carried(body, attributes, size)
    raise MessageTooLarge(whole, limit, channel=channel)


def fifo_ids(message: Message[Any], *, channel: str, by_content: bool) -> dict[str, str]:
    """The parameters of SQS and SNS that order and deduplicate a message, for a FIFO queue or topic.

    A dead letter without a group, of a channel that knows none, is a group of its own; and no duplicate of what it was
    when it failed before.

    Args:
        message: what is sent.
        channel: for people.
        by_content: whether the channel deduplicates by the body what has no deduplication id.

    Raises:
        InvalidMessage: it has no group id, and is no dead letter.
    """
    if message.group_id is None:
        if "dead-letter-source" not in message.headers:
            raise InvalidMessage(f"{channel} is FIFO: a message needs a group_id")
        return {"MessageGroupId": own_group(message.id), "MessageDeduplicationId": new_id()}
    ids = {"MessageGroupId": to_native_id(message.group_id)}
    if message.deduplication_id is not None:
        ids["MessageDeduplicationId"] = to_native_id(message.deduplication_id)
    elif not by_content:
        ids["MessageDeduplicationId"] = to_native_id(message.id)
    return ids


def native_fields(ids: Mapping[str, str]) -> dict[str, str | None]:
    """The same as fields of the envelope, see `carried`."""
    return {_FIELDS[name]: text for name, text in ids.items()}


def _needed(fields: Mapping[str, Any]) -> bool:
    """Whether the envelope holds anything that the service does not supply itself."""
    return bool(fields.keys() - _SPARE - {"headers"}) or not fields.get("headers", {}).keys() <= _FAILURE


def _natives(
    message: Message[Any], channel: str, fields: dict[str, Any]
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The native attributes, and those that are left for the envelope; notes the types in ``fields``."""
    if not message.attributes:
        return {}, {}
    attributes: dict[str, dict[str, Any]] = {}
    left: dict[str, Any] = {}
    types: dict[str, str] = {}
    most = _MAX_ATTRIBUTES - (message.raw is None)
    for name, value in message.attributes.items():
        native = to_native(value)
        data_type, content, note = native
        foreign = isinstance(value, Foreign)
        problem = _problem(name, native, channel, checked=not foreign)
        if problem is None and len(attributes) == most:
            problem = (
                f"{channel} carries {_MAX_ATTRIBUTES} attributes, one of which is the envelope's; "
                f"the message has {len(message.attributes)}"
            )
        if problem is None:
            key = "BinaryValue" if isinstance(content, bytes) else "StringValue"
            attributes[name] = {"DataType": data_type, key: content}
            if note:
                types[name] = note
        elif message.raw is None and not foreign:
            raise InvalidMessage(problem)
        else:
            left[name] = to_wire(value)
    if types:
        fields["types"] = types
    return attributes, left


def _make_room(message: Message[Any], attributes: dict[str, dict[str, Any]], left: dict[str, Any]) -> None:
    """Leave one of the ten places free for the envelope."""
    while len(attributes) >= _MAX_ATTRIBUTES:
        name, _ = attributes.popitem()
        left[name] = to_wire(message.attributes[name])


def _problem(name: str, native: Native, channel: str, *, checked: bool) -> str | None:
    """Why the channel does not take the attribute; None if it does. A ``checked`` one has a type and text of ours."""
    content = native.value
    if not _NAME.fullmatch(name) or name == ENVELOPE_KEY:
        return f"{channel} carries no attribute named {name!r}"
    if not content:
        return f"attribute {name!r} is empty; {channel} carries no empty attribute"
    if isinstance(content, str) and _UNCARRIED.search(content):
        return f"attribute {name!r} has control characters, which {channel} does not carry"
    if not checked and not is_native(native):
        return f"attribute {name!r} is not a valid {native.data_type}"
    return None


def _envelope(message: Message[Any], fields: dict[str, Any], *, room: int) -> tuple[dict[str, Any], int]:
    """The envelope's attribute and its size: whole, or shorter where it does not fit otherwise."""
    envelope = _attribute(fields)
    size = _size(ENVELOPE_KEY, envelope)
    if size > room:
        for envelope in _shorter_envelopes(message, fields, over=size - room):
            size = _size(ENVELOPE_KEY, envelope)
            if size <= room:
                break
    return envelope, size


def _shorter_envelopes(message: Message[Any], fields: dict[str, Any], *, over: int) -> Iterator[dict[str, Any]]:
    """The envelope's attribute for what is sent again: with a reason ``over`` characters shorter, and without one."""
    headers = fields.get("headers", {})
    if message.raw is None or headers.keys().isdisjoint(_FAILURE):
        return
    reason = headers.get(_REASON, "")
    if len(reason) - over >= _MIN_REASON:
        yield _attribute({**fields, "headers": {**headers, _REASON: reason[: len(reason) - over]}})
    kept = {name: text for name, text in headers.items() if name not in _FAILURE}
    if kept or _needed(fields):
        _log_left_out(message)
        yield _attribute({**fields, "headers": kept})


def _log_left_out(message: Message[Any]) -> None:
    """Log the reason of a dead letter that has no room for it."""
    if _REASON in message.headers:
        _log.warning("dead_letter_reason_left_out", message_id=message.id, reason=message.headers[_REASON])


def _attribute(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"DataType": "String", "StringValue": dump_fields(fields).decode()}


def _size(name: str, attribute: Mapping[str, Any]) -> int:
    text = attribute.get("StringValue")
    length = len(attribute.get("BinaryValue") or b"") if text is None else _length(text)
    return _length(name) + _length(attribute["DataType"]) + length


def _length(text: str) -> int:
    """Bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def from_carried(
    body: str, attributes: Mapping[str, Mapping[str, Any]], known: Mapping[str, Any], *, codec: Codec = JSON
) -> tuple[Message[Any], Exception | None]:
    """The message as it was sent, or as a foreign producer sent it, and why its envelope cannot be read.

    Args:
        body: as carried.
        attributes: as ReceiveMessage returns them.
        known: fields that the service itself has, e.g. the message group: its group and deduplication id win over the
            envelope's, since it orders and deduplicates by them.
        codec: of the channel; decodes what came without an envelope.
    """
    try:
        fields = _fields(attributes.get(ENVELOPE_KEY))
        sent = parse_envelope(fields)
        envelope = {**known, **sent}
        if "group_id" in known or "deduplication_id" in known:
            envelope |= _ids(known, sent)
        envelope["attributes"] = _values(attributes, fields)
        raw, envelope["codec"] = body_from_text(body, fields, channel=codec)
    except (DecodeError, LookupError) as error:
        unread = Message.received(body.encode(), attributes=readable_attributes(attributes), **known)
        return unread, DecodeError(f"envelope cannot be read: {error}")
    return Message.received(raw, **envelope), None


def _ids(known: Mapping[str, Any], sent: Mapping[str, Any]) -> dict[str, str | None]:
    """Group and deduplication id where the service has its own, save those of `fifo_ids` for one without a group."""
    if "group_id" not in sent and is_own_group(known.get("group_id"), sent.get("id", "")):
        known = {}
    return {name: from_native_id(known.get(name), sent.get(name)) for name in ("group_id", "deduplication_id")}


def _values(attributes: Mapping[str, Mapping[str, Any]], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The user's attributes: the native ones, and those that travelled in the envelope."""
    types = _object(fields["types"] or {}) if "types" in fields else {}
    values = {name: _value(each, types.get(name)) for name, each in attributes.items() if name != ENVELOPE_KEY}
    return values | load_attributes(fields["attrs"]) if "attrs" in fields else values


def readable_attributes(attributes: Any) -> dict[str, Any]:
    """The attributes of a message that cannot be read; those that cannot be read either are left out.

    Its envelope becomes the attribute ``eip-unread``, since the dead letter has an envelope of its own.
    """
    if not isinstance(attributes, Mapping):
        return {}
    found: dict[str, Any] = {}
    for name, each in attributes.items():
        with contextlib.suppress(Exception):
            value = _value(each, None)
            check_attributes({name: value})  # an emulator's JSON can hold lone surrogates
            found[_UNREAD_KEY if name == ENVELOPE_KEY else name] = value
    return found


def _fields(envelope: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return {} if envelope is None else _object(load_envelope(envelope["StringValue"]))


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DecodeError("not a JSON object")
    return value


def _value(attribute: Mapping[str, Any], note: Any) -> Any:
    data_type = attribute["DataType"]
    binary = data_type.startswith("Binary")
    content = attribute["BinaryValue" if binary else "StringValue"]
    if not isinstance(content, bytes if binary else str):
        raise DecodeError(f"an attribute of type {data_type} holds {type(content).__name__}")
    return from_native(data_type, content, note if isinstance(note, str) else "")
