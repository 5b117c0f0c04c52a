"""Uploads many large photos at once, and prints the time and the memory: ``python -m examples.happy_path.load``.

The service runs in a process of its own, on the embedded transport. Memory is Linux's VmHWM and VmRSS of that process.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from dataclasses import dataclass

import httpx

from examples.happy_path.client import Client, Process
from examples.happy_path.samples import jpeg, photo

__all__ = ["Figures", "measure"]


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run."""

    statuses: list[str]
    sizes: list[int]
    """Bytes of the photos that were uploaded in turn."""
    seconds: float
    before: int
    """Kilobytes of memory after the first photo, which was alone."""
    most: int
    """Kilobytes of memory at most."""


async def measure(service: Process, photos: int) -> Figures:
    """Upload photos of 3 to 9 MB at once, and wait for what becomes of each."""
    kinds = (("park", 90), ("sky", 96), ("park", 98))
    data = [jpeg(photo(kind, width=4000, height=3000), quality=quality) for kind, quality in kinds]
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=service.url, timeout=120, trust_env=False, limits=limits) as http:
        client = Client(http)

        async def one(number: int) -> str:
            return str((await client.outcome(await client.upload(data[number % len(data)])))["status"])

        await one(2)
        before, began = service.status("VmRSS"), time.monotonic()
        statuses = await asyncio.gather(*map(one, range(photos)))
        seconds = time.monotonic() - began
    return Figures(statuses, [len(each) for each in data], seconds, before, service.status("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.happy_path.load", description=__doc__)
    parser.add_argument("--photos", type=int, default=50, help="at once (default: 50)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Process.running("--state", folder) as service:
        figures = asyncio.run(measure(service, options.photos))
    sizes = ", ".join(f"{each / 1e6:.1f}" for each in figures.sizes)
    published = figures.statuses.count("published")
    print(f"{options.photos} photos of {sizes} MB at once: {published} published after {figures.seconds:.1f} s")
    print(f"memory of the service: {figures.before / 1024:.0f} MB before, {figures.most / 1024:.0f} MB at most")


if __name__ == "__main__":
    main()
