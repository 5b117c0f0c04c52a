"""What every benchmark shares: the environment, a readable table, a JSON file, progress."""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
IMAGES = Path(__file__).parent.parent / "docs" / "images"
"""What the pages show; written by ``--docs``."""


def environment(*packages: str) -> dict[str, Any]:
    """Where and with what it was measured."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "commit": _commit(),
        "packages": {name: found for name in ("pydantic", "orjson", *packages) if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # a peer that this Python cannot have
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows as aligned text."""
    cells = [list(columns), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join(["", title, lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _text(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.2f}" if abs(cell) >= 0.1 or not cell else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def save(name: str, results: Any, *packages: str) -> Path:
    """Write the results and the environment as JSON; returns the path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"environment": environment(*packages), "results": results}, indent=2) + "\n")
    return path


def plot(name: str, draw: Callable[[Any], None], *, size: tuple[float, float] = (8, 4.5), docs: bool = False) -> None:
    """Let ``draw`` fill a figure, and write it as SVG and PNG beside the results; with ``docs`` for the pages too.

    Without matplotlib there is none; the table says the same.
    """
    try:
        import matplotlib as mpl  # noqa: PLC0415 - not there for everyone
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        progress("no plots: pip install matplotlib")
        return
    RESULTS.mkdir(exist_ok=True)
    # Text stays text and ids stay the same, so that files are small and their changes can be read.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        for folder in (RESULTS, IMAGES) if docs else (RESULTS,):
            folder.mkdir(exist_ok=True)
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
        figure.savefig(RESULTS / f"{name}.png", dpi=110)


def bars(axes: Any, names: Sequence[str], values: Sequence[float], *, unit: str, log: bool = True) -> None:
    """Horizontal bars with their values, the first on top."""
    drawn = axes.barh(list(names)[::-1], list(values)[::-1], color="tab:blue")
    axes.bar_label(drawn, [_text(value) for value in list(values)[::-1]], padding=3, fontsize=8)
    if log:
        axes.set_xscale("log")
    axes.set_xlabel(unit)
    axes.margins(x=0.18)
    axes.spines[["top", "right"]].set_visible(False)


class Stopwatch:
    """Wall and CPU time of the work itself: started once a contender is connected, stopped before it closes."""

    def __init__(self) -> None:
        self._wall = self._cpu = 0.0
        self.seconds = self.cpu = 0.0
        """Of the last run."""

    def start(self) -> None:
        """The set-up is over."""
        gc.collect()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """The work is done; only the first call after `start` counts."""
        if self._wall:
            self.seconds, self.cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
            self._wall = 0.0


watch = Stopwatch()
"""The one of this process: contenders take turns."""


def progress(text: str) -> None:
    """Say what is being measured, on the error stream."""
    print(f"  {text} ...", file=sys.stderr, flush=True)


class Figures:
    """The runs of one contender, or of one store."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.cpu: list[float] = []

    def add(self, count: int, seconds: float, cpu: float) -> None:
        self.rates.append(count / seconds)
        self.cpu.append(cpu / count * 1e6)

    @property
    def row(self) -> tuple[float, float]:
        return statistics.median(self.rates), statistics.median(self.cpu)

    @property
    def spread(self) -> str:
        """Of the CPU per message: the least and the most."""
        return spread(self.cpu)

    def plain(self) -> dict[str, list[float]]:
        """For JSON: every run."""
        return {"per_second": self.rates, "cpu_microseconds": self.cpu}


def spread(figures: Sequence[float]) -> str:
    """The least and the most."""
    return f"{_text(min(figures))}-{_text(max(figures))}"
