"""Enhanced fan-out: the service pushes a shard's records to a registered consumer, 2 MB a second for it alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any, Final

from botocore.exceptions import EventStreamError
from typing_extensions import override

from eip.errors import ChannelNotFound, ConnectionLost, TransportError
from eip.streams import Cursor, Page, Position
from eip.transports.aws._client.errors import error_of
from eip.transports.aws.kinesis.calls import StreamCalls
from eip.transports.aws.kinesis.reading import ReadAhead, checked_position, starting_at

__all__ = ["FanOutCursor", "consumer_arn"]

_LOOK_S: Final = 1.0
"""Seconds between looks at a consumer that is being registered, and between attempts to subscribe."""
_MAX_LOOKS: Final = 300
"""At a consumer that is being registered."""


class FanOutCursor(Cursor):
    """Subscribed to a shard, five minutes at a time, for ever; the service pushes what comes."""

    waits = True

    def __init__(self, stream: StreamCalls, shard: str, position: Position, *, group: str) -> None:
        self._stream, self._shard, self._position, self._group = stream, shard, position, group
        self._channel = f"{stream.name}/{group}"
        self._events: AsyncIterator[Mapping[str, Any]] | None = None
        self._body: Any = None
        self._read_ahead = ReadAhead()
        self._behind = 0.0
        self._ended = False

    @override
    async def read(self, limit: int) -> Page:
        """The next event's records, or what is left of the last one's."""
        if self._read_ahead:
            return self._page(limit)
        if self._events is None:
            await self._subscribe()
            assert self._events is not None
        try:
            event = await anext(self._events, None)
            if event is not None:
                self._take_in(event.get("SubscribeToShardEvent") or {})
        except EventStreamError as error:
            await self.aclose()
            found = error.response.get("Error", {})
            code, text = str(found.get("Code", "")), str(found.get("Message", ""))
            raise error_of("kinesis", code, text, operation="SubscribeToShard", status=500) from error
        except Exception as error:
            await self.aclose()
            raise ConnectionLost(f"subscription to {self._shard} ended: {type(error).__name__}") from error
        except BaseException:
            await self.aclose()  # cancelled within an event: it comes again with the next subscription
            raise
        if event is None:
            await self.aclose()  # its five minutes are over
            return Page((), behind=None)
        return self._page(limit)

    def _take_in(self, event: Mapping[str, Any]) -> None:
        received, behind = event.get("Records") or (), event.get("MillisBehindLatest", 0) / 1000
        self._read_ahead.fill(received, self._position)
        continuation = event.get("ContinuationSequenceNumber")
        if received:
            self._position = Position(sequence=received[-1]["SequenceNumber"])
        self._stream.report(self._group, "SubscribeToShardEvent", received)
        self._behind = behind
        self._ended = bool(event.get("ChildShards")) or ("ContinuationSequenceNumber" in event and not continuation)

    def _page(self, limit: int) -> Page:
        records = self._read_ahead.take(limit)
        return Page(records, self._behind, ended=self._ended and not self._read_ahead)

    async def _subscribe(self) -> None:
        arn = await consumer_arn(self._stream, self._group)
        while True:
            try:
                with checked_position(self._channel, self._shard, self._position):
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
                await asyncio.sleep(_LOOK_S)  # the former subscription ends within five seconds
            else:
                break
        self._body = answer["EventStream"]
        self._events = aiter(self._body)

    @override
    async def aclose(self) -> None:
        """End the subscription."""
        body, self._body, self._events = self._body, None, None
        if body is not None:
            with suppress(Exception):  # it is gone either way
                body.close()


async def consumer_arn(stream: StreamCalls, name: str) -> str:
    """The ARN of the registered consumer of that name, made where there is none; waits until it is active."""
    try:
        found = await stream.call("DescribeStreamConsumer", named=False, StreamARN=stream.address, ConsumerName=name)
    except ChannelNotFound:
        await _register(stream, name)
        found = await stream.call("DescribeStreamConsumer", named=False, StreamARN=stream.address, ConsumerName=name)
    for _ in range(_MAX_LOOKS):
        about = found["ConsumerDescription"]
        if about["ConsumerStatus"] == "ACTIVE":
            arn: str = about["ConsumerARN"]
            return arn
        await asyncio.sleep(_LOOK_S)
        found = await stream.call("DescribeStreamConsumer", named=False, StreamARN=stream.address, ConsumerName=name)
    raise TransportError(f"consumer {name} of {stream.name} does not become active")


async def _register(stream: StreamCalls, name: str) -> None:
    try:
        await stream.call("RegisterStreamConsumer", named=False, StreamARN=stream.address, ConsumerName=name, units=0)
    except TransportError as error:
        if "ResourceInUse" not in str(error):  # another worker was faster
            raise
