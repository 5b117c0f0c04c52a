"""Reading of HTTP/1.1 responses, without I/O (RFC 9112): one response at a time, in whatever pieces it arrives.

Strict where it matters to a client that uses its connection again: where a response ends must be beyond doubt.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["MAX_BODY_BYTES", "MAX_HEAD_BYTES", "MalformedResponse", "Response", "ResponseParser"]

MAX_HEAD_BYTES: Final = 64 * 1024
"""Of the status line and all headers, of one line of a chunked body, and of its trailers."""
MAX_BODY_BYTES: Final = 64 * 1024 * 1024
"""Several times the largest answer: 10 MiB of records in base64 (Kinesis API Reference, GetRecords)."""

_STATUS: Final = re.compile(r"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [^\r\n]*)?")
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_DIGITS: Final = re.compile(r"[0-9]{1,10}")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")
_END: Final = b"\r\n\r\n"


class MalformedResponse(ValueError):
    """The answer is not an HTTP response, or exceeds the limits."""


class Response(NamedTuple):
    """A whole response."""

    status: int
    headers: dict[str, str]
    """By name in lower case."""
    body: bytes


class ResponseParser:
    """Reads one response; `reset` makes it ready for the next one."""

    __slots__ = ("_buffer", "_chunked", "_in_trailers", "_missing", "_parts", "_response", "_size", "keep_alive")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Expect a new response."""
        self._buffer = bytearray()
        """The bytes so far of a head or chunk that is not complete."""
        self._response: Response | None = None
        """The head, once it is there."""
        self._parts: list[bytes] = []
        self._size = 0
        self._missing: int | None = None
        """Bytes of the body yet to come; None: as many as come until the end of the connection."""
        self._chunked = self._in_trailers = False
        self.keep_alive = False
        """Whether the connection may be used again after the response."""

    @property
    def begun(self) -> bool:
        """Whether anything of the response came."""
        return bool(self._buffer) or self._response is not None

    def feed(self, data: bytes) -> Response | None:
        """Take what came; returns the response once it is complete. Raises `MalformedResponse`."""
        if self._response is None:
            rest = self._feed_head(data)
            if rest is None:
                return None
            data = rest
        if self._chunked:
            return self._feed_chunks(data)
        return self._feed_body(data)

    def feed_eof(self) -> Response:
        """Take the end of the connection; returns the response that it ends. Raises `ConnectionError` inside of one."""
        if self._response is not None and self._missing is None and not self._chunked:
            return self._response._replace(body=b"".join(self._parts))
        raise ConnectionResetError(
            "the connection was closed in the middle of an answer" if self.begun else "the connection was closed"
        )

    def _feed_head(self, data: bytes) -> bytes | None:
        """What follows the head in the data; None while it is incomplete."""
        while True:
            if self._buffer:
                start = max(len(self._buffer) - 3, 0)
                self._buffer += data
                end = self._buffer.find(_END, start)
                data = bytes(self._buffer) if end >= 0 else data
            else:
                end = data.find(_END)
                if end < 0:
                    self._buffer += data
            if end < 0 and len(self._buffer) <= MAX_HEAD_BYTES:
                return None
            if end < 0 or end > MAX_HEAD_BYTES:
                raise MalformedResponse(f"an answer's headers are more than {MAX_HEAD_BYTES} bytes")
            self._buffer = bytearray()
            status, headers, version = _head(data[:end])
            data = data[end + 4 :]
            if status >= 200:
                break
            if status == 101:
                raise MalformedResponse("the answer switches to another protocol")
        self._response = Response(status, headers, b"")
        self._frame(status, headers, version)
        return data

    def _frame(self, status: int, headers: dict[str, str], version: str) -> None:
        """Where the body ends (RFC 9112, section 6.3), and whether another response may follow."""
        tokens = headers.get("connection", "").lower()
        self.keep_alive = "close" not in tokens if version == "1" else "keep-alive" in tokens
        coding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if status in (204, 304):
            self._missing = 0
        elif coding is not None:
            if coding.lower() != "chunked":
                raise MalformedResponse(f"the answer's transfer-encoding is {coding[:50]!r}")
            self._chunked = True
            self.keep_alive = self.keep_alive and length is None
        elif length is not None:
            if not _DIGITS.fullmatch(length):
                raise MalformedResponse(f"the answer's content-length is {length[:50]!r}")
            self._missing = int(length)
            self._check_size(self._missing)
        else:
            self.keep_alive = False

    def _feed_body(self, data: bytes) -> Response | None:
        assert self._response is not None
        missing = self._missing
        if missing is None:
            self._add(data)
            return None
        if len(data) > missing:
            self.keep_alive = False  # something follows that nobody asked for
            data = data[:missing]
        if not self._parts and len(data) == missing:
            return Response(self._response.status, self._response.headers, data)
        self._parts.append(data)
        self._missing = missing = missing - len(data)
        return None if missing else self._response._replace(body=b"".join(self._parts))

    def _feed_chunks(self, data: bytes) -> Response | None:
        buffer = self._buffer
        buffer += data
        while True:
            end = buffer.find(b"\r\n", 0, MAX_HEAD_BYTES + 2)
            if end < 0:
                if len(buffer) > MAX_HEAD_BYTES:
                    raise MalformedResponse(f"a line of the answer's body is more than {MAX_HEAD_BYTES} bytes")
                return None
            if self._in_trailers:
                del buffer[: end + 2]
                self._size += end
                if end == 0:
                    return self._end_of_chunks()
                self._check_size(self._size)
                continue
            found = _CHUNK.fullmatch(buffer, 0, end)
            if found is None:
                raise MalformedResponse(f"the answer has a chunk of size {bytes(buffer[: min(end, 50)])!r}")
            size = int(found[1], 16)
            self._check_size(self._size + size)
            if size == 0:
                del buffer[: end + 2]
                self._in_trailers = True
                continue
            stop = end + 2 + size
            if len(buffer) < stop + 2:
                return None
            if buffer[stop : stop + 2] != b"\r\n":
                raise MalformedResponse("a chunk of the answer is longer than its size")
            self._add(bytes(buffer[end + 2 : stop]))
            del buffer[: stop + 2]

    def _end_of_chunks(self) -> Response:
        assert self._response is not None
        if self._buffer:
            self.keep_alive = False
        return self._response._replace(body=b"".join(self._parts))

    def _add(self, part: bytes) -> None:
        if part:
            self._size += len(part)
            self._check_size(self._size)
            self._parts.append(part)

    @staticmethod
    def _check_size(size: int) -> None:
        if size > MAX_BODY_BYTES:
            raise MalformedResponse(f"the answer is more than {MAX_BODY_BYTES} bytes")


def _head(raw: bytes) -> tuple[int, dict[str, str], str]:
    """Status, headers and minor version."""
    lines = raw.decode("latin-1").split("\r\n")
    status = _STATUS.fullmatch(lines[0])
    if status is None:
        raise MalformedResponse(f"the answer begins with {lines[0][:50]!r}, which is not HTTP/1")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not _NAME.fullmatch(name):
            raise MalformedResponse(f"the answer has the header {line[:50]!r}")
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return int(status[2]), headers, status[1]
