"""A store in this process."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from typing_extensions import override

from eip import clock
from eip._ids import new_id
from eip.errors import StateError
from eip.stores._named import NamedStore
from eip.stores.base import ABSENT, Record

__all__ = ["MemoryStore"]


@dataclass(slots=True)
class _Entry:
    record: Record
    due: float | None
    expires_at: float | None


class MemoryStore(NamedStore):
    """Records in a dictionary; they end with the process. For tests, and as the reference for the other stores."""

    def __init__(self) -> None:
        self._closed = False
        self._entries: dict[str, _Entry] = {}
        self._held_parts: dict[str, dict[str, tuple[bytes, float | None]]] = {}
        self._dues: list[tuple[float, str, str]] = []
        """A heap of due times with keys and versions; what was written since is left in it, and skipped."""
        self._ends: list[tuple[float, str, bool, str]] = []
        """A heap of expiries with keys, whether it is that of a part, and which."""

    def __len__(self) -> int:
        """Records that have not expired."""
        return sum(self._live(key) is not None for key in list(self._entries))

    @override
    def __repr__(self) -> str:
        return "<MemoryStore>"

    @override
    async def next_due(self) -> float | None:
        self._check_open()
        while self._dues:
            at, key, version = self._dues[0]
            if self._is_due(key, version):
                return at
            heappop(self._dues)
        return None

    @override
    async def aclose(self) -> None:
        """Let every further use raise `StateError`, as with a database. Idempotent."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StateError("the memory store is closed")

    @override
    async def _get(self, name: str) -> Record | None:
        self._check_open()
        entry = self._live(name)
        return None if entry is None else entry.record

    @override
    async def _put(
        self, name: str, value: bytes, version: str | None, due: float | None, expires_at: float | None
    ) -> str | None:
        self._check_open()
        entry = self._live(name)
        if version is not None and version != (ABSENT if entry is None else entry.record.version):
            return None
        made = Record(value, new_id())
        self._entries[name] = _Entry(made, due, expires_at)
        if due is not None:
            self._note_due(due, name, made.version)
        if expires_at is not None:
            heappush(self._ends, (expires_at, name, False, ""))
        self._tidy()
        return made.version

    @override
    async def _delete(self, name: str, version: str | None) -> bool:
        self._check_open()
        entry = self._live(name)
        if entry is None or version not in (None, entry.record.version):
            return False
        self._forget(name)
        return True

    @override
    async def _put_part(self, name: str, part: str, value: bytes, expires_at: float | None) -> int:
        self._check_open()
        self._live(name)
        parts = self._held_parts.setdefault(name, {})
        parts[part] = (value, expires_at)
        if expires_at is not None:
            heappush(self._ends, (expires_at, name, True, part))
        count = len(parts)
        self._tidy()
        return count

    @override
    async def _parts(self, name: str) -> dict[str, bytes]:
        self._check_open()
        now = clock.now()
        self._live(name)
        held = self._held_parts.get(name, {})
        return {part: value for part, (value, until) in held.items() if until is None or until > now}

    @override
    async def _delete_parts(self, name: str) -> None:
        self._check_open()
        self._held_parts.pop(name, None)

    @override
    async def _due(self, now: float, limit: int) -> list[str]:
        self._check_open()
        listed: list[tuple[float, str, str]] = []
        while self._dues and self._dues[0][0] <= now and len(listed) < limit:
            each = heappop(self._dues)
            if self._is_due(each[1], each[2]):
                listed.append(each)
        for each in listed:  # due until it is written again
            heappush(self._dues, each)
        return [key for _, key, _ in listed]

    def _note_due(self, due: float, key: str, version: str) -> None:
        heappush(self._dues, (due, key, version))
        if len(self._dues) > 64 + 2 * len(self._entries):
            self._dues[:] = [each for each in self._dues if self._is_due(each[1], each[2])]
            heapify(self._dues)

    def _is_due(self, key: str, version: str) -> bool:
        """Whether the record is there as it was written with its due time."""
        entry = self._live(key)
        return entry is not None and entry.record.version == version

    def _live(self, key: str) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is not None and entry.expires_at is not None and entry.expires_at <= clock.now():
            self._forget(key)
            return None
        return entry

    def _forget(self, key: str) -> None:
        self._entries.pop(key, None)
        self._held_parts.pop(key, None)

    def _tidy(self) -> None:
        """Remove what has expired; what was given a later expiry since has another place in the heap."""
        now = clock.now()
        while self._ends and self._ends[0][0] <= now:
            _, key, is_part, part = heappop(self._ends)
            if not is_part:
                self._live(key)
                continue
            held = self._held_parts.get(key, {})
            until = held[part][1] if part in held else None
            if until is not None and until <= now:
                del held[part]
                if not held:
                    self._held_parts.pop(key, None)
