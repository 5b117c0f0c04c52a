"""``eip peek``, ``eip tail`` and ``eip purge``: a look at a queue's messages, and the end of them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Annotated, Any

import typer

from eip.cli._common import console, errors, print_line, print_rows, run_with_cleanup, stderr
from eip.cli._messages import COLUMNS, plain
from eip.cli._tails import followed, warn_of_traces
from eip.cli._targets import JsonOption, Target, with_target
from eip.message import Message

__all__ = ["peek", "purge", "tail"]


@with_target()
def peek(
    *,
    channel: Annotated[str, typer.Argument(help="A queue's name, or topic/NAME/SUBSCRIPTION.")],
    limit: Annotated[int, typer.Option("--limit", "-n", help="Messages at most.", min=1)] = 10,
    as_json: JsonOption = False,
    at: Target,
) -> None:
    """Show the first messages of a queue, which stay in it.

    On SQS each look counts as a receive, as there is no other way: a message that was received too often goes to the
    dead letters. ActiveMQ's are not touched.
    """

    async def run() -> list[Message[Any]]:
        async with at.connected() as place:
            queue = place.queue(channel)
            warn_of_traces(queue)
            return list(await queue.peek(limit))

    with errors():
        found = asyncio.run(run())
    print_rows(map(plain, found), COLUMNS, title=channel, as_json=as_json)


@with_target()
def tail(
    *,
    channel: Annotated[str, typer.Argument(help="topic/NAME, bus/NAME, stream/NAME, or a queue's name.")],
    limit: Annotated[int | None, typer.Option("--limit", "-n", help="Maximum number of messages.", min=1)] = None,
    interval: Annotated[float, typer.Option(help="Seconds between looks at a queue.", min=0.1)] = 2.0,
    as_json: JsonOption = False,
    at: Target,
) -> None:
    """Show messages as they come, until interrupted, without taking them from anyone.

    Of a topic by a subscription of its own, of a bus by a rule of its own, both removed at the end; of a stream by
    reading its shards from now on; of a queue by looks at its first messages, so that one that a consumer takes in
    between is not seen.
    """

    async def run() -> None:
        async with at.connected() as place:
            count = 0
            async with aclosing(followed(place, channel, interval)) as messages:
                async for message in messages:
                    if as_json or not console.is_terminal:
                        print_line(plain(message))
                    else:
                        console.print(plain(message))
                    count += 1
                    if count == limit:
                        return

    with errors():
        run_with_cleanup(run())


@with_target()
def purge(
    *,
    channel: Annotated[str, typer.Argument(help="A queue's name, or topic/NAME/SUBSCRIPTION.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    at: Target,
) -> None:
    """Remove all messages of a queue, for good; asks before."""

    async def run() -> None:
        async with at.connected() as place:
            queue = place.queue(channel)
            depth = await queue.depth()
            count = "all" if depth is None else f"about {sum(depth.values()):,}"
            if not yes:
                typer.confirm(f"Remove {count} messages of {queue.name} for good?", abort=True, err=True)
            with stderr.status(f"purging {queue.name}"):
                removed = await queue.purge()
            stderr.print(f"purged {queue.name}" if removed is None else f"removed {removed:,} messages of {queue.name}")

    with errors():
        asyncio.run(run())
