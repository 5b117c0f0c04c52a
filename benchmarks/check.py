"""Has anything become slower? CPU of the hot paths as ratios to a floor of the same run, beside the recorded ratios.

    python -m benchmarks.check              # compare with benchmarks/recorded.json; exit code 1 where one is exceeded
    python -m benchmarks.check --record     # renew the record, on a quiet machine, and commit it with the reason

Machines differ, and so do their busy minutes; a ratio to the same Python work, measured in turns with it, differs less.
The floor makes objects, looks up dictionaries, calls functions and encodes JSON. Each figure is the least of several
turns: what disturbs only adds. What seems slower is measured again before it counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import sqs_stub
from benchmarks._hot_paths import (
    Case,
    aggregates,
    bus,
    consume,
    floor,
    frames,
    message,
    rules,
    scatter_gather,
    sqs,
    store,
)
from benchmarks._report import environment, progress, table

RECORD = Path(__file__).parent / "recorded.json"
TOLERANCE = 1.3
"""How much more than recorded fails: noise on shared machines is up to a quarter."""
KERNEL_TOLERANCE = 1.6
"""The same for SQS and SQLite: a busy machine slows the kernel's work, of sockets and files, more than Python's."""
TURNS = 5
MORE_TURNS = 15
"""At most, for what seems slower."""


def measure(recorded: Mapping[str, float]) -> dict[str, float]:
    """Each case as a ratio to the floor."""
    with sqs_stub.running() as url:
        cases: dict[str, Case] = {
            "message: make, seal, read": message,
            "memory: send to ack": consume,
            "memory, FIFO: send to ack": lambda: consume(groups=50),
            "memory: bus, one rule": bus,
            "matching: 3,000 rules": rules,
            "scatter-gather: ten replies": scatter_gather,
            "SQLite: handle once": store,
            "ActiveMQ: read a message": frames,
            "Kinesis: aggregate and back": aggregates,
            "SQS: send, consume, delete": lambda: sqs(url),
        }
        return in_turns(cases, floor, recorded)


def in_turns(cases: dict[str, Case], below: Case, recorded: Mapping[str, float]) -> dict[str, float]:
    """The least of each case as a ratio to the least of the floor; what seems slower gets more turns."""
    least, least_below = dict.fromkeys(cases, float("inf")), float("inf")
    chosen, ratios = cases, {}
    for turn in range(TURNS + MORE_TURNS):
        progress(f"turn {turn + 1} of {TURNS}" if turn < TURNS else f"again: {', '.join(chosen)}")
        least_below = min(least_below, asyncio.run(below()))  # type: ignore[arg-type]
        for name, case in chosen.items():
            least[name] = min(least[name], asyncio.run(case()))  # type: ignore[arg-type]
        ratios = {name: each / least_below for name, each in least.items()}
        if turn + 1 >= TURNS:
            chosen = {name: case for name, case in cases.items() if _is_slower(name, ratios[name], recorded)}
            if not chosen:
                break
    return ratios


def _is_slower(name: str, ratio: float, recorded: Mapping[str, float]) -> bool:
    tolerance = KERNEL_TOLERANCE if name.startswith(("SQS", "SQLite")) else TOLERANCE
    return ratio > tolerance * recorded.get(name, float("inf"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="renew benchmarks/recorded.json")
    options = parser.parse_args()
    recorded: dict[str, float] = {} if options.record else json.loads(RECORD.read_text())["ratios"]
    ratios = measure(recorded)
    if options.record:
        record: dict[str, Any] = {
            "environment": environment(),
            "ratios": {name: round(each, 2) for name, each in ratios.items()},
        }
        RECORD.write_text(json.dumps(record, indent=2) + "\n")
        recorded = record["ratios"]
    rows = [
        (
            name,
            ratio,
            recorded.get(name, ""),
            ratio / recorded[name] if name in recorded else "",
            _verdict(name, ratio, recorded),
        )
        for name, ratio in ratios.items()
    ]
    title = f"CPU beside the floor; fails from {TOLERANCE:g} times the record, SQS and SQLite from {KERNEL_TOLERANCE:g}"
    print(table(title, ("path", "times the floor", "recorded", "now ÷ recorded", ""), rows))
    return int(any(row[-1] == "SLOWER" for row in rows))


def _verdict(name: str, ratio: float, recorded: Mapping[str, float]) -> str:
    if name not in recorded:
        return "not recorded"
    return "SLOWER" if _is_slower(name, ratio, recorded) else ""


if __name__ == "__main__":
    sys.exit(main())
