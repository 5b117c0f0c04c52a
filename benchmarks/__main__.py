"""All benchmarks, one after the other, each in a process of its own and with a limit of time.

    python -m benchmarks [--full] [NAME ...]

One that fails or takes too long does not stop the others; the exit code is 1 then. ``--full`` runs them at their full
length instead of ``--quick``.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Final

from benchmarks._report import table

NAMES: Final = (
    "runtime",
    "matching",
    "scaling",
    "scatter_gather",
    "stores",
    "dynamodb",
    "sqs",
    "eventbridge",
    "kinesis",
    "throughput",
    "latency",
    "cost",
    "activemq",
    "rfq_load",
    "iterator_age",
    "stream_levers",
)
MAX_S: Final = {"--quick": 600.0, "--full": 3600.0}
"""Seconds for one benchmark."""
STOP_S: Final = 10.0
"""Seconds to end the servers that a benchmark started, before it is killed."""


def run(name: str, *options: str, max_s: float) -> str:
    """What became of a benchmark: an empty text where it ended well."""
    line = [sys.executable, "-m", f"benchmarks.{name}", *options]
    process = subprocess.Popen(line, start_new_session=True)  # so that all it started can be ended with it
    try:
        code = process.wait(max_s)
    except subprocess.TimeoutExpired:
        return f"stopped after {max_s:g} s"
    finally:
        _end(process)
    return f"failed with exit code {code}" if code else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let it end its servers, then kill what is left of it."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all; {', '.join(NAMES)}")
    parser.add_argument("--full", action="store_true", help="at full length, which takes an hour or more")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no benchmark is named {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    chosen, length = options.names or NAMES, "--full" if options.full else "--quick"
    rows = []
    for number, name in enumerate(chosen, 1):
        print(f"\n== {number} of {len(chosen)}: {name}, at most {MAX_S[length] / 60:g} minutes", flush=True)
        began = time.monotonic()
        problem = run(name, *([] if options.full else ["--quick"]), max_s=MAX_S[length])
        rows.append((name, round(time.monotonic() - began), problem or "done"))
    print(table("All benchmarks; JSON and plots are in benchmarks/results", ("benchmark", "seconds", ""), rows))
    return int(any(row[-1] != "done" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
