"""A stub of Kinesis that answers at once, so that a benchmark measures clients and not a server.

    python -m benchmarks.kinesis_stub [--shards N]      # prints its URL, ends with its standard input

A stream is there as soon as it is named, with as many shards as the stub was started with. One whose name begins with
``sink`` forgets what is put. Records are kept as they are sent back, so that reading costs the stub next to nothing. It
knows PutRecord, PutRecords, ListShards, GetShardIterator (from the oldest record on), GetRecords, DescribeStream and
DescribeStreamSummary; signatures are not checked, and there are no rates.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import md5
from typing import Any

import orjson

_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_OPERATION = re.compile(rb"\r\nx-amz-target:\s*Kinesis_20131202\.(\w+)", re.IGNORECASE)
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nx-amzn-RequestId: 0\r\nContent-Length: "
_HASHES = 1 << 128


class Stub:
    """The streams, and an answer to each operation."""

    def __init__(self, shards: int) -> None:
        self._shards = shards
        self._streams: dict[str, list[list[bytes]]] = defaultdict(lambda: [[] for _ in range(shards)])
        self._sequence = 10**20

    def PutRecord(self, asked: dict[str, Any]) -> bytes:  # noqa: N802 - the service's own names
        return orjson.dumps(self._put(asked["StreamName"], asked))

    def PutRecords(self, asked: dict[str, Any]) -> bytes:  # noqa: N802
        put = [self._put(asked["StreamName"], record) for record in asked["Records"]]
        return orjson.dumps({"FailedRecordCount": 0, "Records": put})

    def ListShards(self, _: dict[str, Any]) -> bytes:  # noqa: N802
        return orjson.dumps({"Shards": self._about()})

    def DescribeStream(self, asked: dict[str, Any]) -> bytes:  # noqa: N802
        about = {"StreamName": asked["StreamName"], "StreamStatus": "ACTIVE", "HasMoreShards": False}
        return orjson.dumps({"StreamDescription": {**about, "Shards": self._about()}})

    def DescribeStreamSummary(self, asked: dict[str, Any]) -> bytes:  # noqa: N802
        about = {"StreamName": asked["StreamName"], "StreamStatus": "ACTIVE", "OpenShardCount": self._shards}
        return orjson.dumps({"StreamDescriptionSummary": {**about, "RetentionPeriodHours": 24}})

    def GetShardIterator(self, asked: dict[str, Any]) -> bytes:  # noqa: N802
        return orjson.dumps({"ShardIterator": f"{asked['StreamName']} {int(asked['ShardId'][-12:])} 0"})

    def GetRecords(self, asked: dict[str, Any]) -> bytes:  # noqa: N802
        name, shard, place = asked["ShardIterator"].split()
        records = self._streams[name][int(shard)]
        start = int(place)
        found = records[start : start + min(asked.get("Limit", 10_000), 10_000)]
        following = orjson.dumps(f"{name} {shard} {start + len(found)}")
        return b'{"MillisBehindLatest":0,"NextShardIterator":%s,"Records":[%s]}' % (following, b",".join(found))

    def _put(self, stream: str, record: dict[str, Any]) -> dict[str, str]:
        digest = md5(record["PartitionKey"].encode()).digest()
        hashed = int(record["ExplicitHashKey"]) if "ExplicitHashKey" in record else int.from_bytes(digest, "big")
        shard = hashed * self._shards >> 128
        self._sequence += 1
        if not stream.startswith("sink"):
            kept = {
                "SequenceNumber": str(self._sequence),
                "PartitionKey": record["PartitionKey"],
                "Data": record["Data"],
                "ApproximateArrivalTimestamp": 1764000000.123,
            }
            self._streams[stream][shard].append(orjson.dumps(kept))
        return {"SequenceNumber": str(self._sequence), "ShardId": f"shardId-{shard:012}"}

    def _about(self) -> list[dict[str, Any]]:
        edges = [-(-_HASHES * number // self._shards) for number in range(self._shards + 1)]
        return [
            {
                "ShardId": f"shardId-{number:012}",
                "HashKeyRange": {"StartingHashKey": str(edges[number]), "EndingHashKey": str(edges[number + 1] - 1)},
                "SequenceNumberRange": {"StartingSequenceNumber": "1"},
            }
            for number in range(self._shards)
        ]


class Connection(asyncio.Protocol):
    """One connection: requests one after the other."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._buffer = bytearray()
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._buffer, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                return
            operation = _OPERATION.search(self._buffer, 0, end)
            assert operation is not None
            name = operation[1].decode()
            body = orjson.loads(bytes(self._buffer[end + 4 : whole]))
            del self._buffer[:whole]
            answer = getattr(self._stub, name)(body)
            self._transport.write(_HEAD + str(len(answer)).encode() + b"\r\n\r\n" + answer)


@contextmanager
def running(*, shards: int = 4) -> Iterator[str]:
    """The URL of a stub in a process of its own, which ends with the block, or with this process."""
    command = [sys.executable, "-m", "benchmarks.kinesis_stub", "--shards", str(shards)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait(10)


async def _serve(shards: int) -> None:
    loop = asyncio.get_running_loop()
    stub = Stub(shards)
    server = await loop.create_server(lambda: Connection(stub), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=4)
    asyncio.run(_serve(parser.parse_args().shards))


if __name__ == "__main__":
    main()
