"""What a queue of SQS delivers, as messages: sent by this library or by others, by SNS, or by EventBridge.

`read_message` is the border of one message: whatever reading it raises is the error of that message alone, which is
dead-lettered with the body and the attributes that the queue delivered (the receiver's other messages are handled).
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, TypeAlias

from eip._ids import from_native_id
from eip.attributes import is_unicode
from eip.codec import JSON, Codec, load_json
from eip.errors import DecodeError
from eip.message import Message
from eip.transports._event_format import message_of, read_event, undelivered
from eip.transports.aws._attributes import from_carried, readable_attributes
from eip.transports.aws._xray import to_traceparent

__all__ = ["read_message"]

_Read: TypeAlias = tuple[Message[Any], Exception | None]


def read_message(
    identity: Any, body: Any, system: Mapping[str, Any], attributes: Mapping[str, Any], *, codec: Codec = JSON
) -> _Read:
    """The message, and why it cannot be read; raises nothing.

    Args:
        identity: SQS's id of it.
        body: as received.
        system: the queue's own attributes of the message, e.g. ``SentTimestamp``.
        attributes: the user's, as ReceiveMessage returns them.
        codec: of the channel; decodes the bodies of foreign producers.
    """
    try:
        return _read(body, attributes, _known(identity, system), codec)
    except Exception as failure:  # noqa: BLE001 - whatever it is, it concerns this message only
        return _unreadable(identity, body, system, attributes, failure)


def _unreadable(identity: Any, body: Any, system: Any, attributes: Any, failure: Exception) -> _Read:
    """The message as the queue delivered it, not looked into; the queue's group still orders it."""
    raw = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else b""
    group = system.get("MessageGroupId") if isinstance(system, Mapping) else None
    message = Message.received(
        raw,
        id=identity if isinstance(identity, str) and identity and is_unicode(identity) else None,
        group_id=group if isinstance(group, str) and is_unicode(group) else None,
        attributes=readable_attributes(attributes),
    )
    if isinstance(failure, DecodeError):
        return message, failure
    error = DecodeError(f"message cannot be read: {type(failure).__name__}: {failure}")
    error.__cause__ = failure
    return message, error


def _known(identity: Any, system: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the message that the queue itself has."""
    if not isinstance(identity, str) or not identity:
        raise DecodeError("message has no id")
    known: dict[str, Any] = {"id": identity}
    if "MessageGroupId" in system:
        known["group_id"] = system["MessageGroupId"]
    if "MessageDeduplicationId" in system:
        known["deduplication_id"] = system["MessageDeduplicationId"]
    if "SentTimestamp" in system:
        known["created_at"] = int(system["SentTimestamp"]) / 1000
    if "AWSTraceHeader" in system and (traceparent := to_traceparent(system["AWSTraceHeader"])):
        known["traceparent"] = traceparent
    return known


def _read(body: str, attributes: Mapping[str, Any], known: dict[str, Any], codec: Codec) -> _Read:
    """The message of a plain, a raw, or an SNS-wrapped delivery, or of an EventBridge event in one of these."""
    if "eip" not in attributes and '"TopicArn"' in body and '"Notification"' in body:
        body, attributes, known = _notification(body, attributes, known)
    if "eip" not in attributes and '"detail-type"' in body and (event := read_event(body)) is not None:
        message, error = message_of(event, **known)
        if "group_id" in known:  # the queue's own orders it, whatever the sender's was
            message = message.replace(group_id=from_native_id(known["group_id"], message.group_id))
        return _undelivered(message, attributes), error
    return from_carried(body, attributes, known, codec=codec)


def _notification(
    body: str, attributes: Mapping[str, Any], known: dict[str, Any]
) -> tuple[str, Mapping[str, Any], dict[str, Any]]:
    """What a topic without raw delivery wrapped into its notification; the arguments where the body is none."""
    try:
        wrapped: Any = load_json(body)
    except DecodeError:
        return body, attributes, known
    match wrapped:
        case {"Type": "Notification", "TopicArn": str(), "Message": str(inner)}:
            inside = wrapped.get("MessageAttributes", {})
            if not isinstance(inside, Mapping):
                raise DecodeError("notification of SNS: MessageAttributes is not an object")
            identity = wrapped.get("MessageId")
            known = {**known, "id": identity if isinstance(identity, str) and identity else known["id"]}
            if isinstance(wrapped.get("Subject"), str):
                known["headers"] = {"subject": wrapped["Subject"]}
            return inner, {name: _unwrapped(name, each) for name, each in inside.items()}, known
    return body, attributes, known


def _undelivered(message: Message[Any], attributes: Mapping[str, Any]) -> Message[Any]:
    """What EventBridge notes about an event in a rule's dead-letter queue, as headers."""
    noted = {name: str(attribute.get("StringValue", "")) for name, attribute in attributes.items()}
    if "RULE_ARN" not in noted:
        return message
    reason = f"{noted.get('ERROR_CODE', '')}: {noted.get('ERROR_MESSAGE', '')}"
    rule = noted["RULE_ARN"].rpartition("/")[2]
    return undelivered(message, rule=rule, reason=reason, attempts=int(noted.get("RETRY_ATTEMPTS") or 0))


def _unwrapped(name: str, attribute: Any) -> dict[str, Any]:
    """An attribute in a notification's JSON: Type and Value instead of DataType and StringValue."""
    match attribute:
        case {"Type": str(kind), "Value": str(value)} if kind.startswith("Binary"):
            try:
                return {"DataType": kind, "BinaryValue": b64decode(value, validate=True)}
            except binascii.Error as error:
                raise DecodeError(f"notification of SNS: attribute {name!r} is not base64") from error
        case {"Type": str(kind), "Value": str(value)}:
            return {"DataType": kind, "StringValue": value}
    raise DecodeError(f"notification of SNS: attribute {name!r} is not {{Type, Value}}")
