"""What the levers of a stream's consumer do to its iterator age, under load, a slow handler and a hot key.

    python -m benchmarks.iterator_age [--quick] [--docs]

Four shards get 100 records a second each, spread over 1,000 keys; with a hot key half of all records have that one. The
handler takes 20 ms a call and 2 ms a record ("fast"), or 50 ms a record ("slow", as of an API that is called for each).
One lever is changed at a time: batch size, parallelization factor, batch window, the hot key. The iterator age is taken
every second: flat, the consumer keeps up; rising, it never will.

The library's own code runs on the embedded stream in virtual time (`eip.testing`), so two minutes take seconds and the
same command gives the same figures on any machine. It is a measurement of the levers, not of speed.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import structlog

from benchmarks._report import plot, progress, save, table
from eip import Message
from eip.streams import BatchConsumer
from eip.testing import run
from eip.transports.memory import MemoryStream, MemoryTransport

SHARDS, RATE, KEYS = 4, 100, 1000
CALL, RECORD, SLOW = 0.020, 0.002, 0.050
"""Seconds of the handler: a call, a record, and a record where it is slow."""


class Setting(NamedTuple):
    """One run's levers."""

    batch_size: int = 100
    parallelization: int = 1
    window: float = 0.0
    record: float = RECORD
    hot: bool = False


PANELS: dict[str, dict[str, Setting]] = {
    "batch size (fast handler)": {
        "1": Setting(batch_size=1),
        "2": Setting(batch_size=2),
        "10": Setting(batch_size=10),
        "100": Setting(batch_size=100),
        "10,000": Setting(batch_size=10_000),
    },
    "parallelization factor (slow handler)": {
        "1": Setting(record=SLOW, batch_size=10),
        "2": Setting(record=SLOW, batch_size=10, parallelization=2),
        "5": Setting(record=SLOW, batch_size=10, parallelization=5),
        "10": Setting(record=SLOW, batch_size=10, parallelization=10),
    },
    "batch window (fast handler, batch size 10,000)": {
        "0 s": Setting(batch_size=10_000),
        "5 s": Setting(batch_size=10_000, window=5),
        "20 s": Setting(batch_size=10_000, window=20),
    },
    "hot key (slow handler, factor 10)": {
        "1,000 even keys": Setting(record=SLOW, batch_size=10, parallelization=10),
        "half of all in one key": Setting(record=SLOW, batch_size=10, parallelization=10, hot=True),
        "the same, fast handler": Setting(batch_size=10, parallelization=10, hot=True),
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
        async with MemoryTransport() as memory:
            stream = memory.stream("clicks", shards=SHARDS)
            group = stream.group("g")
            calls = handled = 0

            async def handle(messages: Sequence[Message]) -> None:
                nonlocal calls, handled
                await asyncio.sleep(CALL + setting.record * len(messages))
                calls += 1
                handled += len(messages)

            consumer = BatchConsumer(
                group,
                handle,
                batch_size=setting.batch_size,
                batch_window=setting.window,
                parallelization=setting.parallelization,
                grace=0,
            )
            task = asyncio.create_task(consumer.run())
            await consumer.started.wait()
            load = asyncio.create_task(_load(stream, setting, seconds))
            ages = []
            await asyncio.sleep(0.05)  # not in step with the load
            for _ in range(seconds):
                await asyncio.sleep(1)
                ages.append(round(group.iterator_age, 2))
            load.cancel()
            await consumer.stop()
            await task
            return Ran(ages, calls, handled)

    return run(scenario())


async def _load(stream: MemoryStream, setting: Setting, seconds: int) -> None:
    """The records, ten times a second; with a hot key half of them have it, so its shard gets more than its share."""
    dice = random.Random(7)
    for _ in range(seconds * 10):
        hot = [setting.hot and dice.random() < 0.5 for _ in range(SHARDS * RATE // 10)]
        keys = ["hot" if each else f"user-{dice.randrange(KEYS)}" for each in hot]
        await stream.send(*(Message(1, group_id=key) for key in keys))
        await asyncio.sleep(0.1)


def verdict(ages: Sequence[float]) -> str:
    """Whether it keeps up: the age of the last quarter is not above that of the second."""
    quarter = len(ages) // 4
    before, end = max(ages[quarter : 2 * quarter]), max(ages[-quarter:])
    return "falls behind" if end > 1.3 * before + 1 else "keeps up"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="40 seconds instead of 120")
    parser.add_argument("--docs", action="store_true", help="write the plot for the documentation too")
    options = parser.parse_args()
    seconds = 40 if options.quick else 120
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    results: dict[str, dict[str, Any]] = {}
    rows = []
    for panel, settings in PANELS.items():
        results[panel] = {}
        for name, setting in settings.items():
            progress(f"{panel}: {name}")
            ran = measure(setting, seconds)
            ages = ran.ages
            results[panel][name] = {"ages": ages, "calls": ran.calls, "handled": ran.handled}
            per_call = ran.handled / max(ran.calls, 1)
            rows.append((panel, name, max(ages), ages[-1], verdict(ages), ran.calls, per_call))
    columns = ("lever", "value", "max age s", "age at the end s", "", "handler calls", "records per call")
    print(table(f"Iterator age over {seconds} s, {SHARDS} shards of {RATE} records/s", columns, rows))

    def draw(figure: Any) -> None:
        for axes, (panel, runs) in zip(figure.subplots(2, 2).flat, results.items(), strict=True):
            for name, found in runs.items():
                axes.plot(range(1, seconds + 1), found["ages"], label=name)
            axes.set_title(panel, fontsize=9)
            axes.set_xlabel("seconds")
            axes.set_ylabel("iterator age, s")
            axes.set_yscale("symlog", linthresh=1)
            axes.legend(fontsize=7)

    plot("iterator_age", draw, size=(10, 6.5), docs=options.docs)
    print(f"\nwritten to {save('iterator_age', results)}")


if __name__ == "__main__":
    main()
