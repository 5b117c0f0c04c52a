"""STOMP 1.2 frames: written, and read as they come.

The reader looks for the ends of headers and bodies with ``find()`` instead of byte by byte: a 64 KB message costs
what copying it costs. Source: https://stomp.github.io/stomp-specification-1.2.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from eip.errors import ConnectionLost, InvalidMessage
from eip.limits import MIB

__all__ = ["Frame", "Parser", "ProtocolError", "dump", "escape"]

_ENDS: Final = re.compile(rb"[\r\n]*")
_ESCAPED: Final = re.compile(r"\\(.?)", re.DOTALL)
_MEANT: Final = {"n": "\n", "c": ":", "\\": "\\", "r": "\r"}
_VERBATIM: Final = ("CONNECT", "CONNECTED")
"""Frames whose headers are not escaped, for the sake of STOMP 1.0."""


class ProtocolError(ConnectionLost):
    """What came is not STOMP, or more than is taken: nothing that follows on the connection can be trusted."""


class Frame(NamedTuple):
    """A frame as received; of a repeated header the first counts."""

    command: str
    headers: dict[str, str]
    body: bytes


def escape(text: str) -> str:
    """A header's name or value as it is written."""
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if "\n" in text:
        text = text.replace("\n", "\\n")
    if "\r" in text:
        text = text.replace("\r", "\\r")
    return text.replace(":", "\\c") if ":" in text else text


def dump(command: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """A frame as it is written; raises `InvalidMessage` for a NUL in a header, for which STOMP has no escape."""
    if any("\0" in text for pair in headers.items() for text in pair):
        raise InvalidMessage("a header of STOMP holds no NUL")
    if command in _VERBATIM:
        lines = [f"{name}:{value}\n" for name, value in headers.items()]
    else:
        lines = [f"{escape(name)}:{escape(value)}\n" for name, value in headers.items()]
    return b"".join((f"{command}\n{''.join(lines)}\n".encode(), body, b"\0"))


class Parser:
    """Turns bytes into frames, wherever they are cut; heart-beats between frames vanish.

    Raises `ProtocolError`, and is of no use afterwards.

    Args:
        most_body: bytes of a body at most.
        most_head: bytes of a command with its headers at most.
    """

    __slots__ = ("_at", "_buffer", "_head", "_length", "_most_body", "_most_head", "_searched")

    def __init__(self, *, most_body: int = 100 * MIB, most_head: int = MIB) -> None:
        self._most_body, self._most_head = most_body, most_head
        self._buffer = bytearray()
        self._at = 0
        """Where what is being read begins: a head, or a body."""
        self._searched = 0
        """Up to where its end is not."""
        self._head: tuple[str, dict[str, str]] | None = None
        """Command and headers of the frame whose body is being read."""
        self._length: int | None = None
        """The length of that body, where a header tells."""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole now."""
        self._buffer += data
        frames: list[Frame] = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        del self._buffer[: self._at]
        self._searched -= self._at
        self._at = 0
        return frames

    def _next(self) -> Frame | None:
        if self._head is None:
            self._head = self._read_head()
            if self._head is None:
                return None
        end = self._end_of_body()
        if end is None:
            return None
        command, headers = self._head
        with memoryview(self._buffer) as view:
            body = bytes(view[self._at : end])
        self._head = None
        self._at = self._searched = end + 1
        return Frame(command, headers, body)

    def _read_head(self) -> tuple[str, dict[str, str]] | None:
        buffer, start = self._buffer, self._at
        if self._searched <= start:  # heart-beats between frames are ends of lines
            start = self._at = self._searched = _ENDS.match(buffer, start).end()  # type: ignore[union-attr]  # it matches nothing, too
        end = buffer.find(b"\n\n", self._searched)
        width = 2
        other = buffer.find(b"\n\r\n", self._searched, len(buffer) if end < 0 else end)
        if other >= 0:
            end, width = other, 3
        if (len(buffer) if end < 0 else end) - start > self._most_head:
            raise ProtocolError(f"the headers of a frame exceed {self._most_head:,} bytes")
        if end < 0:
            self._searched = max(start, len(buffer) - 2)
            return None
        try:
            command, headers = _parsed(buffer[start:end].decode())
        except UnicodeDecodeError as error:
            raise ProtocolError("a header is not UTF-8") from error
        self._length = self._told_length(headers)
        self._at = self._searched = end + width
        return command, headers

    def _told_length(self, headers: Mapping[str, str]) -> int | None:
        told = headers.get("content-length")
        if told is None:
            return None
        if not told.isascii() or not told.isdigit() or len(told) > 18:
            raise ProtocolError(f"content-length is no length: {told[:40]!r}")
        if (length := int(told)) > self._most_body:
            raise ProtocolError(f"a body of {length:,} bytes exceeds {self._most_body:,}")
        return length

    def _end_of_body(self) -> int | None:
        buffer = self._buffer
        if self._length is not None:
            end = self._at + self._length
            if len(buffer) <= end:
                return None
            if buffer[end]:
                raise ProtocolError("content-length does not lead to the end of the frame")
            return end
        end = buffer.find(0, self._searched)
        if (len(buffer) if end < 0 else end) - self._at > self._most_body:
            raise ProtocolError(f"a body exceeds {self._most_body:,} bytes")
        if end < 0:
            self._searched = len(buffer)
            return None
        return end


def _parsed(head: str) -> tuple[str, dict[str, str]]:
    """Command and headers."""
    lines = head.split("\n")
    if "\r" in head:
        lines = [line.removesuffix("\r") for line in lines]
    command = lines.pop(0)
    if not command.isalpha() or len(command) > 20 or "\0" in head:
        raise ProtocolError(f"no command of STOMP: {command[:40]!r}")
    escaped = "\\" in head and command not in _VERBATIM
    headers: dict[str, str] = {}
    for line in reversed(lines):  # of a repeated header the first counts
        name, colon, value = line.partition(":")
        if not colon:
            raise ProtocolError("a header has no value")
        if escaped and "\\" in line:
            name, value = _unescape(name), _unescape(value)
        headers[name] = value
    return command, headers


def _unescape(text: str) -> str:
    if "\\\\" not in text:  # each backslash begins an escape of its own
        plain = text.replace("\\c", ":").replace("\\n", "\n").replace("\\r", "\r")
        if "\\" not in plain:
            return plain
    return _ESCAPED.sub(_meant, text)


def _meant(found: re.Match[str]) -> str:
    try:
        return _MEANT[found[1]]
    except KeyError:
        raise ProtocolError(f"undefined escape in a header: {found[0]!r}") from None
