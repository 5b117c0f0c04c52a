"""The protocol of a store: records under a key, written on condition, listed when due, gone when expired.

Keys and names of parts come from strangers (correlation ids, message ids), so a store takes any text. Databases do
not: PostgreSQL refuses NUL and more than some 2,700 bytes, DynamoDB more than 1,024 bytes, and none holds lone
surrogates. One rule, `stored_name`, gives the name under which a record is kept, for every store and every version of
the library: a text that fits is its own name, any other is replaced by its SHA-256. What was given is kept with the
value, so that `Store.due` and `Store.parts` return it.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final, NamedTuple, Protocol

from eip.clock import LAST_TIME

__all__ = ["ABSENT", "HASHED", "LAST_TIME", "MAX_NAME_BYTES", "Record", "Store", "stored_name"]

HASHED: Final = "eip:sha256:"
"""Prefix of the names of hashed texts; a text that begins so is hashed, too, so that no two texts collide."""
MAX_NAME_BYTES: Final = 900
"""Length of a text that is its own name: with a collection's name beside it, it fits each database's limit of a key."""

ABSENT: Final = ""
"""The version of a record that is not there: ``put(..., version=ABSENT)`` only creates."""


class Record(NamedTuple):
    """The value and version that a store holds under a key."""

    value: bytes
    version: str
    """Changes with every write, and never comes back: no two records of a key's history share one."""


def stored_name(text: str) -> str:
    """The name under which a database keeps a key or a part.

    Args:
        text: any text. One of 1 to 900 bytes of UTF-8, without NUL and lone surrogates, that does not begin with
            `HASHED` is its own name.

    Raises:
        TypeError: the text is not a str.
    """
    if not isinstance(text, str):
        raise TypeError(f"a key must be str, got {type(text).__name__}")
    return text if _fits(text) else HASHED + sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _fits(text: str) -> bool:
    if not 0 < len(text) <= MAX_NAME_BYTES or "\0" in text or text.startswith(HASHED):
        return False
    try:
        return text.isascii() or len(text.encode()) <= MAX_NAME_BYTES
    except UnicodeEncodeError:
        return False


class Store(Protocol):
    """Records of one collection, shared by every process that opens it.

    A record has a key, and beside it any number of parts (payloads that would make it large). Times are seconds since
    the epoch. What has expired is not there, whether it was removed yet or not. All methods raise `StoreError` where
    the database fails, after which a write may or may not have happened.
    """

    async def get(self, key: str) -> Record | None:
        """The record, or None."""
        ...

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        version: str | None = None,
        due: float | None = None,
        expires_at: float | None = None,
    ) -> str | None:
        """Write the record if it still has that version; the new version, or None where it has another.

        Args:
            key: any text, see `stored_name`.
            value: replaces what was there.
            version: the expected one; `ABSENT`: only where there is no record; None: whatever is there.
            due: when `due` lists it; None: never.
            expires_at: when it ceases to be there, its parts with it; None: never.
        """
        ...

    async def delete(self, key: str, *, version: str | None = None) -> bool:
        """Remove the record and its parts if it has that version (None: whatever it has); False where it has not."""
        ...

    async def put_part(self, key: str, part: str, value: bytes, *, expires_at: float | None = None) -> int | None:
        """Write a part, whether the record is there or not; writing it again replaces it.

        Returns:
            How many parts the key has by this write, those that have expired perhaps included; None where the database
            cannot tell without another call. Of two writers at once, at least one counts both parts.
        """
        ...

    async def parts(self, key: str) -> dict[str, bytes]:
        """All parts of the key."""
        ...

    async def delete_parts(self, key: str) -> None:
        """Remove all parts of the key; the record stays."""
        ...

    async def due(self, now: float, *, limit: int = 100) -> list[str]:
        """Up to ``limit`` keys that are due at ``now``, the longest due first."""
        ...

    async def next_due(self) -> float | None:
        """When the next record is due; None: none ever."""
        ...

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        ...
