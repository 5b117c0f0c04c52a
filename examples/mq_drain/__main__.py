"""Drains a queue of plain texts: ``python -m examples.mq_drain --help``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from uuid import uuid4

from eip import Message
from eip.codec import TextCodec
from eip.errors import EipError
from eip.testing import run
from eip.transports.memory import MemoryTransport
from examples.mq_drain.console import put_texts
from examples.mq_drain.draining import Drained, drain

_API_S = 2.0
"""Seconds that the handler of the simulation takes, whatever it is given."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.mq_drain", description="A queue, drained in batches.")
    parser.add_argument("--messages", type=int, default=100_000, help="in the queue (default: 100000)")
    parser.add_argument("--batch", type=int, default=100, help="messages in a call (default: 100)")
    parser.add_argument("--broker", metavar="URL", help="stomp://user:password@host:port; default: a simulation")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds on a broker (default: 600)")
    options = parser.parse_args()
    if options.messages < 1 or options.batch < 1 or options.timeout <= 0:
        parser.error("--messages, --batch and --timeout must be more than 0")
    return options


def simulated(messages: int, batch: int, at_once: int) -> Drained:
    """Drain a queue in memory, in virtual time, with a handler of two seconds."""

    async def scenario() -> Drained:
        async with MemoryTransport(capacity=messages) as memory:
            queue = memory.queue("texts", visibility=60)
            for first in range(0, messages, 1000):
                numbers = range(first, min(first + 1000, messages))
                await queue.send(*(Message(f"Enter some text here, {number}") for number in numbers))
            return await drain(queue, messages, lambda _: asyncio.sleep(_API_S), batch=batch, at_once=at_once)

    return run(scenario())


async def on_broker(options: argparse.Namespace) -> Drained:
    """Fill a queue of a broker as its console does, and drain it with a handler that takes no time."""
    from eip.transports.activemq import ActiveMQTransport  # noqa: PLC0415 - the extra `activemq`

    name = f"texts-{uuid4().hex[:8]}"
    async with asyncio.timeout(options.timeout):
        await put_texts(options.broker, name, options.messages)
        async with ActiveMQTransport(options.broker) as mq:
            queue = mq.queue(name, codec=TextCodec())
            return await drain(queue, options.messages, lambda _: asyncio.sleep(0), batch=options.batch)


def main() -> int:
    options = _arguments()
    logging.basicConfig(level=logging.ERROR)
    try:
        if options.broker:
            _print("on the broker, a handler that takes no time", [asyncio.run(on_broker(options))])
        else:
            found = [simulated(options.messages, options.batch, at_once) for at_once in (1, 2)]
            _print(f"simulated, a handler of {_API_S:g} s", found)
    except TimeoutError:
        print(f"Not done within {options.timeout:g} s", file=sys.stderr)
        return 1
    except (EipError, OSError) as error:
        print(f"Cannot run: {error}", file=sys.stderr)
        return 1
    return 0


def _print(title: str, rows: list[Drained]) -> None:
    print(f"{title}:")
    print("  messages   calls  at once   seconds")
    for each in rows:
        print(f"  {each.messages:8}  {each.calls:6}  {each.most:7}  {each.seconds:8.1f}")


if __name__ == "__main__":
    sys.exit(main())
