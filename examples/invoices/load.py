"""Scans many invoices at once, and prints the time and the memory: ``python -m examples.invoices.load``.

The service runs in a process of its own, on the embedded transport; a job of the stand-in takes half a second. Memory
is Linux's VmHWM and VmRSS of that process.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import httpx

from examples.happy_path.client import Process
from examples.invoices.layouts import LAYOUTS

__all__ = ["MODULE", "Figures", "measure", "outcomes"]

MODULE: Final = "examples.invoices"
_LOOK_S: Final = 1.0
_SETTLED: Final = ("Approved for Payment", "Pending Review")


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run."""

    statuses: Counter[str]
    seconds: float
    before: int
    """Kilobytes of memory after the first scan, which was alone."""
    most: int
    """Kilobytes of memory at most."""


async def outcomes(http: httpx.AsyncClient, count: int, *, seconds: float = 600.0) -> list[dict[str, Any]]:
    """Wait until so many invoices are approved or pending; all that are known."""
    async with asyncio.timeout(seconds):
        while True:
            found: list[dict[str, Any]] = (await http.get("/invoices", params={"limit": 1000})).json()
            if sum(each["stage"] in _SETTLED for each in found) >= count:
                return found
            await asyncio.sleep(_LOOK_S)


async def measure(service: Process, scans: int) -> Figures:
    """Scan the layouts in turn, and wait for what becomes of each."""
    names = list(LAYOUTS)
    async with httpx.AsyncClient(base_url=service.url, timeout=120, trust_env=False) as http:

        async def one(number: int) -> None:
            (await http.post("/scans", json={"layout": names[number % len(names)]})).raise_for_status()

        await one(0)
        await outcomes(http, 1)
        before, began = service.status("VmRSS"), time.monotonic()
        await asyncio.gather(*map(one, range(scans)))
        found = await outcomes(http, scans + 1)
        seconds = time.monotonic() - began
    return Figures(Counter(each["stage"] for each in found), seconds, before, service.status("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.invoices.load", description=__doc__)
    parser.add_argument("--scans", type=int, default=200, help="at once, at most 999 (default: 200)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Process.running("--state", folder, module=MODULE) as service:
        figures = asyncio.run(measure(service, options.scans))
    counts = ", ".join(f"{count} {status}" for status, count in figures.statuses.most_common())
    print(f"{options.scans} scans at once, after one: {counts}; after {figures.seconds:.1f} s")
    print(f"memory of the service: {figures.before / 1024:.0f} MB before, {figures.most / 1024:.0f} MB at most")


if __name__ == "__main__":
    main()
