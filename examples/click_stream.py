"""A click stream with two groups: one fast, one slow, neither waits for the other.

    python -m examples.click_stream

The fast group counts views per page, one message at a time. The slow one writes sessions to a warehouse that takes a
second a batch, so it reads larger batches, two of a shard at once, each user's clicks in order. One click is broken: it
is found by halving its batch, and put aside with the place where it is in the stream. Here the stream is in this
process; with `AwsTransport` in place of `MemoryTransport` it is one of Kinesis, and nothing else changes.

Prints:

    views: {'/': 150, '/basket': 150, '/pay': 150, '/search': 149}
    the slow group is still behind: True
    sessions: 20 users, 599 clicks, in order: True
    in batches of many: True
    put aside: click 333, ValueError: a click without a page
    to be found in shardId-000000000000 at 334
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Sequence

import structlog

from eip import Backoff, Consumer, Message, running
from eip.streams import BatchConsumer
from eip.transports.memory import MemoryTransport

USERS, CLICKS = 20, 600
PAGES = ("/", "/search", "/basket", "/pay")


async def main() -> None:
    async with MemoryTransport() as transport:
        clicks, broken = transport.stream("clicks", shards=2), transport.queue("broken-clicks")

        views: Counter[str] = Counter()
        counted = asyncio.Event()

        async def count(click: Message) -> None:
            views[click.body["page"]] += 1
            if views.total() == CLICKS:
                counted.set()

        sessions: defaultdict[str, list[int]] = defaultdict(list)
        batches = 0
        stored = asyncio.Event()

        async def store(batch: Sequence[Message]) -> None:
            nonlocal batches
            if any(click.body["page"] is None for click in batch):
                raise ValueError("a click without a page")
            await asyncio.sleep(0.05)  # the warehouse
            batches += 1
            for click in batch:
                sessions[click.group_id or ""].append(click.body["number"])
            if sum(map(len, sessions.values())) == CLICKS - 1:
                stored.set()

        fast = Consumer(clicks.group("views"), count)
        slow = BatchConsumer(
            clicks.group("sessions"),
            store,
            batch_size=100,
            batch_window=0.2,
            parallelization=2,
            retry=Backoff(base=0.01, cap=0.01, max_attempts=2),
            on_failure=broken,
        )
        async with running(fast, slow):
            for number in range(CLICKS):
                page = None if number == 333 else PAGES[number % len(PAGES)]
                await clicks.send(Message({"number": number, "page": page}, group_id=f"user-{number % USERS}"))
            await counted.wait()
            behind = CLICKS - sum(map(len, sessions.values()))
            print(f"views: {dict(sorted((page, seen) for page, seen in views.items() if page))}")
            print(f"the slow group is still behind: {behind > 0}")
            await stored.wait()

        in_order = all(numbers == sorted(numbers) for numbers in sessions.values())
        print(f"sessions: {len(sessions)} users, {sum(map(len, sessions.values()))} clicks, in order: {in_order}")
        print(f"in batches of many: {batches < CLICKS / 10}")
        (aside,) = broken.store.messages()
        print(f"put aside: click {aside.body['number']}, {aside.headers['dead-letter-reason']}")
        print(f"to be found in {aside.headers['shard']} at {aside.headers['sequence-number']}")


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    asyncio.run(main())
