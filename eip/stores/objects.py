"""Where claim checks keep large bodies: a small protocol, in memory and in a folder; `eip.stores.s3` has it on S3."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from heapq import nsmallest
from itertools import islice
from pathlib import Path
from typing import Final, Protocol

from typing_extensions import override

from eip import clock
from eip.clock import Duration, seconds
from eip.errors import ConfigurationError, MessageTooLarge, StoreError

__all__ = ["FileObjects", "ListedObjects", "MemoryObjects", "ObjectStore"]

_KEY: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}){0,9}")
"""Keys that may name a file: no empty part, and none that begins with a dot."""


class ObjectStore(Protocol):
    """Bytes under a key in a bucket. All methods raise `StoreError` where the storage fails."""

    bucket: str
    """Where `put` writes."""

    async def put(self, key: str, data: bytes) -> None:
        """Write the object; it can be read by all once this returns."""
        ...

    async def get(self, bucket: str, key: str, *, limit: int) -> bytes | None:
        """The object, or None where there is none; raises `MessageTooLarge` above ``limit`` bytes, before reading."""
        ...

    async def delete(self, bucket: str, key: str) -> None:
        """Remove the object, if it is there."""
        ...


class ListedObjects(ObjectStore, Protocol):
    """Objects whose keys can be listed."""

    async def keys(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """Up to ``limit`` keys of the bucket that begin so and come after ``after``, in the order of their bytes."""
        ...


class MemoryObjects(ListedObjects):
    """Objects in this process, for tests.

    Args:
        bucket: its name.
    """

    def __init__(self, bucket: str = "memory") -> None:
        self.bucket = bucket
        self.objects: dict[str, bytes] = {}

    @override
    async def put(self, key: str, data: bytes) -> None:
        self.objects[key] = data

    @override
    async def get(self, bucket: str, key: str, *, limit: int) -> bytes | None:
        data = self.objects.get(key) if bucket == self.bucket else None
        if data is not None and len(data) > limit:
            raise MessageTooLarge(len(data), limit, channel=f"claims in {bucket}")
        return data

    @override
    async def delete(self, bucket: str, key: str) -> None:
        if bucket == self.bucket:
            self.objects.pop(key, None)

    @override
    async def keys(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        return nsmallest(limit, (key for key in self.objects if key.startswith(prefix) and key > after))


class FileObjects(ListedObjects):
    """Objects as files of a folder, shared by the processes of one machine or by a mount.

    Keys are letters, digits and ``._-``, in up to ten parts of a path; others are never there. A file appears whole or
    not at all, and is on the disk when `put` returns.

    Args:
        folder: made where it is missing.
        bucket: the name that claims carry; default: the folder's.
    """

    def __init__(self, folder: Path | str, bucket: str | None = None) -> None:
        self._folder = Path(folder)
        self.bucket = bucket or self._folder.name

    @override
    async def put(self, key: str, data: bytes) -> None:
        """Write the file whole; `ConfigurationError` for a key that is not a file name."""
        path = self._path(self.bucket, key)
        if path is None:
            raise ConfigurationError(f"{key!r} names no file")
        try:
            await asyncio.to_thread(_write, path, data)
        except OSError as error:
            raise StoreError(f"file: {error}") from error

    @override
    async def get(self, bucket: str, key: str, *, limit: int) -> bytes | None:
        path = self._path(bucket, key)
        if path is None:
            return None
        try:
            return await asyncio.to_thread(_read, path, limit)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(f"file: {error}") from error

    @override
    async def delete(self, bucket: str, key: str) -> None:
        path = self._path(bucket, key)
        if path is None:
            return
        try:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        except OSError as error:
            raise StoreError(f"file: {error}") from error

    @override
    async def keys(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        try:
            return await asyncio.to_thread(_keys, self._folder, prefix, after, limit)
        except OSError as error:
            raise StoreError(f"file: {error}") from error

    async def expire(self, older_than: Duration) -> int:
        """Remove files older than that (seconds or timedelta), which nobody claimed; how many. S3 does so by itself."""
        try:
            return await asyncio.to_thread(_expire, self._folder, clock.now() - seconds(older_than))
        except OSError as error:
            raise StoreError(f"file: {error}") from error

    def _path(self, bucket: str, key: str) -> Path | None:
        """The file of a key; None for what a stranger may have made up to get elsewhere."""
        return self._folder / key if bucket == self.bucket and _KEY.fullmatch(key) else None


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise MessageTooLarge(size, limit, channel=f"claims in {path.parent.name}")
        data = file.read(size + 1)
    if len(data) != size:
        raise StoreError(f"file: {path.name} ended after {len(data):,} of {size:,} bytes")
    return data


def _keys(folder: Path, prefix: str, after: str, limit: int) -> list[str]:
    return list(islice(_walk(folder, "", prefix, after), limit)) if folder.is_dir() else []


def _walk(folder: Path, at: str, prefix: str, after: str) -> Iterator[str]:
    """The keys in their order; looks into no folder that holds none of them."""
    with os.scandir(folder / at) as entries:
        names = sorted(f"{each.name}/" if each.is_dir() else each.name for each in entries)
    for name in names:
        key = at + name
        if name.endswith("/"):
            if (key.startswith(prefix) or prefix.startswith(key)) and after[: len(key)] <= key:
                yield from _walk(folder, key, prefix, after)
        elif key.startswith(prefix) and key > after and _KEY.fullmatch(key):
            yield key


def _expire(folder: Path, before: float) -> int:
    removed = 0
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_mtime < before:
            path.unlink(missing_ok=True)
            removed += 1
    return removed
