"""Archives and replays of the embedded bus, with EventBridge's semantics and in virtual time."""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from eip import clock
from eip._logging import get_logger
from eip.codec import dump_json
from eip.errors import ChannelNotFound, ConfigurationError, Conflict, Throttled
from eip.events import event_time
from eip.matching import EventPattern
from eip.topology import ArchiveSpec
from eip.topology.archives import Archives, ArchiveStatus, ReplayState, ReplayStatus, check_window

if TYPE_CHECKING:
    from eip.transports.memory.bus import MemoryBus

__all__ = ["Account", "Archive", "MemoryArchives"]

_log = get_logger("eip.memory")

_MINUTE: Final = 60.0
_MOST_REPLAYS: Final = 10
"""That run at once in an account (EventBridge quotas)."""
_NAME_KEPT: Final = 90 * 86_400.0
"""Seconds that the name of a replay is not free again."""
_CAPACITY: Final = 1_000_000
"""Events that an archive keeps here; the oldest go first, and are counted."""


class _Kept(NamedTuple):
    """An event in an archive."""

    kept_at: float
    time: float
    """The event's own."""
    event: Mapping[str, Any]
    size: int


class Archive:
    """What an archive keeps."""

    def __init__(self, bus: MemoryBus, declared: ArchiveSpec) -> None:
        self.bus, self.declared = bus, declared
        self.rule = f"Events-Archive-{declared.name}"
        self.created_at = clock.now()
        self.size = 0
        self.dropped = 0
        """Events that were pushed out by newer ones."""
        self._events: deque[_Kept] = deque()

    @property
    def managed_pattern(self) -> EventPattern:
        """Of its managed rule: what a replay brings is not kept again."""
        pattern = {} if self.declared.pattern is None else json.loads(self.declared.pattern.text)
        return EventPattern({**pattern, "replay-name": [{"exists": False}]})

    def keep(self, event: Mapping[str, Any]) -> None:
        """Keep an event."""
        now = clock.now()
        time = event_time(event)
        kept = _Kept(now, now if time is None else time, event, len(dump_json(event)))
        self._events.append(kept)
        self.size += kept.size
        if len(self._events) > _CAPACITY:
            self._forget()
            self.dropped += 1
        self._expire()

    def window(self, start: float, end: float) -> dict[float, list[_Kept]]:
        """The events whose time is in the window, by the minute of it, the earliest first."""
        self._expire()
        minutes: dict[float, list[_Kept]] = {}
        for each in self._events:
            if start <= each.time <= end:
                minutes.setdefault(each.time // _MINUTE, []).append(each)
        return dict(sorted(minutes.items()))

    def status(self) -> ArchiveStatus:
        """See `Archives.describe`."""
        self._expire()
        return ArchiveStatus(
            name=self.declared.name,
            state="ENABLED",
            pattern=self.declared.pattern,
            retention=self.declared.retention,
            events=len(self._events),
            size=self.size,
            created_at=self.created_at,
        )

    def _expire(self) -> None:
        if self.declared.retention is not None:
            oldest = clock.now() - self.declared.retention.total_seconds()
            while self._events and self._events[0].kept_at < oldest:
                self._forget()

    def _forget(self) -> None:
        self.size -= self._events.popleft().size


class _Replay:
    """A replay under way, or over."""

    def __init__(self, name: str, archive: Archive, start: float, end: float, rules: Collection[str]) -> None:
        self.name, self.archive, self.start, self.end, self.rules = name, archive, start, end, tuple(rules)
        self.state = ReplayState.STARTING
        self.started_at = clock.now()
        self.ended_at: float | None = None
        self.last_replayed: float | None = None
        self.reason = ""
        self.task: asyncio.Task[None]

    def status(self) -> ReplayStatus:
        """See `Archives.describe_replay`."""
        return ReplayStatus(
            name=self.name,
            archive=self.archive.declared.name,
            state=self.state,
            start=self.start,
            end=self.end,
            rules=self.rules,
            started_at=self.started_at,
            ended_at=self.ended_at,
            last_replayed=self.last_replayed,
            reason=self.reason,
        )

    async def run(self, interval: float) -> None:
        """Minute by minute; within a minute in any order, but the same whenever it runs."""
        await asyncio.sleep(0)
        self.state = ReplayState.RUNNING
        dice = random.Random(self.name)
        for number, events in enumerate(self.archive.window(self.start, self.end).values()):
            if number:
                await asyncio.sleep(interval)
            dice.shuffle(events)
            for each in events:
                await self.archive.bus.route(_renamed(each.event, self.name), rules=self.rules)
            self.last_replayed = max(each.time for each in events)

    def ended(self, task: asyncio.Task[None]) -> None:
        """Say how it ended."""
        if task.cancelled():
            self.state, self.last_replayed = ReplayState.CANCELLED, None
        elif (error := task.exception()) is not None:
            self.state, self.reason, self.ended_at = ReplayState.FAILED, str(error), clock.now()
            _log.error("replay_failed", replay=self.name, error=str(error))
        else:
            self.state, self.ended_at = ReplayState.COMPLETED, clock.now()


def _renamed(event: Mapping[str, Any], replay: str) -> dict[str, Any]:
    """The event as the replay brings it; its id stays."""
    rest = {key: event[key] for key in ("resources", "detail") if key in event}
    return {**{key: each for key, each in event.items() if key not in rest}, "replay-name": replay, **rest}


class Account:
    """What all buses of a transport share: the names of archives and replays."""

    def __init__(self) -> None:
        self.archives: dict[str, Archive] = {}
        self.replays: dict[str, _Replay] = {}

    def archive(self, name: str) -> Archive:
        """The archive of that name; raises `ChannelNotFound`."""
        if name not in self.archives:
            raise ChannelNotFound(f"Archive {name} does not exist.")
        return self.archives[name]

    def replay(self, name: str) -> _Replay:
        """The replay of that name; raises `ChannelNotFound`."""
        oldest = clock.now() - _NAME_KEPT
        for each in list(self.replays.values()):
            if each.state.over and each.started_at < oldest:
                del self.replays[each.name]
        if name not in self.replays:
            raise ChannelNotFound(f"Replay {name} does not exist.")
        return self.replays[name]

    @property
    def running(self) -> int:
        """How many replays are not over."""
        return sum(not each.state.over for each in self.replays.values())


class MemoryArchives(Archives):
    """The archives of one bus.

    Args:
        bus: whose events are kept and replayed.
        account: shared by all buses of the transport.
        interval: seconds between the minutes of a replay.
    """

    def __init__(self, bus: MemoryBus, account: Account, *, interval: float) -> None:
        self._bus, self._account, self._interval = bus, account, interval

    async def create(
        self, name: str, *, pattern: EventPattern | None = None, retention: timedelta | None = None
    ) -> None:
        """See `Archives.create`."""
        declared = ArchiveSpec(name, self._bus.name, pattern, retention)
        if name in self._account.archives:
            raise Conflict(f"Archive {name} already exists.")
        archive = self._account.archives[name] = Archive(self._bus, declared)
        self._bus.keep(archive)

    async def update(
        self, name: str, *, pattern: EventPattern | None = None, retention: timedelta | None = None
    ) -> None:
        """See `Archives.update`."""
        archive = self._account.archive(name)
        if pattern is None and retention is None:
            raise ConfigurationError("At least one of EventPattern, RetentionDays or Description must be provided.")
        known = archive.declared
        archive.declared = ArchiveSpec(
            name, known.bus, pattern or known.pattern, known.retention if retention is None else retention or None
        )
        archive.bus.keep(archive)

    async def delete(self, name: str) -> None:
        """See `Archives.delete`."""
        archive = self._account.archive(name)
        archive.bus.drop(archive)
        del self._account.archives[name]

    async def describe(self, name: str) -> ArchiveStatus:
        """See `Archives.describe`."""
        return self._account.archive(name).status()

    async def start_replay(
        self, name: str, *, archive: str, start: float, end: float, rules: Collection[str] = ()
    ) -> ReplayStatus:
        """See `Archives.start_replay`."""
        found = self._account.archives.get(archive)
        if found is None:
            raise ConfigurationError(
                f"Parameter EventSourceArn is not valid. Reason: Archive {archive} does not exist."
            )
        if found.bus is not self._bus:
            raise ConfigurationError(
                "Parameter Destination.Arn is not valid. Reason: Cross event bus replay is not permitted."
            )
        check_window(start, end)
        for rule in rules:
            if rule not in self._bus.rules:
                raise ConfigurationError(f"Rule {rule} does not exist on EventBus {self._bus.name}.")
        try:
            self._account.replay(name)
        except ChannelNotFound:
            pass
        else:
            raise Conflict(f"Replay {name} already exists.")
        if self._account.running >= _MOST_REPLAYS:
            raise Throttled("The requested resource exceeds the maximum number allowed.")
        replay = self._account.replays[name] = _Replay(name, found, start, end, rules)
        replay.task = asyncio.create_task(replay.run(self._interval), name=f"replay {name}")
        replay.task.add_done_callback(replay.ended)
        return replay.status()

    async def describe_replay(self, name: str) -> ReplayStatus:
        """See `Archives.describe_replay`."""
        return self._account.replay(name).status()

    async def cancel_replay(self, name: str) -> ReplayStatus:
        """See `Archives.cancel_replay`."""
        replay = self._account.replay(name)
        if replay.state not in (ReplayState.STARTING, ReplayState.RUNNING):
            raise Conflict(f"Replay {name} is not in a valid state for this operation.")
        replay.state = ReplayState.CANCELLING
        replay.task.cancel()
        return replay.status()

    async def aclose(self) -> None:
        """End the replays of this bus."""
        tasks = [each.task for each in self._account.replays.values() if each.archive.bus is self._bus]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
