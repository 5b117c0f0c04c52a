"""STOMP 1.2 frames: what they hold, and how they are written.

Source: https://stomp.github.io/stomp-specification-1.2.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from eip.errors import ConnectionLost, InvalidMessage

__all__ = ["Frame", "NotStomp", "ProtocolError", "dump", "escape", "parse_head", "with_error"]

_ESCAPED: Final = re.compile(r"\\(.?)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "c": ":", "\\": "\\", "r": "\r"}
_VERBATIM: Final = ("CONNECT", "CONNECTED")
"""Frames whose headers are not escaped, for the sake of STOMP 1.0."""
_SETTLING: Final = ("ack", "subscription", "message-id", "content-length")
"""Headers of a MESSAGE that decide where it ends and how it is settled: the broker sends each once."""


class ProtocolError(ConnectionLost):
    """The bytes received are not STOMP: nothing that follows on the connection can be trusted."""


class NotStomp(ProtocolError):
    """The bytes received do not begin with a command; ``start`` are the first of them."""

    def __init__(self, start: bytes) -> None:
        super().__init__(start)
        self.start = start

    def __str__(self) -> str:
        return f"not a STOMP frame: {self.start!r}"


class Frame(NamedTuple):
    """A frame as received; of a repeated header the first counts."""

    command: str
    headers: dict[str, str]
    body: bytes
    error: str | None = None
    """Why it is malformed; None: it is not."""
    head: bytes = b""
    """The command and headers of a malformed frame as they came."""
    complete: bool = True
    """Whether its end was found; otherwise its body is missing and the reader has failed."""


def escape(text: str) -> str:
    """Escape a header's name or value."""
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if "\n" in text:
        text = text.replace("\n", "\\n")
    if "\r" in text:
        text = text.replace("\r", "\\r")
    return text.replace(":", "\\c") if ":" in text else text


def dump(command: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """Write a frame; raises `InvalidMessage` for a NUL in a header, which brokers do not expect there."""
    if any("\0" in text for pair in headers.items() for text in pair):
        raise InvalidMessage("a STOMP header must not contain a NUL character")
    if command in _VERBATIM:
        lines = [f"{name}:{value}\n" for name, value in headers.items()]
    else:
        lines = [f"{escape(name)}:{escape(value)}\n" for name, value in headers.items()]
    return b"".join((f"{command}\n{''.join(lines)}\n".encode(), body, b"\0"))


def with_error(frame: Frame, error: str, head: bytes = b"") -> Frame:
    """Return the frame with an error; the first one counts."""
    return frame if frame.error is not None else frame._replace(error=error, head=head or frame.head)


def parse_head(head: bytes) -> Frame:
    """Return the frame of a head; what is malformed in it is left out or kept literally, and noted as its error."""
    return _parse_plain(head) or _parse_odd(head)


def _parse_plain(head: bytes) -> Frame | None:
    """Return the frame of a head as brokers write it, with colons as the only escapes; None: take a closer look."""
    try:
        text = head.decode()
    except UnicodeDecodeError:
        return None
    command, *lines = text.split("\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if "\\" in line:
            if "\\\\" in line:
                return None
            value = value.replace("\\c", ":")
            if "\\" in value or "\\" in name:
                return None
        if not colon:
            return None
        headers[name] = value
    if len(headers) != len(lines) or "\r" in text or command in _VERBATIM:
        return None
    return Frame(command, headers, b"")


def _parse_odd(head: bytes) -> Frame:
    error: str | None = None
    try:
        text = head.decode()
    except UnicodeDecodeError:
        text, error = head.decode(errors="replace"), "a header is not UTF-8"
    lines = [line.removesuffix("\r") for line in text.split("\n")] if "\r" in text else text.split("\n")
    command = lines.pop(0)
    escaped = "\\" in text and command not in _VERBATIM
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            error = error or f"a header has no value: {line[:40]!r}"
            continue
        if escaped and "\\" in line:
            if "\\" in name:
                name = _unescape(name) or name  # brokers do not escape names
            if "\\" not in value:
                pass
            elif (plain := _unescape(value)) is None:
                error = error or f"undefined escape in a header: {value[:40]!r}"
            else:
                value = plain
        if headers.setdefault(name, value) != value and name in _SETTLING:
            error = error or f"header {name!r} comes twice"
    return Frame(command, headers, b"", error, b"" if error is None else head)


def _unescape(text: str) -> str | None:
    """Return the text that was escaped; None for an undefined escape."""
    if "\\\\" not in text:  # each backslash begins an escape of its own
        plain = text.replace("\\c", ":").replace("\\n", "\n").replace("\\r", "\r")
        return plain if "\\" not in plain else None
    try:
        return _ESCAPED.sub(lambda found: _ESCAPES[found[1]], text)
    except KeyError:
        return None
