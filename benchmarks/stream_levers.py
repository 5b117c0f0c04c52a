"""A hot key and its cure, the batch window, shared reads beside fan-out, and scaling down: what each does to a group.

    python -m benchmarks.stream_levers [--quick] [--docs]

In virtual time (`eip.testing`), so that the same command gives the same figures on any machine: a measurement of the
levers, not of speed. Hot key, window and scaling down run on the embedded stream. Reads run through the Kinesis
driver on a model of the service with the rates that its documentation gives: five GetRecords a second and shard for
all groups together, answered in 10 ms; pushed records arrive after 70 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from statistics import mean
from typing import Any, NamedTuple

import structlog

from benchmarks._kinesis_model import KinesisModel
from benchmarks._report import plot, progress, save, table
from benchmarks.iterator_age import verdict
from eip import Message, clock
from eip.stores import MemoryStore
from eip.streams import BatchConsumer, KeySubdivider, StreamGroup
from eip.testing import run
from eip.transports.aws.kinesis.log import KinesisLog
from eip.transports.memory import MemoryStream, MemoryTransport

RATE, KEYS = 400, 1000
"""Records a second, over all shards, and the keys of those that are not hot."""
CALL = 0.020
"""Seconds that a call of the handler takes, whatever it is given."""


class Setting(NamedTuple):
    """One run on the embedded stream."""

    shards: int = 4
    batch_size: int = 100
    parallelization: int = 1
    window: float = 0.0
    record: float = 0.002
    hot: float = 0.0
    """Part of the records that has one key."""
    sub_keys: int = 1
    workers: int = 1
    leave: int = 0
    """Workers that leave after a third of the time."""
    merge_to: int = 0
    """Shards that are left after a third of the time."""


_LARGE = Setting(batch_size=10_000, parallelization=10, record=0.020)
_SMALLER = Setting(shards=8, record=0.015)
PANELS: dict[str, dict[str, Setting]] = {
    "hot key: batch 10,000, factor 10": {
        "even keys": _LARGE,
        "half of all in one key": _LARGE._replace(hot=0.5),
        "divided by 2": _LARGE._replace(hot=0.5, sub_keys=2),
        "divided by 10": _LARGE._replace(hot=0.5, sub_keys=10),
    },
    "batch window: batch 10,000": {
        "0 s": Setting(batch_size=10_000),
        "1 s": Setting(batch_size=10_000, window=1),
        "10 s": Setting(batch_size=10_000, window=10),
    },
    "scaling down after a third": {
        "8 shards stay": _SMALLER,
        "4 workers, 3 leave": _SMALLER._replace(workers=4, leave=3),
        "merged to 4, factor 1": _SMALLER._replace(merge_to=4),
        "merged to 4, factor 2": _SMALLER._replace(merge_to=4, parallelization=2),
    },
}


class Ran(NamedTuple):
    """What one run showed."""

    ages: list[float]
    calls: int
    handled: int


def measure(setting: Setting, seconds: int) -> Ran:
    """The iterator age, taken every second."""

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
            consumers = [_consumer(group, handle, setting) for _ in range(setting.workers)]
            for each in consumers:
                await workers.enter_async_context(each)
            load = tasks.create_task(_load(stream, setting, seconds))
            ages = []
            await asyncio.sleep(0.05)  # not in step with the load
            for second in range(seconds):
                if second == seconds // 3:
                    _scale_down(stream, consumers, setting, tasks)
                await asyncio.sleep(1)
                ages.append(round(group.iterator_age, 2))
            load.cancel()
        return Ran(ages, calls, handled)

    return run(scenario())


def _consumer(group: StreamGroup, handle: Any, setting: Setting) -> BatchConsumer:
    size, window = setting.batch_size, setting.window
    return BatchConsumer(
        group, handle, batch_size=size, batch_window=window, parallelization=setting.parallelization, grace=0
    )


def _scale_down(
    stream: MemoryStream, consumers: Sequence[BatchConsumer], setting: Setting, tasks: asyncio.TaskGroup
) -> None:
    for each in consumers[: setting.leave]:
        tasks.create_task(each.stop(grace=5))
    if setting.merge_to:
        stream.reshard(setting.merge_to)


async def _load(stream: MemoryStream, setting: Setting, seconds: int) -> None:
    """The records, ten times a second."""
    dice = random.Random(7)
    divide = KeySubdivider(setting.sub_keys, keys={"hot"}) if setting.sub_keys > 1 else None
    sender = stream if divide is None else divide.sender(stream)
    for _ in range(seconds * 10):
        hot = [dice.random() < setting.hot for _ in range(RATE // 10)]
        keys = ["hot" if each else f"user-{dice.randrange(KEYS)}" for each in hot]
        await sender.send(*(Message(1, group_id=key) for key in keys))
        await asyncio.sleep(0.1)


def delays(groups: int, seconds: int, *, fan_out: bool) -> list[float]:
    """Seconds from a record's arrival to the handler, over all groups that read one stream of two shards."""

    async def scenario() -> list[float]:
        found: list[float] = []

        async def handle(messages: Sequence[Message]) -> None:
            found.extend(clock.now() - each.created_at for each in messages)

        model = KinesisModel(shards=2)
        async with AsyncExitStack() as stack:
            for number in range(groups):
                group = StreamGroup(
                    KinesisLog(model, fan_out=fan_out), f"g{number}", leases=MemoryStore(), start="trim_horizon"
                )
                await stack.enter_async_context(BatchConsumer(group, handle, grace=0))
            await asyncio.sleep(5)
            found.clear()
            dice = random.Random(7)
            for _ in range(seconds * 20):
                model.put(f"user-{dice.randrange(KEYS)}", b'{"page": "/"}')
                await asyncio.sleep(dice.expovariate(20))
            await asyncio.sleep(5)
        return found

    return run(scenario())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="45 seconds instead of 120, one and five groups")
    parser.add_argument("--docs", action="store_true", help="write the plot for the documentation too")
    options = parser.parse_args()
    seconds = 45 if options.quick else 120
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    ran = _panels(seconds)
    reads = _reads((1, 5) if options.quick else (1, 2, 3, 4, 5), seconds // 4)
    plot("stream_levers", lambda figure: _draw(figure, ran, reads), size=(10, 6.5), docs=options.docs)
    plain = {panel: {name: each._asdict() for name, each in runs.items()} for panel, runs in ran.items()}
    print(f"\nwritten to {save('stream_levers', {'panels': plain, 'reads': reads})}")


def _panels(seconds: int) -> dict[str, dict[str, Ran]]:
    results: dict[str, dict[str, Ran]] = {}
    rows = []
    for panel, settings in PANELS.items():
        results[panel] = {}
        for name, setting in settings.items():
            progress(f"{panel}: {name}")
            found = results[panel][name] = measure(setting, seconds)
            per_call = found.handled / max(found.calls, 1)
            rows.append((panel, name, max(found.ages), found.ages[-1], verdict(found.ages), found.calls, per_call))
    columns = ("lever", "value", "max age s", "age at the end s", "", "handler calls", "records per call")
    print(table(f"Iterator age over {seconds} s, {RATE} records/s", columns, rows))
    return results


def _reads(groups: Sequence[int], seconds: int) -> dict[str, dict[int, float]]:
    """The mean delay by the number of groups, of shared reads and of fan-out."""
    found: dict[str, dict[int, float]] = {"shared reads": {}, "enhanced fan-out": {}}
    rows = []
    for number in groups:
        progress(f"reads: {number} groups")
        shared, pushed = delays(number, seconds, fan_out=False), delays(number, seconds, fan_out=True)
        found["shared reads"][number], found["enhanced fan-out"][number] = mean(shared), mean(pushed)
        rows.append((number, mean(shared), max(shared), mean(pushed), max(pushed)))
    columns = ("groups", "shared: mean s", "max s", "fan-out: mean s", "max s")
    print(table("From arrival to the handler, 20 records/s over 2 shards", columns, rows))
    return found


def _draw(figure: Any, ran: dict[str, dict[str, Ran]], reads: dict[str, dict[int, float]]) -> None:
    *panels, last = figure.subplots(2, 2).flat
    for axes, (panel, runs) in zip(panels, ran.items(), strict=True):
        for name, found in runs.items():
            axes.plot(range(1, len(found.ages) + 1), found.ages, label=name)
        axes.set_title(panel, fontsize=9)
        axes.set_xlabel("seconds")
        axes.set_ylabel("iterator age, s")
        axes.set_yscale("symlog", linthresh=1)
        axes.legend(fontsize=7)
    for name, by_groups in reads.items():
        last.plot(list(by_groups), list(by_groups.values()), marker="o", label=name)
    last.set_title("groups of one stream", fontsize=9)
    last.set_xlabel("groups")
    last.set_xticks(list(reads["shared reads"]))
    last.set_ylabel("mean seconds to the handler")
    last.set_ylim(bottom=0)
    last.legend(fontsize=7)


if __name__ == "__main__":
    main()
