"""Base of the stores in databases: names that fit the database, and times that it can hold."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Self

from typing_extensions import override

from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.errors import StoreError, error_text
from eip.stores.base import HASHED, LAST_TIME, Record, Store, stored_name

__all__ = ["NamedStore", "foreign_part_passed"]

_lines: Final = RepeatedLines(get_logger("eip.stores"))


class NamedStore(Store, ABC):
    """A `Store` whose subclasses see only names and times that their database can hold.

    The value under a hashed name carries the text before it, so that `due` and `parts` can return that.
    """

    @override
    async def get(self, key: str) -> Record | None:
        name = stored_name(key)
        found = await self._get(name)
        return found if found is None or name is key else Record(_without_text(found.value), found.version)

    @override
    async def put(
        self,
        key: str,
        value: bytes,
        *,
        version: str | None = None,
        due: float | None = None,
        expires_at: float | None = None,
    ) -> str | None:
        name = stored_name(key)
        return await self._put(name, _with_text(key, name, value), version, _time(due), _time(expires_at))

    @override
    async def delete(self, key: str, *, version: str | None = None) -> bool:
        return await self._delete(stored_name(key), version)

    @override
    async def put_part(self, key: str, part: str, value: bytes, *, expires_at: float | None = None) -> int | None:
        name = stored_name(part)
        return await self._put_part(stored_name(key), name, _with_text(part, name, value), _time(expires_at))

    @override
    async def parts(self, key: str) -> dict[str, bytes]:
        found = await self._parts(stored_name(key))
        if not any(name.startswith(HASHED) for name in found):
            return found
        parts: dict[str, bytes] = {}
        for name, value in found.items():
            with foreign_part_passed(self, key, name):
                part, content = _split(value) if name.startswith(HASHED) else (name, value)
                parts[part] = content
        return parts

    @override
    async def delete_parts(self, key: str) -> None:
        await self._delete_parts(stored_name(key))

    @override
    async def due(self, now: float, *, limit: int = 100) -> list[str]:
        names = await self._due(now, limit)
        if not any(name.startswith(HASHED) for name in names):
            return names
        keys = [await self._text(name) if name.startswith(HASHED) else name for name in names]
        return [key for key in keys if key is not None]

    async def _text(self, name: str) -> str | None:
        """The text of a hashed name; None where its record has gone meanwhile, or is somebody else's."""
        found = await self._get(name)
        try:
            return None if found is None else _split(found.value)[0]
        except StoreError:
            return None

    @abstractmethod
    def __repr__(self) -> str:
        """Name the collection and where it is, without credentials: for logs."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @abstractmethod
    async def _get(self, name: str) -> Record | None: ...

    @abstractmethod
    async def _put(
        self, name: str, value: bytes, version: str | None, due: float | None, expires_at: float | None
    ) -> str | None: ...

    @abstractmethod
    async def _delete(self, name: str, version: str | None) -> bool: ...

    @abstractmethod
    async def _put_part(self, name: str, part: str, value: bytes, expires_at: float | None) -> int | None: ...

    @abstractmethod
    async def _parts(self, name: str) -> dict[str, bytes]: ...

    @abstractmethod
    async def _delete_parts(self, name: str) -> None: ...

    @abstractmethod
    async def _due(self, now: float, limit: int) -> list[str]: ...


@contextmanager
def foreign_part_passed(store: Store, key: str, part: str | bytes) -> Iterator[None]:
    """Pass a part over that another program wrote, and log it: it hides no others of its key."""
    try:
        yield
    except (StoreError, ValueError) as error:
        _lines.error("part_not_ours", store=repr(store), key=key, part=part, error=error_text(error))


def _time(at: float | None) -> float | None:
    """The time as every database can hold it; None for never."""
    if at is None or at >= LAST_TIME + 1:
        return None
    if math.isnan(at):
        raise ValueError("a time must be a number of seconds, got nan")
    return max(float(at), 0.0)


def _with_text(text: str, name: str, value: bytes) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"value must be bytes, got {type(value).__name__}")
    if name is text:
        return bytes(value)
    given = text.encode("utf-8", "surrogatepass")
    return b"%d\n%b%b" % (len(given), given, value)


def _split(value: bytes) -> tuple[str, bytes]:
    """The text and the value that `_with_text` put together."""
    length, _, rest = value.partition(b"\n")
    try:
        end = int(length)
        return rest[:end].decode("utf-8", "surrogatepass"), rest[end:]
    except ValueError:
        raise StoreError("a record under a hashed key does not hold the key: not ours", transient=False) from None


def _without_text(value: bytes) -> bytes:
    return _split(value)[1]
