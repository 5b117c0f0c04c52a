"""``eip peek``, ``eip tail`` and ``eip purge``: a look at a queue's messages, and the end of them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Final

import typer

from eip._ids import new_id
from eip.channels import Queue
from eip.cli._common import console, errors, print_line, print_rows, said
from eip.cli._messages import COLUMNS, plain
from eip.cli._targets import JsonOption, Place, Target, with_target
from eip.errors import ConfigurationError
from eip.message import Message
from eip.topology import SubscriptionSpec, TopicSpec, Topology

__all__ = ["peek", "purge", "tail"]

_MAX_SEEN: Final = 100_000
_TAIL_WINDOW: Final = 1000
"""Messages that a look at a queue takes in."""


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
            _warn_of_traces(queue)
            return list(await queue.peek(limit))

    with errors():
        found = asyncio.run(run())
    print_rows(map(plain, found), COLUMNS, title=channel, as_json=as_json)


@with_target()
def tail(
    *,
    channel: Annotated[str, typer.Argument(help="topic/NAME, or a queue's name.")],
    limit: Annotated[int | None, typer.Option("--limit", "-n", help="End after so many messages.", min=1)] = None,
    interval: Annotated[float, typer.Option(help="Seconds between looks at a queue.", min=0.1)] = 2.0,
    as_json: JsonOption = False,
    at: Target,
) -> None:
    """Show messages as they come, until interrupted, without taking them from anyone.

    Of a topic by a subscription of its own, which is removed at the end; of a queue by looks at its first messages, so
    that one that a consumer takes in between is not seen.
    """

    async def run() -> None:
        async with at.connected() as place:
            count = 0
            async with aclosing(_followed(place, channel, interval)) as messages:
                async for message in messages:
                    if as_json or not console.is_terminal:
                        print_line(plain(message))
                    else:
                        console.print(plain(message))
                    count += 1
                    if count == limit:
                        return

    with errors():
        asyncio.run(run())


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
            with said.status(f"purging {queue.name}"):
                removed = await queue.purge()
            said.print(f"purged {queue.name}" if removed is None else f"removed {removed:,} messages of {queue.name}")

    with errors():
        asyncio.run(run())


def _warn_of_traces(queue: Queue) -> None:
    if queue.peek_is_receive:
        said.print(f"{queue.name}: each look counts as a receive of the messages that it shows", style="yellow")


def _followed(place: Place, channel: str, interval: float) -> AsyncGenerator[Message[Any], None]:
    info = place.info(channel)
    if info.kind == "topic" and info.subscription is None:
        return _of_topic(place, info.name)
    if info.kind in ("bus", "stream"):
        raise ConfigurationError(f"{info}: tail follows topics and queues; add a rule or a consumer for it")
    return _of_queue(place.queue(channel), interval)


async def _of_topic(place: Place, name: str) -> AsyncGenerator[Message[Any], None]:
    spec = SubscriptionSpec(name, f"tail-{new_id()[:8]}", dead_letters=False)
    await Topology(TopicSpec(name), spec).apply(place.transport)
    topic: Any = place.transport.topic(name)
    source = topic.subscription(spec.name)
    queue: Queue = source if isinstance(source, Queue) else source.queue
    try:
        async with source.receiver(capacity=10) as receiver:
            async for delivery in receiver:
                await delivery.ack()
                yield delivery.message
    finally:
        if hasattr(topic, "unsubscribe"):
            await _unsubscribe(topic, spec.name, queue)
        await place.transport.remove_queue(queue.name)


async def _unsubscribe(topic: Any, name: str, queue: Queue) -> None:
    """End the subscription: by name in memory, by queue on SNS."""
    ended = topic.unsubscribe(queue if asyncio.iscoroutinefunction(topic.unsubscribe) else name)
    if asyncio.iscoroutine(ended):
        await ended


async def _of_queue(queue: Queue, interval: float) -> AsyncGenerator[Message[Any], None]:
    _warn_of_traces(queue)
    seen: OrderedDict[str, None] = OrderedDict()
    while True:
        for message in await queue.peek(_TAIL_WINDOW if not queue.peek_is_receive else 10):
            if message.id not in seen:
                yield message
            seen[message.id] = None
            seen.move_to_end(message.id)
        while len(seen) > _MAX_SEEN:
            seen.popitem(last=False)
        await asyncio.sleep(interval)
