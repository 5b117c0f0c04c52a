"""Following channels without taking messages from anyone: topics, buses, streams and queues."""

from __future__ import annotations

import asyncio
import inspect
from collections import OrderedDict
from collections.abc import AsyncGenerator
from typing import Any, Final

from eip._ids import new_id
from eip.channels import Queue, Source
from eip.cli._common import stderr
from eip.cli._targets import Place
from eip.errors import ChannelNotFound, ConfigurationError
from eip.message import Message
from eip.stores import MemoryStore
from eip.topology import BusSpec, RuleSpec, SubscriptionSpec, TopicSpec, Topology

__all__ = ["followed", "warn_of_traces"]

_MAX_SEEN: Final = 100_000
_TAIL_WINDOW: Final = 1000
"""Messages that a look at a queue takes in."""


def followed(place: Place, channel: str, interval: float) -> AsyncGenerator[Message[Any], None]:
    """The messages of a channel as they come; what is made for that is removed when the generator is closed.

    Args:
        place: the open transport.
        channel: a queue's name, ``topic/NAME``, ``bus/NAME`` or ``stream/NAME``.
        interval: seconds between looks at a queue.
    """
    info = place.info(channel)
    if info.subscription is not None or info.kind == "queue":
        return _of_queue(place.queue(channel), interval)
    if info.kind == "stream":
        return _of_stream(place, info.name)
    name = f"tail-{new_id()[:8]}"
    if info.kind == "bus":
        rule = RuleSpec(info.name, name, dead_letters=False)
        return _of_subscription(place, BusSpec(info.name), rule)
    return _of_subscription(place, TopicSpec(info.name), SubscriptionSpec(info.name, name, dead_letters=False))


def warn_of_traces(queue: Queue) -> None:
    """Tell people where a look is a receive."""
    if queue.peek_is_receive:
        stderr.print(f"{queue.name}: each look counts as a receive of the messages that it shows", style="yellow")


async def _of_subscription(
    place: Place, spec: TopicSpec | BusSpec, subscription: SubscriptionSpec | RuleSpec
) -> AsyncGenerator[Message[Any], None]:
    """Follow a topic or bus by a subscription or rule of its own, with its own queue."""
    known = (each for each in place.topology.resources if type(each) is type(spec) and each.name == spec.name)
    topology = Topology(next(known, spec), subscription)
    await _check_unchanged(place, topology, spec)
    await topology.apply(place.transport)
    channel: Any = place.sender(f"{'topic' if isinstance(spec, TopicSpec) else 'bus'}/{spec.name}")
    source = channel.subscription(subscription.name)
    queue: Queue = source if isinstance(source, Queue) else source.queue
    try:
        async for message in _received(source):
            yield message
    finally:
        if hasattr(channel, "unsubscribe"):
            await _unsubscribe(channel, subscription.name, queue)
        await place.transport.remove_queue(queue.name)


async def _check_unchanged(place: Place, topology: Topology, spec: TopicSpec | BusSpec) -> None:
    """A look must not make or change a topic or bus that is not declared here."""
    for step in (await topology.plan(place.transport)).steps:
        if step.name == spec.name and step.action == "create":
            raise ChannelNotFound(f"{step.kind} {spec.name} does not exist")
        if step.name == spec.name and step.action == "change":
            raise ConfigurationError(
                f"{step.kind} {spec.name} has settings of its own ({step.detail}); give --app, which declares it"
            )


async def _unsubscribe(channel: Any, name: str, queue: Queue) -> None:
    """End the subscription: by queue on SNS, elsewhere by name."""
    by_queue = "queue" in inspect.signature(channel.unsubscribe).parameters
    ended = channel.unsubscribe(queue if by_queue else name)
    if inspect.isawaitable(ended):
        await ended


async def _of_stream(place: Place, name: str) -> AsyncGenerator[Message[Any], None]:
    """Follow a stream as a group of its own, whose leases are kept here."""
    stream: Any = place.sender(f"stream/{name}")
    group = stream.group(f"tail-{new_id()[:8]}", start="latest", leases=MemoryStore())
    async for message in _received(group):
        yield message


async def _received(source: Source) -> AsyncGenerator[Message[Any], None]:
    async with source.receiver(capacity=10) as receiver:
        async for delivery in receiver:
            await delivery.ack()
            yield delivery.message


async def _of_queue(queue: Queue, interval: float) -> AsyncGenerator[Message[Any], None]:
    warn_of_traces(queue)
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
