"""The embedded object store: files of a folder, put and got over HTTP with signed URLs, which reports new objects.

An object appears whole or not at all, and is on the disk before its event is sent. It is never in memory as a whole.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from examples.happy_path.uploads import OwnUrls
from examples.object_events import ReportingFiles
from examples.rfq.problems import Problem

__all__ = ["ObjectServer"]

_SLOWEST_S: Final = 120.0
"""Seconds that an upload may take."""


class ObjectServer:
    """The routes of the object store.

    Args:
        folder: where the files are.
        urls: check what may be put and got.
        created: receives S3's event of each object that was put.
    """

    def __init__(self, folder: Path, urls: OwnUrls, created: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        self.objects = ReportingFiles(folder, "photos", created)
        self._folder, self._urls = folder, urls
        self.routes = [
            Route("/objects/{key:path}", self._put, methods=["PUT"]),
            Route("/objects/{key:path}", self._get, methods=["GET"]),
        ]

    async def _put(self, request: Request) -> Response:
        key, length = self._allowed(request)
        if request.headers.get("content-length") != str(length):
            raise Problem(403, "Not signed for this", f"the URL is for an object of {length:,} bytes")
        try:
            async with asyncio.timeout(_SLOWEST_S):
                etag = await self._receive(self._folder / key, request.stream())
        except TimeoutError:
            raise Problem(408, "Too slow", f"an upload may take {_SLOWEST_S:g} s") from None
        await self.objects.created(key, etag)
        return Response(headers={"ETag": f'"{etag}"'})

    async def _get(self, request: Request) -> Response:
        key, _ = self._allowed(request)
        path = self._folder / key
        if not await asyncio.to_thread(path.is_file):
            raise Problem(404, "No such object")
        return FileResponse(
            path, headers={"Cache-Control": "private, max-age=300", "X-Content-Type-Options": "nosniff"}
        )

    def _allowed(self, request: Request) -> tuple[str, int]:
        key: str = request.path_params["key"]
        length = self._urls.allows("PUT" if request.method == "PUT" else "GET", str(request.url), key)
        if length is None:
            raise Problem(403, "Not signed", "ask for a new URL: it is not ours, or has expired")
        return key, length

    async def _receive(self, path: Path, chunks: AsyncIterator[bytes]) -> str:
        """Write a file as it arrives; its MD5, which is S3's entity tag. uvicorn holds the body to its length."""
        digest = hashlib.md5(usedforsecurity=False)
        with _appearing(path) as file:
            async for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)  # into the page cache; only fsync waits for the disk
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        return digest.hexdigest()


@contextmanager
def _appearing(path: Path) -> Iterator[BinaryIO]:
    """A file that is there once the block has ended, and not at all where it raised."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
