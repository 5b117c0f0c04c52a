"""How a message's body becomes bytes, and bytes become a body.

The body on the wire is the user's own JSON, so that a foreign consumer reads it without this library and a foreign
producer's plain message is consumed by it. The envelope travels beside it, see `eip.envelope`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from eip._json import (
    dump_json,
    is_embeddable,
    json_elements,
    json_members,
    load_json,
    validate_json,
    validate_value,
)
from eip.errors import DecodeError, InvalidMessage

__all__ = [
    "BYTES",
    "JSON",
    "TEXT",
    "BytesCodec",
    "Codec",
    "JsonCodec",
    "TextCodec",
    "ViewCodec",
    "check_codec",
    "codec_of",
    "dump_json",
    "is_embeddable",
    "is_json",
    "json_elements",
    "json_members",
    "load_json",
    "validate_json",
    "validate_value",
    "writer_of",
]


class Codec(Protocol):
    """Turns bodies into bytes and back; both directions must be pure."""

    content_type: str

    def encode(self, body: Any, /) -> bytes:
        """The bytes of a body; raises `InvalidMessage` for one that cannot be encoded."""
        ...

    def decode(self, raw: bytes, /) -> Any:
        """The body of the bytes; raises `DecodeError`."""
        ...


class JsonCodec:
    """The default: bodies are JSON in UTF-8.

    Args:
        content_type: default ``application/json``; or a type of that syntax, e.g. ``application/vnd.acme.order+json``.
    """

    content_type: str = "application/json"

    def __init__(self, content_type: str | None = None) -> None:
        if content_type is not None:
            self.content_type = content_type

    encode = staticmethod(dump_json)
    decode = staticmethod(load_json)


_CHARSET: Final = re.compile(
    r";\s*charset\s*=\s*\"?(us-ascii|iso-8859-(?:[1-9]|1[0134-6])|windows-125[0-8]|utf-16(?:le|be)?)\b", re.IGNORECASE
)
"""The others that Python knows are not text, or take more than linear time."""


class TextCodec:
    """Bodies are plain text in UTF-8, for channels whose other side does not speak JSON.

    Args:
        content_type: default ``text/plain``; or another type of text. The characters are UTF-8 unless its ``charset``
            is ASCII, an ISO 8859, a Windows code page or UTF-16.
    """

    content_type: str = "text/plain"
    _charset = "utf-8"

    def __init__(self, content_type: str | None = None) -> None:
        if content_type is not None:
            self.content_type = content_type
            if found := _CHARSET.search(content_type):
                self._charset = found[1].lower()

    def encode(self, body: Any) -> bytes:
        """The text's bytes; raises `InvalidMessage` for anything but a string."""
        if not isinstance(body, str):
            raise InvalidMessage(f"a text body must be a string, not {type(body).__name__}")
        try:
            return body.encode(self._charset)
        except UnicodeEncodeError as error:
            raise InvalidMessage(f"body is not {self._charset} text: {error.reason} at {error.start}") from None

    def decode(self, raw: bytes) -> str:
        """The bytes' text; raises `DecodeError`."""
        try:
            return raw.decode(self._charset)
        except UnicodeDecodeError as error:
            raise DecodeError(f"body is not {self._charset}: {error.reason} at byte {error.start}") from error


class BytesCodec:
    """Bodies are bytes that nothing interprets.

    Args:
        content_type: default ``application/octet-stream``; or what the bytes are, e.g. ``image/png``.
    """

    content_type: str = "application/octet-stream"

    def __init__(self, content_type: str | None = None) -> None:
        if content_type is not None:
            self.content_type = content_type

    @staticmethod
    def encode(body: Any) -> bytes:
        """The bytes; raises `InvalidMessage` for anything else."""
        if not isinstance(body, (bytes, bytearray, memoryview)):
            raise InvalidMessage(f"a body of this content type must be bytes, not {type(body).__name__}")
        return bytes(body)

    @staticmethod
    def decode(raw: bytes) -> bytes:
        """The bytes."""
        return raw


JSON: Final[Codec] = JsonCodec()
TEXT: Final[Codec] = TextCodec()
BYTES: Final[Codec] = BytesCodec()
_CODECS: Final[Mapping[str, Codec]] = {each.content_type: each for each in (JSON, TEXT, BYTES)}


class ViewCodec:
    """Bodies that one codec writes, read as something else: a model, the plain text, the bytes.

    Args:
        writer: what encodes the body.
        read: what a body of these bytes is read as; raises `DecodeError`.
    """

    def __init__(self, writer: Codec, read: Callable[[bytes], Any]) -> None:
        self.writer, self.content_type = writer, writer.content_type
        self.encode, self.decode = writer.encode, read


_OURS: Final = frozenset((JsonCodec, TextCodec, BytesCodec, ViewCodec))


def check_codec(codec: Any, *, optional: bool = False) -> None:
    """Raise `TypeError` unless ``codec`` is a codec; a class is not one. For our own codecs this is one look-up."""
    if codec.__class__ in _OURS or (optional and codec is None):
        return
    whole = isinstance(getattr(codec, "content_type", None), str) and all(
        callable(getattr(codec, name, None)) for name in ("encode", "decode")
    )
    if isinstance(codec, type) or not whole:
        raise TypeError(f"codec must be a Codec{' or None' if optional else ''}, got {codec!r}")


def writer_of(codec: Codec) -> Codec:
    """The codec that writes what this one does, without its view."""
    return codec if codec is JSON or not isinstance(codec, ViewCodec) else codec.writer


_TEXTS: Final = ("/xml", "+xml", "/yaml", "+yaml", "/javascript", "/x-www-form-urlencoded")


def codec_of(content_type: str, channel: Codec = JSON) -> Codec:
    """The codec of a content type.

    Args:
        content_type: what an envelope says of the body.
        channel: the codec of the channel that brought it; taken where it is of that type.

    Returns:
        For ``text/...``, XML and YAML a `TextCodec`, for ``.../json`` and ``...+json`` a `JsonCodec`, for any other
        type a `BytesCodec`: the body is what came, and is passed on with its type.
    """
    if content_type == channel.content_type:
        return channel
    if (known := _CODECS.get(content_type)) is not None:
        return known
    kind = content_type.partition(";")[0].strip().lower()
    if kind.endswith(("/json", "+json")):
        return JsonCodec(content_type)
    is_text = kind.startswith("text/") or kind.endswith(_TEXTS)
    return TextCodec(content_type) if is_text else BytesCodec(content_type)


def is_json(codec: Codec) -> bool:
    """Whether the codec's bodies are JSON on the wire."""
    return codec is JSON or isinstance(codec_of(codec.content_type), JsonCodec)
