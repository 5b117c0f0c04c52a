"""Compression of packs: text that a stranger sent is inflated within a bound."""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Any, Literal, TypeAlias, get_args

from eip.errors import ConfigurationError, DecodeError
from eip.limits import MIB

__all__ = ["Encoding", "check_encoding", "compressed", "inflated"]

Encoding: TypeAlias = Literal["identity", "gzip", "zstd"]


def check_encoding(encoding: Encoding) -> None:
    """Raise `ConfigurationError` where the encoding is not known, or its extra is not installed."""
    if encoding not in get_args(Encoding):
        raise ConfigurationError(f"encoding is one of {', '.join(map(repr, get_args(Encoding)))}, not {encoding!r}")
    if encoding == "zstd":
        _zstandard()


def compressed(listed: bytes, encoding: Encoding) -> str:
    """The data, compressed, as base64 text."""
    if encoding == "gzip":
        pressed = zlib.compress(listed, 6, wbits=31)
    else:
        pressed = _zstandard().ZstdCompressor(level=1).compress(listed)
    return base64.b64encode(pressed).decode("ascii")


def inflated(data: str, encoding: str, limit: int) -> bytes:
    """The data, decompressed to at most ``limit`` bytes; a bomb is refused before it takes more."""
    try:
        pressed = base64.b64decode(data, validate=True)
        inflate = _gunzip if encoding == "gzip" else _unzstd
        found = inflate(pressed, limit + 1)
    except (binascii.Error, zlib.error, EOFError) as error:
        raise DecodeError(f"pack cannot be decompressed: {error}") from error
    if len(found) > limit:
        raise DecodeError(f"pack unpacks to more than {limit:,} bytes")
    return found


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
