"""Archives and replays of the embedded buses, with EventBridge's semantics and in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from typing_extensions import override

from eip import clock
from eip.errors import ChannelNotFound, ConfigurationError, Conflict, Throttled
from eip.matching import EventPattern, RuleSet
from eip.topology import ArchiveSpec
from eip.topology.archives import Archives, ArchiveStatus, ReplayState, ReplayStatus, check_window
from eip.topology.events import check_description
from eip.transports.memory._archive import Archive
from eip.transports.memory._replay import Replay, Route

__all__ = ["Account", "MemoryArchives"]

_MAX_REPLAYS: Final = 10
"""Replays that run at once in an account (EventBridge quotas)."""
_REPLAY_NAME_KEPT_S: Final = 90 * 86_400.0
"""Seconds for which the name of a replay cannot be used again."""


class Account:
    """What all buses of a transport share: the names of archives and replays."""

    def __init__(self) -> None:
        self.buses: dict[str, MemoryArchives] = {}
        """By the name of their bus."""
        self.archives: dict[str, Archive] = {}
        self.replays: dict[str, Replay] = {}

    def archive(self, name: str) -> Archive:
        """Return the archive of that name; raises `ChannelNotFound`."""
        if name not in self.archives:
            raise ChannelNotFound(f"Archive {name} does not exist.")
        return self.archives[name]

    def replay(self, name: str) -> Replay:
        """Return the replay of that name; raises `ChannelNotFound`."""
        self.kept_replays()
        if name not in self.replays:
            raise ChannelNotFound(f"Replay {name} does not exist.")
        return self.replays[name]

    def kept_replays(self) -> Collection[Replay]:
        """Forget the replays whose names are free again, and return the others, the oldest first."""
        oldest = clock.now() - _REPLAY_NAME_KEPT_S
        for each in [*self.replays.values()]:
            if each.state.over and each.started_at < oldest:
                del self.replays[each.name]
        return self.replays.values()

    @property
    def running(self) -> int:
        """How many replays are not over."""
        return sum(not each.state.over for each in self.replays.values())


class MemoryArchives(Archives):
    """The archives of one bus. Error texts are EventBridge's.

    Args:
        bus: the bus's name.
        account: shared by all buses of the transport.
        rules: returns the names of the bus's rules.
        route: gives replayed events to the bus's rules.
        interval: seconds between the minutes of a replay.
    """

    def __init__(
        self, bus: str, account: Account, *, rules: Callable[[], Collection[str]], route: Route, interval: float
    ) -> None:
        self._bus, self._account, self._rules, self._route, self._interval = bus, account, rules, route, interval
        self._feeds: dict[str, Archive] = {}
        """The archives of this bus, by the names of their managed rules."""
        self._index = RuleSet()
        account.buses[bus] = self

    def offer(self, event: Mapping[str, Any]) -> None:
        """Keep the event in the archives whose managed rules match it."""
        if self._feeds:
            for rule in self._index.match(event):
                self._feeds[rule].keep(event)

    @property
    def managed_rules(self) -> dict[str, EventPattern]:
        """The rules that feed the archives, by name."""
        return {rule: each.managed_pattern for rule, each in self._feeds.items()}

    def _feed(self, archive: Archive) -> None:
        """Let the archive's managed rule feed it from now on."""
        self._feeds[archive.rule] = archive
        self._index.add(archive.rule, archive.managed_pattern.text)

    def _stop_feeding(self, archive: Archive) -> None:
        del self._feeds[archive.rule]
        self._index.remove(archive.rule)

    @override
    async def create(
        self,
        name: str,
        *,
        pattern: EventPattern | None = None,
        retention: timedelta | None = None,
        description: str = "",
    ) -> None:
        declared = ArchiveSpec(name, self._bus, pattern, retention, description)
        if name in self._account.archives:
            raise Conflict(f"Archive {name} already exists.")
        archive = self._account.archives[name] = Archive(declared)
        self._feed(archive)

    @override
    async def update(
        self,
        name: str,
        *,
        pattern: EventPattern | None = None,
        retention: timedelta | None = None,
        description: str | None = None,
    ) -> None:
        archive = self._account.archive(name)
        if pattern is None and retention is None and description is None:
            raise ConfigurationError("At least one of EventPattern, RetentionDays or Description must be provided.")
        known = archive.declared
        archive.declared = replace(
            known,
            pattern=pattern or known.pattern,
            retention=known.retention if retention is None else retention or None,
            description=known.description if description is None else description,
        )
        self._account.buses[known.bus]._feed(archive)  # noqa: SLF001 - of this class; an archive's name is enough

    @override
    async def delete(self, name: str) -> None:
        archive = self._account.archive(name)
        self._account.buses[archive.declared.bus]._stop_feeding(archive)  # noqa: SLF001 - as above
        del self._account.archives[name]

    @override
    async def describe(self, name: str) -> ArchiveStatus:
        return self._account.archive(name).status()

    @override
    async def list(self) -> Sequence[ArchiveStatus]:
        return [each.status() for _, each in sorted(self._account.archives.items()) if each.declared.bus == self._bus]

    @override
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
        check_description(description)
        found = self._checked(archive, start, end, rules)
        try:
            self._account.replay(name)
        except ChannelNotFound:
            pass
        else:
            raise Conflict(f"Replay {name} already exists.")
        if self._account.running >= _MAX_REPLAYS:
            raise Throttled("The requested resource exceeds the maximum number allowed.")
        replay = self._account.replays[name] = Replay(
            name, found, window=(start, end), rules=rules, description=description
        )
        replay.begin(self._route, interval=self._interval)
        return replay.status()

    def _checked(self, archive: str, start: float, end: float, rules: Collection[str]) -> Archive:
        """Return the archive to replay; raises `ConfigurationError` for what EventBridge would refuse."""
        found = self._account.archives.get(archive)
        if found is None:
            raise ConfigurationError(
                f"Parameter EventSourceArn is not valid. Reason: Archive {archive} does not exist."
            )
        if found.declared.bus != self._bus:
            raise ConfigurationError(
                "Parameter Destination.Arn is not valid. Reason: Cross event bus replay is not permitted."
            )
        check_window(start, end)
        for rule in rules:
            if rule not in self._rules():
                raise ConfigurationError(f"Rule {rule} does not exist on EventBus {self._bus}.")
        return found

    @override
    async def describe_replay(self, name: str) -> ReplayStatus:
        return self._account.replay(name).status()

    @override
    async def list_replays(self, archive: str | None = None) -> Sequence[ReplayStatus]:
        found = [
            each.status() for each in self._account.kept_replays() if archive in (None, each.archive.declared.name)
        ]
        return [replace(each, rules=(), description="") for each in reversed(found)]

    @override
    async def cancel_replay(self, name: str) -> ReplayStatus:
        replay = self._account.replay(name)
        if replay.state not in (ReplayState.STARTING, ReplayState.RUNNING):
            raise Conflict(f"Replay {name} is not in a valid state for this operation.")
        replay.cancel()
        return replay.status()

    async def aclose(self) -> None:
        """End the replays of this bus."""
        tasks = [each.task for each in self._account.replays.values() if each.archive.declared.bus == self._bus]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
