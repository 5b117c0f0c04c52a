"""Bodies between STOMP and JMS.

The broker passes the bytes of a TextMessage on as they are, and Java's are not quite UTF-8: a character beyond the
Basic Multilingual Plane is a pair of surrogates of three bytes each, a NUL is two bytes. A JMS consumer cannot read the
four bytes of UTF-8, and a STOMP consumer cannot read Java's six.
"""

from __future__ import annotations

import re
from typing import Any, Final

from eip.codec import JSON
from eip.message import Message

__all__ = ["JMS_MESSAGE_HEADER", "body_read", "body_written", "escaped_json"]

JMS_MESSAGE_HEADER: Final = "jms-message"
"""Message header with the value ``bytes``: another program's BytesMessage, which is sent on as one."""

_BEYOND_BMP: Final = re.compile("[\U00010000-\U0010ffff]")
_JAVA_ONLY: Final = re.compile(rb"\xed[\xa0-\xbf]|\xc0\x80")


def body_written(message: Message[Any]) -> tuple[bytes, bool]:
    """Return the body's bytes on the wire, and whether JMS consumers get a TextMessage."""
    raw = message.encode()
    if 0 in raw or message.headers.get(JMS_MESSAGE_HEADER) == "bytes" or not _is_text(message.codec.content_type):
        return raw, False
    if raw.isascii():
        return raw, True
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return raw, False
    if _BEYOND_BMP.search(text) is None:
        return raw, True
    if message.codec.content_type == JSON.content_type and raw is not message.raw:
        return escaped_json(text).encode(), True  # any JSON reader understands escapes
    return _BEYOND_BMP.sub(_surrogates, text).encode("utf-8", "surrogatepass"), True  # `body_read` undoes it


def body_read(body: bytes, *, text: bool) -> bytes:
    """Return the body in UTF-8; unchanged if it is not a text, or not in Java's encoding."""
    if not text or body.isascii() or _JAVA_ONLY.search(body) is None:
        return body
    try:
        read = body.replace(b"\xc0\x80", b"\0").decode("utf-8", "surrogatepass")
        return read.encode("utf-16-le", "surrogatepass").decode("utf-16-le").encode()
    except UnicodeError:
        return body


def escaped_json(text: str) -> str:
    """Return JSON text with the characters beyond the Basic Multilingual Plane as escapes."""
    return _BEYOND_BMP.sub(lambda found: "".join(f"\\u{ord(each):04x}" for each in _surrogates(found)), text)


def _surrogates(found: re.Match[str]) -> str:
    high, low = divmod(ord(found[0]) - 0x10000, 0x400)
    return chr(0xD800 + high) + chr(0xDC00 + low)


def _is_text(content_type: str) -> bool:
    return content_type.startswith("text/") or "json" in content_type or "xml" in content_type
