"""Enhanced fan-out: the service pushes a shard's records to a registered consumer, 2 MB a second for it alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, EventStreamError, HTTPClientError

from eip.errors import ChannelNotFound, ConnectionLost, TransportError
from eip.streams import Cursor, Page, Position
from eip.transports.aws.kinesis.reading import records_of, starting_at

if TYPE_CHECKING:
    from eip.transports.aws.kinesis.stream import KinesisStream

__all__ = ["FanOutCursor", "consumer_arn"]

_LOOK_AGAIN: Final = 1.0
"""Seconds between looks at a consumer that is being registered, and between attempts to subscribe."""
_ACTIVE_WITHIN: Final = 300


class FanOutCursor(Cursor):
    """Subscribed to a shard, five minutes at a time, for ever; the service pushes what comes."""

    def __init__(self, stream: KinesisStream, shard: str, position: Position, *, group: str) -> None:
        self._stream, self._shard, self._position, self._group = stream, shard, position, group
        self._events: AsyncIterator[Mapping[str, Any]] | None = None
        self._body: Any = None

    async def read(self, limit: int) -> Page:
        """The next event's records; ``limit`` is the service's own."""
        del limit
        if self._events is None:
            await self._subscribe()
            assert self._events is not None
        try:
            event = await anext(self._events, None)
        except (EventStreamError, BotoCoreError, HTTPClientError, OSError, TimeoutError) as error:
            await self.aclose()
            raise ConnectionLost(f"subscription to {self._shard} ended: {type(error).__name__}") from error
        except BaseException:
            await self.aclose()  # cancelled within an event: it comes again with the next subscription
            raise
        if event is None:
            await self.aclose()  # its five minutes are over
            return Page(())
        return self._page(event.get("SubscribeToShardEvent") or {})

    def _page(self, event: Mapping[str, Any]) -> Page:
        received = event.get("Records") or ()
        records = list(records_of(received, self._position))
        continuation = event.get("ContinuationSequenceNumber")
        if received:
            self._position = Position(sequence=received[-1]["SequenceNumber"])
        self._stream.report(self._group, "SubscribeToShardEvent", received)
        ended = bool(event.get("ChildShards")) or ("ContinuationSequenceNumber" in event and not continuation)
        return Page(records, event.get("MillisBehindLatest", 0) / 1000, ended=ended)

    async def _subscribe(self) -> None:
        arn = await consumer_arn(self._stream, self._group)
        while True:
            try:
                answer = await self._stream.call(
                    "SubscribeToShard",
                    named=False,
                    ConsumerARN=arn,
                    ShardId=self._shard,
                    StartingPosition=starting_at(self._position),
                    units=0,
                    retry=False,
                )
            except TransportError as error:
                if "ResourceInUse" not in str(error):
                    raise
                await asyncio.sleep(_LOOK_AGAIN)  # the former subscription ends within five seconds
            else:
                break
        self._body = answer["EventStream"]
        self._events = aiter(self._body)

    async def aclose(self) -> None:
        """End the subscription."""
        body, self._body, self._events = self._body, None, None
        if body is not None:
            with suppress(Exception):  # it is gone either way
                body.close()


async def consumer_arn(stream: KinesisStream, name: str) -> str:
    """The ARN of the registered consumer of that name, made where there is none; waits until it is active."""
    try:
        found = await stream.call("DescribeStreamConsumer", named=False, StreamARN=stream.address, ConsumerName=name)
    except ChannelNotFound:
        await _register(stream, name)
        found = await stream.call("DescribeStreamConsumer", named=False, StreamARN=stream.address, ConsumerName=name)
    for _ in range(_ACTIVE_WITHIN):
        about = found["ConsumerDescription"]
        if about["ConsumerStatus"] == "ACTIVE":
            arn: str = about["ConsumerARN"]
            return arn
        await asyncio.sleep(_LOOK_AGAIN)
        found = await stream.call("DescribeStreamConsumer", named=False, StreamARN=stream.address, ConsumerName=name)
    raise TransportError(f"consumer {name} of {stream.name} does not become active")


async def _register(stream: KinesisStream, name: str) -> None:
    try:
        await stream.call("RegisterStreamConsumer", named=False, StreamARN=stream.address, ConsumerName=name, units=0)
    except TransportError as error:
        if "ResourceInUse" not in str(error):  # another worker was faster
            raise
