"""A store in this process."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from eip import clock
from eip._ids import new_id
from eip.stores.base import ABSENT, Record

__all__ = ["MemoryStore"]


@dataclass(slots=True)
class _Entry:
    record: Record
    due: float | None
    expires_at: float | None


class MemoryStore:
    """Records in a dictionary; they end with the process. For tests, and as the reference for the other stores."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._parts: dict[str, dict[str, tuple[bytes, float | None]]] = {}
        self._writes = 0

    def __len__(self) -> int:
        """Records that have not expired."""
        return sum(self._live(key) is not None for key in list(self._entries))

    async def get(self, key: str) -> Record | None:
        """See `Store.get`."""
        entry = self._live(key)
        return None if entry is None else entry.record

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        version: str | None = None,
        due: float | None = None,
        expires_at: float | None = None,
    ) -> str | None:
        """See `Store.put`."""
        entry = self._live(key)
        if version is not None and version != (ABSENT if entry is None else entry.record.version):
            return None
        made = Record(value, new_id())
        self._entries[key] = _Entry(made, due, expires_at)
        self._tidy()
        return made.version

    async def delete(self, key: str, *, version: str | None = None) -> bool:
        """See `Store.delete`."""
        entry = self._live(key)
        if entry is None or version not in (None, entry.record.version):
            return False
        self._forget(key)
        return True

    async def put_part(self, key: str, part: str, value: bytes, *, expires_at: float | None = None) -> None:
        """See `Store.put_part`."""
        self._live(key)
        self._parts.setdefault(key, {})[part] = (value, expires_at)

    async def parts(self, key: str) -> dict[str, bytes]:
        """See `Store.parts`."""
        now = clock.now()
        held = self._parts.get(key, {})
        return {part: value for part, (value, until) in held.items() if until is None or until > now}

    async def delete_parts(self, key: str) -> None:
        """See `Store.delete_parts`."""
        self._parts.pop(key, None)

    async def due(self, now: float, *, limit: int = 100) -> list[str]:
        """See `Store.due`."""
        due = sorted((at, key) for key, at in self._dues() if at <= now)
        return [key for _, key in islice(due, limit)]

    async def next_due(self) -> float | None:
        """See `Store.next_due`."""
        return min((at for _, at in self._dues()), default=None)

    async def aclose(self) -> None:
        """See `Store.aclose`."""

    def _dues(self) -> list[tuple[str, float]]:
        return [
            (key, each.due) for key, each in list(self._entries.items()) if each.due is not None and self._live(key)
        ]

    def _live(self, key: str) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is not None and entry.expires_at is not None and entry.expires_at <= clock.now():
            self._forget(key)
            return None
        return entry

    def _forget(self, key: str) -> None:
        self._entries.pop(key, None)
        self._parts.pop(key, None)

    def _tidy(self) -> None:
        """Every thousand writes, remove what has expired."""
        self._writes += 1
        if self._writes % 1000 == 0:
            for key in list(self._entries):
                self._live(key)
