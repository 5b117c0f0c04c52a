"""The messages of the golden vectors."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from eip import Message, SequenceInfo
from eip.attributes import from_native
from eip.codec import BytesCodec, JsonCodec, TextCodec

__all__ = ["FIRST", "MESSAGES"]

AT = 1_700_000_000.5
PLAIN = Message({"n": 1}, id="plain", created_at=AT, type="Plain", source="com.example")
FULL = Message(
    {"order": {"id": 7, "total": 12.5, "note": "Grüße, 東京"}, "lines": [1, None, True]},
    id="0123456789abcdef0123456789abcdef",
    type="OrderPlaced",
    source="com.example.shop",
    correlation_id="cart-1",
    return_address="activemq:queue/replies",
    group_id="customer-7",
    deduplication_id="order-7",
    sequence=SequenceInfo("basket", 1, 3),
    created_at=AT,
    expires_at=4_000_000_000.25,
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    attributes={
        "kind": "express",
        "count": 3,
        "price": 12.5,
        "exact": Decimal("1.10"),
        "gift": True,
        "token": b"\x00\xff",
        "tags": ["a", 1],
    },
    headers={"attempts": "2", "history": "shop"},
)
LIST = Message([1, 2, {"three": 3}], id="list", created_at=AT, type="List", source="com.example")
TEXT = Message("a text, not JSON", id="text", created_at=AT, codec=TextCodec())
FIRST: dict[str, Message[Any]] = {"plain": PLAIN, "full": FULL, "list": LIST, "text": TEXT}
"""What the releases before version 1 could write."""

BYTES = Message(b"\x89PNG\xff\x00", id="bytes", created_at=AT, codec=BytesCodec("image/png"))
CONTROL = Message("a\0b\ud7ff\uffff", id="control", created_at=AT, codec=TextCodec("text/plain; charset=utf-8"))
EMPTY = Message.received(b"", id="empty", created_at=AT)
NO_JSON = Message.received(b"Message at 12:00", id="no-json", created_at=AT)
DIGITS = Message.received(
    b'{ "n": 1.10, "n": 1e400, "big": 123456789012345678901234567890 }',
    id="digits",
    created_at=AT,
    type="Digits",
    source="com.example",
    codec=JsonCodec("application/vnd.example+json"),
)
FOREIGN = Message.received(
    b"{}",
    id="foreign",
    created_at=AT,
    type="Foreign",
    source="com.example",
    group_id="order 7, M\u00fcller",
    deduplication_id="d" * 200,
    attributes={
        "int": from_native("Number.int", "007"),
        "price": from_native("Number", "1.10"),
        "uuid": from_native("String.UUID", "8a1b"),
        "gif": from_native("Binary.gif", b"GIF89a"),
        "huge": 10**50,
    },
    extensions={"novel": {"a": [1, None]}},
)
NUMBERS: Message[Any] = Message(
    {},
    id="numbers",
    created_at=AT,
    type="Numbers",
    source="com.example",
    attributes={
        "digits": 10**38 + 1,
        "large": 1e300,
        "small": 5e-324,
        "exact": Decimal("1." + "3" * 40),
        "last": 10**126,
    },
)
MESSAGES: dict[str, Message[Any]] = {
    **FIRST,
    "bytes": BYTES,
    "control": CONTROL,
    "empty": EMPTY,
    "no-json": NO_JSON,
    "digits": DIGITS,
    "foreign": FOREIGN,
    "numbers": NUMBERS,
}
