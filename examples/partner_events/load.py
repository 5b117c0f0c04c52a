"""Sends many orders, some large, and prints the time and the memory: ``python -m examples.partner_events.load``.

The services run in a process of their own, on the embedded transport. Memory is Linux's VmHWM and VmRSS of it.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from typing import Any, Final

import httpx

from examples.happy_path.client import Process

__all__ = ["MODULE", "send", "settled"]

MODULE: Final = "examples.partner_events"
_LOOK_S: Final = 0.5


async def send(http: httpx.AsyncClient, kind: str, count: int = 1) -> None:
    """Have the partner send events of a kind."""
    (await http.post("/events", json={"kind": kind, "count": count})).raise_for_status()


async def settled(http: httpx.AsyncClient, *, seconds: float = 300.0, **wanted: int) -> dict[str, Any]:
    """Wait until so many events have each status (``_`` for a space), and ``dead`` ones a reason; the last answer."""
    async with asyncio.timeout(seconds):
        while True:
            found: dict[str, Any] = (await http.get("/events")).json()
            counts = {**found["counts"], "dead": len(found["dead"])}
            if all(counts.get(name.replace("_", " "), 0) >= count for name, count in wanted.items()):
                return found
            await asyncio.sleep(_LOOK_S)


async def _measure(service: Process, orders: int, large: int) -> tuple[float, int]:
    async with httpx.AsyncClient(base_url=service.url, timeout=120, trust_env=False) as http:
        await send(http, "contract")
        await send(http, "large order")
        await settled(http, placed=1)
        before, began = service.status("VmRSS"), time.monotonic()
        await asyncio.gather(send(http, "order", orders), send(http, "large order", large))
        await settled(http, placed=1 + orders + large)
        return time.monotonic() - began, before


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.partner_events.load", description=__doc__)
    parser.add_argument("--orders", type=int, default=1000, help="of three lines, at most 1000 (default: 1000)")
    parser.add_argument("--large", type=int, default=100, help="orders of 6,000 lines (default: 100)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Process.running("--state", folder, module=MODULE) as service:
        seconds, before = asyncio.run(_measure(service, options.orders, options.large))
        most = service.status("VmHWM")
    print(f"{options.orders} orders and {options.large} large ones: all placed after {seconds:.1f} s")
    print(f"memory of the service: {before / 1024:.0f} MB before, {most / 1024:.0f} MB at most")


if __name__ == "__main__":
    main()
