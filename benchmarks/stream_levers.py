"""A hot key and its cure, the batch window, shared reads beside fan-out, and scaling down: what each does to a group.

    python -m benchmarks.stream_levers [--quick] [--docs]

In virtual time (`eip.testing`): a measurement of the levers, not of speed. The figures are the same on any machine, but
for which worker takes which shard, and when: their names are random. Hot key, window and scaling down run on the
embedded stream. Reads run through the Kinesis driver on a model of the service with the rates that its documentation
gives: five GetRecords a second and shard for all groups together, answered in 10 ms; pushed records arrive after 70 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from statistics import mean
from typing import Any, Final

import structlog

from benchmarks._ages import RATE, Panels, Ran, Setting, draw_ages, measured, plain
from benchmarks._kinesis_model import KinesisModel
from benchmarks._report import plot, progress, save, table
from eip import Message, clock
from eip.stores import MemoryStore
from eip.streams import BatchConsumer, StreamGroup
from eip.testing import run
from eip.transports.aws.kinesis.log import KinesisLog

KEYS: Final = 1000

_LARGE = Setting(batch_size=10_000, parallelization=10, record=0.020)
_SMALLER = Setting(shards=8, record=0.015)
PANELS: Final[Panels] = {
    "hot key: batch 10,000, factor 10": {
        "even keys": _LARGE,
        "half of all in one key": _LARGE._replace(hot=True),
        "divided by 2": _LARGE._replace(hot=True, sub_keys=2),
        "divided by 10": _LARGE._replace(hot=True, sub_keys=10),
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
    ran = measured(f"Iterator age over {seconds} s, {RATE} records/s", PANELS, seconds)
    reads = _reads((1, 5) if options.quick else (1, 2, 3, 4, 5), seconds // 4)
    plot("stream_levers", lambda figure: _draw(figure, ran, reads), size=(10, 6.5), docs=options.docs)
    print(f"\nwritten to {save('stream_levers', {'panels': plain(ran), 'reads': reads})}")


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
        draw_ages(axes, panel, runs)
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
