"""A stream's consumer under load in virtual time: its iterator age, second by second, for the settings of a panel."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

from benchmarks._report import progress, table
from eip import Message
from eip.streams import BatchConsumer, KeySubdivider
from eip.testing import run
from eip.transports.memory import MemoryStream, MemoryTransport

__all__ = ["CALL", "RATE", "RECORD", "SHARDS", "Panels", "Ran", "Setting", "draw_ages", "measured", "plain"]

SHARDS, RATE, KEYS = 4, 400, 1000
"""Of the stream; records a second, over all shards; keys of those that are not hot."""
CALL, RECORD = 0.020, 0.002
"""Seconds of the handler: a call, and a record where it is fast."""


class Setting(NamedTuple):
    """One run's levers."""

    batch_size: int = 100
    parallelization: int = 1
    window: float = 0.0
    record: float = RECORD
    hot: bool = False
    """Half of all records have one key."""
    sub_keys: int = 1
    """Into how many that key is divided."""
    shards: int = SHARDS
    workers: int = 1
    leave: int = 0
    """Workers that leave after a third of the time."""
    merge_to: int = 0
    """Shards that are left after a third of the time; 0: all."""


Panels = Mapping[str, Mapping[str, Setting]]


class Ran(NamedTuple):
    """What one run showed."""

    ages: list[float]
    calls: int
    handled: int


def measured(title: str, panels: Panels, seconds: int) -> dict[str, dict[str, Ran]]:
    """Run all settings, and print a table."""
    results: dict[str, dict[str, Ran]] = {}
    rows = []
    for panel, settings in panels.items():
        results[panel] = {}
        for name, setting in settings.items():
            progress(f"{panel}: {name}")
            found = results[panel][name] = _measure(setting, seconds)
            per_call = found.handled / max(found.calls, 1)
            rows.append((panel, name, max(found.ages), found.ages[-1], _verdict(found.ages), found.calls, per_call))
    columns = ("lever", "value", "max age s", "age at the end s", "", "handler calls", "records per call")
    print(table(title, columns, rows))
    return results


def plain(results: Mapping[str, Mapping[str, Ran]]) -> dict[str, Any]:
    """The runs as plain data."""
    return {panel: {name: each._asdict() for name, each in runs.items()} for panel, runs in results.items()}


def draw_ages(axes: Any, panel: str, runs: Mapping[str, Ran]) -> None:
    """Draw a panel: a line for each setting."""
    for name, found in runs.items():
        axes.plot(range(1, len(found.ages) + 1), found.ages, label=name)
    axes.set_title(panel, fontsize=9)
    axes.set_xlabel("seconds")
    axes.set_ylabel("iterator age, s")
    axes.set_yscale("symlog", linthresh=1)
    axes.legend(fontsize=7)


def _measure(setting: Setting, seconds: int) -> Ran:
    async def scenario() -> Ran:
        calls = handled = 0

        async def handle(messages: Sequence[Message]) -> None:
            nonlocal calls, handled
            await asyncio.sleep(CALL + setting.record * len(messages))
            calls += 1
            handled += len(messages)

        async with MemoryTransport() as memory, asyncio.TaskGroup() as tasks, AsyncExitStack() as workers:
            stream = memory.stream("clicks", shards=setting.shards)
            group = stream.group("g")
            consumers = [
                await workers.enter_async_context(
                    BatchConsumer(
                        group,
                        handle,
                        batch_size=setting.batch_size,
                        batch_window=setting.window,
                        parallelization=setting.parallelization,
                        grace=0,
                    )
                )
                for _ in range(setting.workers)
            ]
            load = tasks.create_task(_load(stream, setting, seconds))
            ages = []
            await asyncio.sleep(0.05)  # not in step with the load
            for second in range(seconds):
                if second == seconds // 3:
                    for each in consumers[: setting.leave]:
                        tasks.create_task(each.stop(grace=5))
                    if setting.merge_to:
                        stream.reshard(setting.merge_to)
                await asyncio.sleep(1)
                ages.append(round(group.iterator_age, 2))
            load.cancel()
        return Ran(ages, calls, handled)

    return run(scenario())


async def _load(stream: MemoryStream, setting: Setting, seconds: int) -> None:
    """The records, ten times a second; with a hot key half of them have it, so its shard gets more than its share."""
    dice = random.Random(7)
    sender = KeySubdivider(setting.sub_keys, keys={"hot"}).sender(stream) if setting.sub_keys > 1 else stream
    for _ in range(seconds * 10):
        hot = [setting.hot and dice.random() < 0.5 for _ in range(RATE // 10)]
        keys = ["hot" if each else f"user-{dice.randrange(KEYS)}" for each in hot]
        await sender.send(*(Message(1, group_id=key) for key in keys))
        await asyncio.sleep(0.1)


def _verdict(ages: Sequence[float]) -> str:
    """Whether it keeps up: the age of the last quarter is not above that of the second."""
    quarter = len(ages) // 4
    before, end = max(ages[quarter : 2 * quarter]), max(ages[-quarter:])
    return "falls behind" if end > 1.3 * before + 1 else "keeps up"
