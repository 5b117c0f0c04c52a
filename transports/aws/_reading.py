"""What a queue of SQS delivers, as messages: sent by this library or by others, by SNS, or by EventBridge."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from eip.codec import load_json
from eip.errors import DecodeError
from eip.events import message_of, read_event, undelivered
from eip.message import Message
from eip.transports.aws._attributes import from_carried
from eip.transports.aws._tracing import to_traceparent

__all__ = ["base64_of", "read_message"]


def read_message(
    identity: str, body: str, system: Mapping[str, Any], attributes: Mapping[str, Any]
) -> tuple[Message[Any], Exception | None]:
    """The message, and why its envelope cannot be read.

    Args:
        identity: SQS's id of it.
        body: as received.
        system: the queue's own attributes of the message, e.g. ``SentTimestamp``.
        attributes: the user's, as ReceiveMessage returns them.
    """
    known: dict[str, Any] = {"id": identity}
    if "MessageGroupId" in system:
        known["group_id"] = system["MessageGroupId"]
    if "MessageDeduplicationId" in system:
        known["deduplication_id"] = system["MessageDeduplicationId"]
    if "SentTimestamp" in system:
        known["created_at"] = int(system["SentTimestamp"]) / 1000
    if "AWSTraceHeader" in system and (traceparent := to_traceparent(system["AWSTraceHeader"])):
        known["traceparent"] = traceparent
    return _read(body, attributes, known)


def _read(body: str, attributes: Mapping[str, Any], known: dict[str, Any]) -> tuple[Message[Any], Exception | None]:
    """The message of a plain, a raw, or an SNS-wrapped delivery, or of an EventBridge event in one of these."""
    if "eip" not in attributes and '"TopicArn"' in body and '"Notification"' in body:
        try:
            wrapped: Any = load_json(body)
        except DecodeError:
            wrapped = None
        match wrapped:
            case {"Type": "Notification", "TopicArn": str(), "Message": str(inner)}:
                body = inner
                attributes = {name: _unwrapped(each) for name, each in wrapped.get("MessageAttributes", {}).items()}
                known = {**known, "id": str(wrapped.get("MessageId", known["id"]))}
    if "eip" not in attributes and '"detail-type"' in body and (event := read_event(body)) is not None:
        message, error = message_of(event, **known)
        if "group_id" in known:  # the queue's own orders it, whatever the sender's was
            message = message.replace(group_id=known["group_id"])
        return _undelivered(message, attributes), error
    return from_carried(body, attributes, **known)


def _undelivered(message: Message[Any], attributes: Mapping[str, Any]) -> Message[Any]:
    """What EventBridge says about an event in a rule's dead-letter queue, as headers."""
    said = {name: str(attribute.get("StringValue", "")) for name, attribute in attributes.items()}
    if "RULE_ARN" not in said:
        return message
    reason = f"{said.get('ERROR_CODE', '')}: {said.get('ERROR_MESSAGE', '')}"
    rule = said["RULE_ARN"].rpartition("/")[2]
    return undelivered(message, rule=rule, reason=reason, attempts=int(said.get("RETRY_ATTEMPTS") or 0))


def _unwrapped(attribute: Any) -> dict[str, Any]:
    """An attribute in a notification's JSON: Type and Value instead of DataType and StringValue."""
    if not isinstance(attribute, Mapping):
        return {}
    kind, value = str(attribute.get("Type", "String")), attribute.get("Value", "")
    if kind.startswith("Binary"):
        return {"DataType": kind, "BinaryValue": base64_of(str(value))}
    return {"DataType": kind, "StringValue": str(value)}


def base64_of(text: str) -> bytes:
    """The bytes of base64 text; none where it is malformed."""
    try:
        return b64decode(text, validate=True)
    except binascii.Error:
        return b""
