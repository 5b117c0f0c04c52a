"""What became of events, as far as this process knows: for people who watch. The order system's table is the record."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final, NamedTuple

__all__ = ["Entry", "Journal"]

_MAX_ENTRIES: Final = 10_000


class Entry(NamedTuple):
    """The latest of an event."""

    status: str
    detail: str


class Journal:
    """The latest entries, by the event's id."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, Entry] = OrderedDict()

    def note(self, event: str, status: str, detail: str) -> None:
        """Note the latest of an event, in place of what was noted before."""
        self._entries[event] = Entry(status, detail)
        self._entries.move_to_end(event)
        if len(self._entries) > _MAX_ENTRIES:
            self._entries.popitem(last=False)

    def latest(self, limit: int) -> list[tuple[str, Entry]]:
        """The latest events, the latest first."""
        return [(key, self._entries[key]) for key, _ in zip(reversed(self._entries), range(limit), strict=False)]

    def counts(self) -> Counter[str]:
        """How many events have each status."""
        return Counter(entry.status for entry in self._entries.values())
