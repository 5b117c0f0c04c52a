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
import logging
from typing import Any, Final

import structlog

from benchmarks._ages import RATE, SHARDS, Panels, Setting, draw_ages, measured, plain
from benchmarks._report import plot, save

SLOW: Final = 0.050
"""Seconds of a record where the handler is slow."""

PANELS: Final[Panels] = {
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="40 seconds instead of 120")
    parser.add_argument("--docs", action="store_true", help="write the plot for the documentation too")
    options = parser.parse_args()
    seconds = 40 if options.quick else 120
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    title = f"Iterator age over {seconds} s, {SHARDS} shards of {RATE // SHARDS} records/s"
    results = measured(title, PANELS, seconds)

    def draw(figure: Any) -> None:
        for axes, (panel, runs) in zip(figure.subplots(2, 2).flat, results.items(), strict=True):
            draw_ages(axes, panel, runs)

    plot("iterator_age", draw, size=(10, 6.5), docs=options.docs)
    print(f"\nwritten to {save('iterator_age', plain(results))}")


if __name__ == "__main__":
    main()
