"""The protocol of a store: records under a key, written on condition, listed when due, gone when expired."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

__all__ = ["ABSENT", "Record", "Store"]

ABSENT: Final = ""
"""The version of a record that is not there: ``put(..., version=ABSENT)`` only creates."""


class Record(NamedTuple):
    """What a store holds under a key."""

    value: bytes
    version: str
    """Changes with every write, and never comes back: no two records of a key's history share one."""


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
            key: of at most 900 bytes.
            value: replaces what was there.
            version: the expected one; `ABSENT`: only where there is no record; None: whatever is there.
            due: when `due` lists it; None: never.
            expires_at: when it ceases to be there, its parts with it; None: never.
        """
        ...

    async def delete(self, key: str, *, version: str | None = None) -> bool:
        """Remove the record and its parts if it has that version (None: whatever it has); False where it has not."""
        ...

    async def put_part(self, key: str, part: str, value: bytes, *, expires_at: float | None = None) -> None:
        """Write a part, whether the record is there or not; writing it again replaces it."""
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
        """Let go of the database. Idempotent."""
        ...
