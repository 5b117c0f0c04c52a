"""A proxy in front of kinesis-local that completes its SubscribeToShard, and can cut subscriptions short.

The emulator (0.6) pushes a shard's records as the service does, save for two events: ``initial-response``, which
begins every answer of the service and which Amazon's Python SDK insists on, and the last one of a closed shard, which
names its children. Everything else passes unchanged.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Self


def event(headers: Mapping[str, str], payload: bytes = b"") -> bytes:
    """A message of the encoding application/vnd.amazon.eventstream."""
    packed = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(packed) + len(payload), len(packed))
    whole = prelude + struct.pack("!I", zlib.crc32(prelude)) + packed + payload
    return whole + struct.pack("!I", zlib.crc32(whole))


INITIAL = event({":message-type": "event", ":event-type": "initial-response"})


class FanOutProxy:
    """Listens on a port of its own; `url` is for the driver."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.subscriptions = 0
        """How many were made."""
        self._children: tuple[str, ...] = ()
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Break every subscription in the middle."""
        for writer in self._open:
            writer.transport.abort()

    def end(self, *children: str) -> None:
        """Let each open subscription end as that of a closed shard with those children."""
        self._children = children

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        fields = _fields(head)
        body = await reader.readexactly(int(fields.get("content-length", "0")))
        subscribes = fields.get("x-amz-target", "").endswith("SubscribeToShard")
        from_service, to_service = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            to_service.write(head + body)
            answer = await from_service.readuntil(b"\r\n\r\n")
            found = _fields(answer)
            writer.write(answer)
            chunked = found.get("transfer-encoding") == "chunked"
            if subscribes and chunked:
                self.subscriptions += 1
                self._open.add(writer)
                writer.write(b"%x\r\n%s\r\n" % (len(INITIAL), INITIAL))
            if not chunked:
                writer.write(await from_service.readexactly(int(found.get("content-length", "0"))))
                await writer.drain()
                return True
            while chunk := await _chunk(from_service):
                if subscribes and self._children:
                    chunk = _last_event(self._children)
                    self._children = ()
                    writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                    chunk = b"0\r\n\r\n"
                writer.write(chunk)
                await writer.drain()
                if chunk.startswith(b"0\r\n"):
                    break
            return True
        finally:
            self._open.discard(writer)
            to_service.close()


def _last_event(children: Sequence[str]) -> bytes:
    """As the API reference describes it: no continuation, and the children."""
    whole = {"StartingHashKey": "0", "EndingHashKey": str((1 << 128) - 1)}
    shards = [{"ShardId": each, "ParentShards": ["parent"], "HashKeyRange": whole} for each in children]
    payload = {"Records": [], "MillisBehindLatest": 0, "ChildShards": shards}
    headers = {":message-type": "event", ":event-type": "SubscribeToShardEvent", ":content-type": "application/json"}
    return event(headers, json.dumps(payload).encode())


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    size = await reader.readline()
    return size + await reader.readexactly(int(size or b"0", 16) + 2) if size else b""


def _fields(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if line)
    return {name.lower(): value.strip() for name, _, value in pairs}
