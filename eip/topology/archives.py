"""Archives of event buses: they keep events, and replay those of a window of time to the bus's rules.

Drivers implement `Archives`; `eip.patterns.replay` is what users call. The terms and the state machine are those of
Amazon EventBridge ("Archiving and replaying events", user guide).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from eip.errors import ChannelNotFound, ConfigurationError
from eip.matching import EventPattern
from eip.topology.events import ALL_EVENTS, ArchiveSpec
from eip.topology.plan import Step

__all__ = ["ArchiveStatus", "Archives", "HasArchives", "ReplayState", "ReplayStatus", "archive_step", "check_window"]


class ReplayState(StrEnum):
    """STARTING -> RUNNING -> COMPLETED or FAILED; cancelled from the first two: CANCELLING -> CANCELLED."""

    STARTING = "STARTING"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self in (ReplayState.COMPLETED, ReplayState.CANCELLED, ReplayState.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveStatus:
    """An archive as it is."""

    name: str
    bus: str
    state: str
    """ENABLED, DISABLED, CREATING, UPDATING, CREATE_FAILED or UPDATE_FAILED."""
    pattern: EventPattern | None
    """Which events are kept; None: all."""
    retention: timedelta | None
    """None: for ever."""
    events: int
    """How many; EventBridge counts within a day."""
    size: int
    """Bytes."""
    created_at: float
    """Seconds since the epoch, as all times here."""
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayStatus:
    """A replay as it is."""

    name: str
    archive: str
    state: ReplayState
    start: float
    """Of the window; the time when the bus took an event counts."""
    end: float
    rules: tuple[str, ...] = ()
    """The rules that get the events; none: all."""
    started_at: float | None = None
    ended_at: float | None = None
    last_replayed: float | None = None
    """When the bus took the last event that was replayed; None: none so far."""
    reason: str = ""
    """Why it is in this state, where the service gives a reason."""
    description: str = ""

    @property
    def progress(self) -> float:
        """From 0 to 1: how much of the window is replayed."""
        if self.state is ReplayState.COMPLETED:
            return 1.0
        if self.last_replayed is None:
            return 0.0
        return min(max((self.last_replayed - self.start) / (self.end - self.start), 0.0), 1.0)


class Archives(ABC):
    """A bus's archives and their replays.

    Every verb raises `ChannelNotFound` for a bus, an archive or a replay that is not there, `ConfigurationError` for
    what cannot be, and `TransportError` where the service fails.
    """

    @abstractmethod
    async def create(
        self,
        name: str,
        *,
        pattern: EventPattern | None = None,
        retention: timedelta | None = None,
        description: str = "",
    ) -> None:
        """Keep the bus's events from now on; raises `Conflict` where there is an archive of that name.

        ``pattern``: which; default: all. ``retention``: whole days; default: for ever. ``description``: for people, at
        most 512 characters. What a replay brings is never kept again.
        """

    @abstractmethod
    async def update(
        self,
        name: str,
        *,
        pattern: EventPattern | None = None,
        retention: timedelta | None = None,
        description: str | None = None,
    ) -> None:
        """Change what is given, for events that come; a retention of no time is for ever."""

    @abstractmethod
    async def delete(self, name: str) -> None:
        """Remove the archive and what it keeps."""

    @abstractmethod
    async def describe(self, name: str) -> ArchiveStatus:
        """The archive as it is."""

    @abstractmethod
    async def list(self) -> Sequence[ArchiveStatus]:
        """The archives of this bus, by name."""

    @abstractmethod
    async def start_replay(
        self,
        name: str,
        *,
        archive: str,
        start: float,
        end: float,
        rules: Collection[str] = (),
        description: str = "",
    ) -> ReplayStatus:
        """Begin to send the events of that window to the bus's rules, or only to some of them.

        Minute by minute, the earliest first, in no order within a minute; each with the replay's name. Raises
        `Conflict` for a name that was used in the last 90 days, `Throttled` while ten replays run.
        """

    @abstractmethod
    async def describe_replay(self, name: str) -> ReplayStatus:
        """The replay as it is."""

    @abstractmethod
    async def list_replays(self, archive: str | None = None) -> Sequence[ReplayStatus]:
        """The replays of the last 90 days, the latest first: of one archive, or of all of the account and region.

        A listed replay has no rules and no description, as the service lists it; `describe_replay` has them.
        """

    @abstractmethod
    async def cancel_replay(self, name: str) -> ReplayStatus:
        """End a replay that is starting or running; raises `Conflict` in any other state."""


@runtime_checkable
class HasArchives(Protocol):
    """A bus that has archives."""

    name: str

    @property
    def archives(self) -> Archives:
        """Its archives."""
        ...


def check_window(start: float, end: float) -> None:
    """Refuse a window that is none, in the service's words."""
    if not start < end:
        raise ConfigurationError(
            "Parameter EventEndTime is not valid. Reason: EventStartTime must be before EventEndTime."
        )


async def archive_step(archives: Archives, declared: ArchiveSpec, *, apply: bool) -> Step:
    """Return the step for an archive, on any transport that has archives, and carry it out if ``apply``."""
    try:
        found = await archives.describe(declared.name)
    except ChannelNotFound:
        if apply:
            await archives.create(
                declared.name,
                pattern=declared.pattern,
                retention=declared.retention,
                description=declared.description,
            )
        return Step("create", "archive", declared.name)
    changes: dict[str, Any] = {}
    details: list[str] = []
    wanted, there = declared.pattern or ALL_EVENTS, found.pattern or ALL_EVENTS
    if json.loads(wanted.text) != json.loads(there.text):
        changes["pattern"] = wanted
        details.append(f"pattern: {there.text} -> {wanted.text}")
    if found.retention != declared.retention:
        changes["retention"] = declared.retention or timedelta()
        details.append(f"retention: {found.retention or 'for ever'} -> {declared.retention or 'for ever'}")
    if found.description != declared.description:
        changes["description"] = declared.description
        details.append(f"description: {found.description or 'none'} -> {declared.description or 'none'}")
    if changes and apply:
        await archives.update(declared.name, **changes)
    return Step("change" if changes else "same", "archive", declared.name, ", ".join(details))
