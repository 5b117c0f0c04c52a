"""A replay of an archive."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, TypeAlias

from eip import clock
from eip._logging import get_logger
from eip.topology.archives import ReplayState, ReplayStatus
from eip.transports.memory._archive import Archive

__all__ = ["Replay", "Route"]

_log = get_logger("eip.memory")

Route: TypeAlias = Callable[[Mapping[str, Any], Collection[str]], Awaitable[None]]
"""Gives an event to the bus's rules: to those named, or to all if none is."""


class Replay:
    """A replay under way, or over.

    Args:
        name: unique in the account.
        archive: whose events are replayed.
        window: when the events came, from and to, in seconds since the epoch.
        rules: only these get the events; none: all.
        description: for people.
    """

    def __init__(
        self,
        name: str,
        archive: Archive,
        *,
        window: tuple[float, float],
        rules: Collection[str],
        description: str,
    ) -> None:
        self.name, self.archive, self._rules, self._description = name, archive, tuple(rules), description
        self._start, self._end = window
        self.state = ReplayState.STARTING
        self.started_at = clock.now()
        self._ended_at: float | None = None
        self._last_replayed: float | None = None
        self._reason = ""
        self.task: asyncio.Task[None]

    def status(self) -> ReplayStatus:
        """Return what `Archives.describe_replay` does."""
        return ReplayStatus(
            name=self.name,
            archive=self.archive.declared.name,
            state=self.state,
            start=self._start,
            end=self._end,
            rules=self._rules,
            started_at=self.started_at,
            ended_at=self._ended_at,
            last_replayed=self._last_replayed,
            reason=self._reason,
            description=self._description,
        )

    def begin(self, route: Route, *, interval: float) -> None:
        """Begin in a task of its own, with ``interval`` seconds between the minutes of the archive."""
        self.task = asyncio.create_task(self._run(route, interval), name=f"replay {self.name}")
        self.task.add_done_callback(self._ended)

    async def _run(self, route: Route, interval: float) -> None:
        """Replay minute by minute: within a minute in random order, as EventBridge does, the same in each run."""
        await asyncio.sleep(0)
        self.state = ReplayState.RUNNING
        dice = random.Random(self.name)
        for number, events in enumerate(self.archive.minutes(self._start, self._end)):
            if number:
                await asyncio.sleep(interval)
            dice.shuffle(events)
            for each in events:
                await route(_with_replay_name(each.event, self.name), self._rules)
            self._last_replayed = max(each.kept_at for each in events)

    def cancel(self) -> None:
        """End it; the events that are left are not replayed."""
        self.state = ReplayState.CANCELLING
        self.task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self.state, self._last_replayed = ReplayState.CANCELLED, None
        elif (error := task.exception()) is not None:
            self.state, self._reason, self._ended_at = ReplayState.FAILED, str(error), clock.now()
            _log.error("replay_failed", replay=self.name, error=str(error))
        else:
            self.state, self._ended_at = ReplayState.COMPLETED, clock.now()


def _with_replay_name(event: Mapping[str, Any], replay: str) -> dict[str, Any]:
    """Return the event as the replay sends it; its id stays."""
    rest = {key: event[key] for key in ("resources", "detail") if key in event}
    return {**{key: each for key, each in event.items() if key not in rest}, "replay-name": replay, **rest}
