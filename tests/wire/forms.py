"""Each place that holds a message: how today's code writes a message there, and reads it back.

What is written is a value of JSON, so that a vector can be a file: bytes that are not text are ``{"base64": …}``.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any, NamedTuple

from eip import Message
from eip.cloudevents import from_cloud_event, to_cloud_event
from eip.envelope import dump_message, load_message
from eip.errors import InvalidMessage
from eip.packs import entry_of as packed_entry
from eip.packs import pack, unpack
from eip.stores.outbox import outbox_row
from eip.transports._event_format import entry_of, message_of, read_event
from eip.transports.activemq._decoding import from_frame
from eip.transports.activemq._encoding import encoded
from eip.transports.activemq._stomp.parser import Parser
from eip.transports.aws._attributes import carried, fifo_ids, native_fields
from eip.transports.aws._reading import read_message
from eip.transports.aws.kinesis.records import dump_record, load_record, to_partition_key

__all__ = ["FORMS", "Form", "written"]

LIMIT = 1_048_576


class Form(NamedTuple):
    """One place that holds a message."""

    write: Callable[[Message[Any]], Any]
    read: Callable[[Any], Message[Any]]
    exact: Callable[[Any], Any] = lambda wire: wire
    """What of the bytes is ours: a compressor of another version may write others."""


def to_json(raw: bytes) -> Any:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(raw).decode()}


def wire_bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else b64decode(value["base64"])


def _sure(read: tuple[Message[Any], Exception | None]) -> Message[Any]:
    message, error = read
    if error is not None:
        raise error
    return message


# SQS and SNS: the body, and attributes.


def _to_attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {key: value if isinstance(value, str) else to_json(value) for key, value in each.items()}
        for name, each in attributes.items()
    }


def _from_attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {key: wire_bytes(value) if key == "BinaryValue" else value for key, value in each.items()}
        for name, each in attributes.items()
    }


def _write_sqs(message: Message[Any]) -> Any:
    sent = carried(message, channel="q", limit=LIMIT)
    return {"Body": sent.body, "MessageAttributes": _to_attributes(sent.attributes)}


def _write_fifo(message: Message[Any]) -> Any:
    if message.group_id is None:
        message = message.replace(group_id="g")
    ids = fifo_ids(message, channel="q.fifo", by_content=False)
    sent = carried(message, channel="q.fifo", limit=LIMIT, native=native_fields(ids))
    return {"Body": sent.body, "MessageAttributes": _to_attributes(sent.attributes), "Attributes": ids}


def _read_sqs(wire: Any) -> Message[Any]:
    attributes = _from_attributes(wire["MessageAttributes"])
    return _sure(read_message("sqs-id", wire["Body"], wire.get("Attributes", {}), attributes))


def _write_notification(message: Message[Any]) -> Any:
    """What a subscription without raw delivery gets."""
    sent = carried(message, channel="t", limit=LIMIT)
    inside = {
        name: {
            "Type": each["DataType"],
            "Value": each.get("StringValue") or b64encode(each["BinaryValue"]).decode(),
        }
        for name, each in sent.attributes.items()
    }
    notification = {
        "Type": "Notification",
        "MessageId": "sns-id",
        "TopicArn": "arn:aws:sns:eu-central-1:123456789012:t",
        "Message": sent.body,
        "MessageAttributes": inside,
    }
    return {"Body": json.dumps(notification, ensure_ascii=False), "MessageAttributes": {}}


# EventBridge, Kinesis, STOMP.


def _write_event(message: Message[Any]) -> Any:
    entry = entry_of(message, channel="bus")
    return {
        "Source": entry.source,
        "DetailType": entry.detail_type,
        "Detail": entry.detail.decode(),
        "Time": entry.time,
    }


def _read_event(wire: Any) -> Message[Any]:
    head = {"version": "0", "id": "event-id", "source": wire["Source"], "detail-type": wire["DetailType"]}
    event = read_event(f'{json.dumps(head)[:-1]}, "detail": {wire["Detail"]}}}')
    assert event is not None
    made = _sure(message_of(event))
    return made.replace(headers={name: text for name, text in made.headers.items() if name != "event-id"})


def _write_record(message: Message[Any]) -> Any:
    return {"PartitionKey": to_partition_key(message.group_id or message.id), "Data": to_json(dump_record(message))}


def _read_record(wire: Any) -> Message[Any]:
    return _sure(load_record(wire_bytes(wire["Data"]), key=wire["PartitionKey"], id="record-id"))


def _write_frame(message: Message[Any]) -> Any:
    head, body = encoded(message, destination="/queue/q")
    return to_json(head + b"\n" + body + b"\0")


def _read_frame(wire: Any) -> Message[Any]:
    sent = wire_bytes(wire).removeprefix(b"SEND\n")
    (frame,) = Parser().feed(b"MESSAGE\nmessage-id:broker-id\n" + sent)
    received = from_frame(frame)
    return _sure((received.message, received.error))


# Packs: of the message, and another one, which is checked to be read.

OTHER = Message({"other": True}, id="other", created_at=1_700_000_001.0)


def _packer(**options: Any) -> Callable[[Message[Any]], Any]:
    def write(message: Message[Any]) -> Any:
        form = {key: value for key, value in options.items() if key in ("format", "shared")}
        like = message.replace(type=None, source=None, group_id=None) if not options.get("shared") else message
        other = OTHER.replace(type=like.type, source=like.source, group_id=like.group_id)
        return to_json(pack([packed_entry(each, **form) for each in (message, other)], like, **options).encode())

    return write


def _read_pack(wire: Any) -> Message[Any]:
    first, second = unpack(Message.received(wire_bytes(wire)))
    assert (second.id, second.body) == (OTHER.id, OTHER.body)
    return first


def _inflated(wire: Any) -> Any:
    body = json.loads(wire)
    pressed = b64decode(body["data"])
    if body["eip-pack"]["encoding"] == "gzip":
        body["data"] = zlib.decompress(pressed, wbits=31).decode()
    else:
        import zstandard

        body["data"] = zstandard.ZstdDecompressor().stream_reader(pressed).read().decode()
    return body


def _write_row(message: Message[Any]) -> Any:
    channel, group, raw, _ = outbox_row("c", message)
    return [channel, group, to_json(raw)]


FORMS = {
    "sqs": Form(_write_sqs, _read_sqs),
    "sqs-fifo": Form(_write_fifo, _read_sqs),
    "sns-notification": Form(_write_notification, _read_sqs),
    "eventbridge": Form(_write_event, _read_event),
    "kinesis": Form(_write_record, _read_record),
    "stomp": Form(_write_frame, _read_frame),
    "pack": Form(_packer(), _read_pack),
    "pack-shared": Form(_packer(shared=True), _read_pack),
    "pack-gzip": Form(_packer(encoding="gzip"), _read_pack, _inflated),
    "pack-zstd": Form(_packer(encoding="zstd"), _read_pack, _inflated),
    "pack-cloudevents": Form(_packer(format="cloudevents"), _read_pack),
    "cloudevent": Form(
        lambda message: to_json(to_cloud_event(message).encode()),
        lambda wire: from_cloud_event(Message.received(wire_bytes(wire))),
    ),
    "stored": Form(
        lambda message: to_json(dump_message(message)),
        lambda wire: load_message(wire_bytes(wire)),
    ),
    "outbox": Form(_write_row, lambda wire: load_message(wire_bytes(wire[2]))),
}


def written(form: str, message: Message[Any]) -> Any:
    """The vector of a message; None where the place cannot hold it."""
    try:
        return FORMS[form].write(message)
    except InvalidMessage:
        return None
