"""Reads STOMP 1.2 frames as they come.

A frame that cannot be read belongs to one message: it comes out as a frame with an error, and the reader goes on behind
it wherever its end is certain. Where it is not, the frame is incomplete and the reader has failed: what follows on the
connection cannot be trusted.

The reader looks for the ends of headers and bodies with ``find()`` instead of byte by byte: a 64 KB message costs
what copying it costs.
"""

from __future__ import annotations

import re
from typing import Final

from eip.limits import MIB
from eip.transports.activemq._stomp.frames import Frame, NotStomp, ProtocolError, parse_head, with_error

__all__ = ["Parser"]

_LINE_ENDS: Final = re.compile(rb"[\r\n]*")
_START: Final = re.compile(rb"[\r\n]*(MESSAGE\n)?")
"""Heart-beats, and the command that nearly all frames begin with."""
_COMMANDS: Final = (b"CONNECTED", b"MESSAGE", b"RECEIPT", b"ERROR")
_SETTLING_LINE: Final = re.compile(
    rb"\n(?=((?:ack|message-id|persistent|originalExpiration|subscription):[^\r\n]{1,500})\r?\n)"
)
"""The headers that decide how a message is settled, as far as they are looked for in an oversized head."""
_MAX_FOUND: Final = 20
"""Of those lines; the names of properties may forge some."""
_MAX_COMMAND_BYTES: Final = 20
_SCAN_OVERLAP_BYTES: Final = 1024
"""Kept of an oversized head between two reads, so that an ack header across them is found."""


class Parser:
    """Turns bytes into frames, wherever they are cut, and drops heart-beats.

    Args:
        max_body: maximum size of a body, in bytes.
        max_head: maximum size of a command with its headers, in bytes.
    """

    __slots__ = (
        *("_at", "_buffer", "_found", "_head", "_length", "_max_body", "_max_head", "_scanned", "_searched"),
        "failure",
    )

    def __init__(self, *, max_body: int = 100 * MIB, max_head: int = 16 * MIB) -> None:
        self._max_body, self._max_head = max_body, max_head
        self._buffer: bytes | bytearray = b""
        """What was fed and is not read: as it came, since a piece of bytes is cut out with one copy, or growing."""
        self._at = 0
        """Start of what is being read: a head, or a body."""
        self._searched = 0
        """The end of what is being read is not before this."""
        self._head: Frame | None = None
        """The frame whose body is being read."""
        self._length: int | None = None
        """The length of that body, where a header gives it."""
        self._scanned: int | None = None
        """Bytes of an oversized head that were searched for the headers that settle it, and dropped."""
        self._found: dict[bytes, None] = {}
        """Those headers."""
        self.failure: ProtocolError | None = None
        """Why reading has ended for good; what is fed afterwards is ignored."""

    @property
    def failed(self) -> bool:
        """Whether reading has ended for good."""
        return self.failure is not None

    @property
    def idle(self) -> bool:
        """Whether no frame has begun and not ended."""
        return self._head is None and not self._buffer.strip(b"\r\n")

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that are whole now; see `failure` afterwards."""
        frames: list[Frame] = []
        if self.failure is not None:
            return frames
        self._append(data)
        while (frame := self._next()) is not None:
            frames.append(frame)
        if self._at:
            self._buffer = self._buffer[self._at :]
            self._searched = max(self._searched - self._at, 0)
            self._at = 0
        return frames

    def _append(self, data: bytes) -> None:
        rest = self._buffer
        if not rest:
            self._buffer = data
        elif len(rest) < len(data):
            self._buffer = b"".join((rest, data))
        else:  # appending to bytes would copy a large frame with each piece of it
            self._buffer = rest if isinstance(rest, bytearray) else bytearray(rest)
            self._buffer += data

    def give_up(self, reason: str) -> Frame | None:
        """Stop waiting for the end of the frame that is being read; return it without its body."""
        self.failure = ProtocolError(reason)
        frame = self._head
        if frame is None:
            if self._scanned is not None:
                return self._end_scan(reason)
            frame = parse_head(bytes(self._buffer[self._at :]))
        return self._incomplete(frame, reason)

    def _incomplete(self, frame: Frame, reason: str) -> Frame:
        self.failure = ProtocolError(reason)
        self._buffer = b""
        self._at = self._searched = 0
        return frame._replace(error=reason, complete=False)

    def _next(self) -> Frame | None:
        if self.failure is not None:
            return None
        if self._scanned is not None:
            return self._scan()
        if self._head is None:
            found = self._read_head()
            if found is None or not found.complete:
                return found
            self._head = found
        end = self._end_of_body()
        head = self._head
        if end is None or head is None:
            return None
        if end < 0:
            return self._incomplete(head, head.error or "the end of the body is not known")
        body = bytes(self._buffer[self._at : end])
        self._head = None
        self._at = self._searched = end + 1
        return Frame(head.command, head.headers, body, head.error, head.head)

    # Heads.

    def _read_head(self) -> Frame | None:
        buffer, start = self._buffer, self._at
        is_message = False
        if self._searched <= start:  # heart-beats between frames are ends of lines
            found = _START.match(buffer, start)
            assert found is not None  # it matches the empty string
            is_message = found.lastindex is not None
            start = self._at = self._searched = found.start(1) if is_message else found.end()
            if start == len(buffer):
                return None
        if not is_message and not _begins_with_command(buffer, start):
            self.failure = NotStomp(bytes(buffer[start : start + 40]))
            return None
        end = buffer.find(b"\n\n", self._searched)
        width = 2
        limit = len(buffer) if end < 0 else end
        if buffer.find(b"\r", self._searched, limit) >= 0:  # some end their lines so
            other = buffer.find(b"\n\r\n", self._searched, limit)
            end, width = (other, 3) if other >= 0 else (end, width)
        if (len(buffer) if end < 0 else end) - start > self._max_head:
            self._scanned = 0
            return self._scan()
        if end < 0:
            self._searched = max(start, len(buffer) - 2)
            return None
        self._at = self._searched = end + width
        return self._with_length(bytes(buffer[start:end]))

    def _with_length(self, head: bytes) -> Frame:
        """Return the frame of a head, and note how long it declares its body to be."""
        frame, self._length = parse_head(head), None
        text = frame.headers.get("content-length")
        if text is None:
            return frame
        self._length = length = _length(text)
        if length is None:
            return with_error(frame, f"content-length is not a length: {text[:40]!r}", head)
        if length > self._max_body:
            return self._incomplete(frame, f"a body of {length:,} bytes exceeds {self._max_body:,}")
        return frame

    def _scan(self) -> Frame | None:
        """Look for the headers by which the message with an oversized head can be settled, in bounded memory."""
        buffer = self._buffer
        reason = f"the headers of a frame exceed {self._max_head:,} bytes"
        end = buffer.find(b"\n\n", self._at)
        for found in _SETTLING_LINE.finditer(buffer, self._at, len(buffer) if end < 0 else end + 1):
            if len(self._found) < _MAX_FOUND:
                self._found[found[1]] = None
        dropped = max(len(buffer) - _SCAN_OVERLAP_BYTES - self._at, 0)
        self._at += dropped
        self._searched = self._at
        self._scanned = (self._scanned or 0) + dropped
        if end >= 0 or self._scanned > self._max_head + self._max_body:
            return self._end_scan(reason)
        return None

    def _end_scan(self, reason: str) -> Frame | None:
        frame = parse_head(b"\n".join((b"MESSAGE", *self._found)))
        self.failure = ProtocolError(reason)
        return self._incomplete(frame, reason) if "ack" in frame.headers else None

    # Bodies.

    def _end_of_body(self) -> int | None:
        """Return the position of the NUL behind the body; None: not received yet; -1: it cannot be known."""
        buffer = self._buffer
        if self._length is not None:
            end = self._at + self._length
            if len(buffer) <= end:
                return None
            if not buffer[end]:
                return end
            # The header is wrong: a JMS property may have this name. Java's text has no NUL, so it ends at the first.
            assert self._head is not None
            self._head = with_error(self._head, "content-length does not lead to the end of the frame")
            self._length, self._searched = None, self._at
        end = buffer.find(0, self._searched)
        if (len(buffer) if end < 0 else end) - self._at > self._max_body:
            assert self._head is not None
            self._head = with_error(self._head, f"a body exceeds {self._max_body:,} bytes")
            return -1
        if end < 0:
            self._searched = len(buffer)
            return None
        if self._head is not None and self._head.error is not None and not _may_follow(buffer, end + 1):
            return -1
        return end


def _begins_with_command(buffer: bytes | bytearray, start: int) -> bool:
    """Return whether a command may begin here: letters, and soon the end of the line."""
    line = bytes(buffer[start : start + _MAX_COMMAND_BYTES + 2])
    command, newline, _ = line.partition(b"\n")
    return not line or (command.removesuffix(b"\r").isalpha() and (bool(newline) or len(line) <= _MAX_COMMAND_BYTES))


def _may_follow(buffer: bytes | bytearray, start: int) -> bool:
    """Return whether another frame, or its beginning, is what comes next."""
    start = _LINE_ENDS.match(buffer, start).end()  # type: ignore[union-attr]  # it matches the empty string
    line = bytes(buffer[start : start + 10])
    return any(line.startswith(each + b"\n") or each.startswith(line) for each in _COMMANDS)


def _length(text: str) -> int | None:
    """Return the length that a header declares; None if it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None
