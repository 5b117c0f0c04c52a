"""The events that one archive keeps."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from eip import clock
from eip.codec import dump_json
from eip.matching import EventPattern
from eip.topology import ArchiveSpec
from eip.topology.archives import ArchiveStatus

__all__ = ["Archive", "ArchivedEvent"]

_MINUTE_S: Final = 60.0
_MAX_EVENTS: Final = 1_000_000
"""Events that an archive keeps here; the oldest go first, and are counted."""


class ArchivedEvent(NamedTuple):
    """An event in an archive."""

    kept_at: float
    """When the bus took it: replays and the retention go by that time."""
    event: Mapping[str, Any]
    size: int
    """In bytes."""


class Archive:
    """Keeps events, bounded by the retention and by a count."""

    def __init__(self, declared: ArchiveSpec) -> None:
        self.declared = declared
        self.rule = f"Events-Archive-{declared.name}"
        """The name of its managed rule."""
        self.created_at = clock.now()
        self.size = 0
        """In bytes."""
        self.dropped = 0
        """Events that were pushed out by newer ones."""
        self._events: deque[ArchivedEvent] = deque()

    @property
    def managed_pattern(self) -> EventPattern:
        """The pattern of its managed rule: replayed events are not kept again."""
        pattern = {} if self.declared.pattern is None else json.loads(self.declared.pattern.text)
        return EventPattern({**pattern, "replay-name": [{"exists": False}]})

    def keep(self, event: Mapping[str, Any]) -> None:
        """Keep an event."""
        whole = dict(event)
        kept = ArchivedEvent(clock.now(), whole, len(dump_json(whole)))
        self._events.append(kept)
        self.size += kept.size
        if len(self._events) > _MAX_EVENTS:
            self._drop_oldest()
            self.dropped += 1
        self._expire()

    def minutes(self, start: float, end: float) -> list[list[ArchivedEvent]]:
        """Return the events that came from ``start`` to ``end``, grouped by minute, the earliest first."""
        self._expire()
        minutes: dict[float, list[ArchivedEvent]] = {}
        for each in self._events:
            if start <= each.kept_at <= end:
                minutes.setdefault(each.kept_at // _MINUTE_S, []).append(each)
        return [minutes[minute] for minute in sorted(minutes)]

    def status(self) -> ArchiveStatus:
        """Return what `Archives.describe` does."""
        self._expire()
        return ArchiveStatus(
            name=self.declared.name,
            bus=self.declared.bus,
            state="ENABLED",
            pattern=self.declared.pattern,
            retention=self.declared.retention,
            events=len(self._events),
            size=self.size,
            created_at=self.created_at,
            description=self.declared.description,
        )

    def _expire(self) -> None:
        if self.declared.retention is not None:
            oldest = clock.now() - self.declared.retention.total_seconds()
            while self._events and self._events[0].kept_at < oldest:
                self._drop_oldest()

    def _drop_oldest(self) -> None:
        self.size -= self._events.popleft().size
