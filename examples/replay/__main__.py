"""Hydrates a test environment, and puts a new feature under load: ``python -m examples.replay --help``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from eip import Transport
from eip.errors import EipError
from eip.transports.memory import MemoryTransport
from examples.replay.hydrating import hydrate
from examples.replay.loading import load

_PARTS: Final = ("hydrate", "load")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.replay", description="An archive, replayed to one rule.")
    parser.add_argument("part", nargs="?", choices=_PARTS, help="default: both")
    parser.add_argument("--orders", type=int, default=2000, help="of the past (default: 2000)")
    parser.add_argument("--transport", choices=("memory", "aws"), default="memory", help="default: memory")
    parser.add_argument("--endpoint-url", metavar="U", help="of AWS, e.g. of a local emulator")
    parser.add_argument("--region", default="us-east-1", help="of AWS (default: us-east-1)")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for each part (default: 600)")
    options = parser.parse_args()
    if options.orders < 1 or options.timeout <= 0:
        parser.error("--orders and --timeout must be more than 0")
    return options


@asynccontextmanager
async def _transport(options: argparse.Namespace) -> AsyncIterator[Transport]:
    if options.transport == "memory":
        async with MemoryTransport() as memory:
            yield memory
        return
    from eip.transports.aws import AwsTransport  # noqa: PLC0415 - the extra `aws`

    async with AwsTransport(region=options.region, endpoint_url=options.endpoint_url) as aws:
        yield aws


async def _hydrate(options: argparse.Namespace) -> bool:
    print("A test environment is hydrated:")
    async with _transport(options) as transport:
        found = await hydrate(transport, options.orders)
    print(f"  production: {found.events} events of {found.orders} orders, {found.invoices} invoices")
    print(f"  the test environment before: {found.before} orders")
    print(f"  replay {found.status.name} to the rule {found.status.rules[0]}: {found.status.state}")
    print(f"  the test environment has the orders of production: {'yes' if found.same else 'NO'}")
    print(f"  replayed events that production saw: {found.seen_by_production}")
    return found.same


async def _load(options: argparse.Namespace) -> bool:
    print("A new feature is put under load from history:")
    async with _transport(options) as transport:
        loads = await load(transport, options.orders)
    print("  at once  orders/s  seconds  waiting at most  seen by production")
    for each in loads:
        row = f"  {each.concurrency:7}  {each.rate:8.0f}  {each.seconds:7.2f}  {each.backlog:15}"
        print(f"{row}  {each.seen_by_production:18}")
    return True


async def _main(options: argparse.Namespace) -> bool:
    parts = {"hydrate": _hydrate, "load": _load}
    done = True
    for name in (options.part,) if options.part else _PARTS:
        async with asyncio.timeout(options.timeout):
            done &= await parts[name](options)
    return done


def main() -> int:
    options = _arguments()
    logging.basicConfig(level=logging.ERROR)
    try:
        return 0 if asyncio.run(_main(options)) else 1
    except TimeoutError:
        print(f"Not done within {options.timeout:g} s", file=sys.stderr)
    except (EipError, OSError) as error:
        print(f"Cannot run: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
