"""Objects of a folder whose creation is an event, as S3's is: for systems that an upload starts."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from typing_extensions import override

from eip import clock
from eip._ids import new_id
from eip.stores.objects import FileObjects

__all__ = ["ReportingFiles", "object_created"]


class ReportingFiles(FileObjects):
    """A bucket of files that reports what is put into it.

    An object is on the disk before its event is sent. Events of a process that was killed have gone with its channels:
    `report` sends those of all objects again.

    Args:
        folder: where the files are.
        bucket: its name.
        created: receives the event of each new object.
    """

    def __init__(self, folder: Path, bucket: str, created: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        super().__init__(folder, bucket)
        self._root, self._created = folder, created

    @override
    async def put(self, key: str, data: bytes) -> None:
        await super().put(key, data)
        await self.created(key, hashlib.md5(data, usedforsecurity=False).hexdigest())

    async def report(self, prefix: str = "") -> None:
        """Send the events of all objects again whose keys begin so; their sequencers are those of the first time."""
        after = ""
        while keys := await self.keys(prefix, after=after):
            for key in keys:
                await self.created(key)
            after = keys[-1]

    async def created(self, key: str, etag: str = "") -> None:
        """Send the event of an object, unless it has gone already."""
        try:
            found = (self._root / key).stat()
        except FileNotFoundError:
            return
        await self._created(object_created(self.bucket, key, found.st_size, etag, f"{found.st_mtime_ns:016X}"))


def object_created(bucket: str, key: str, size: int, etag: str = "", sequencer: str = "") -> dict[str, Any]:
    """The event that S3 sends to EventBridge for a new object (user guide, "EventBridge events")."""
    detail = {
        "version": "0",
        "bucket": {"name": bucket},
        "object": {
            "key": key,
            "size": size,
            "etag": etag,
            "sequencer": sequencer or f"{int(clock.now() * 1e6):016X}",
        },
        "request-id": new_id(),
        "requester": "000000000000",
        "source-ip-address": "127.0.0.1",
        "reason": "PutObject",
    }
    return {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "resources": [f"arn:aws:s3:::{bucket}"],
        "detail": detail,
    }
