"""The analytics service: every event, ten at a time, as JSON lines in object storage, partitioned by date."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from typing import Any, Final

import structlog
from pydantic import TypeAdapter

from eip import Consumer, Message, clock
from eip.codec import validate_json
from eip.errors import DecodeError, StoreError
from eip.limits import KIB
from eip.patterns.batching import MessagesFailed, batched
from examples.job_events.channels import Channels
from examples.job_events.lake import Lake, Line
from examples.job_events.model import JobEvent

__all__ = ["Analytics", "LakeWriter"]

_log = structlog.get_logger("examples.job_events")

_EVENT: Final[TypeAdapter[JobEvent]] = TypeAdapter(JobEvent)
_MOST: Final = 300 * KIB
"""Bytes of the lines of one batch: what is noted of it must fit an item of DynamoDB."""


class LakeWriter:
    """Writes events as lines of a lake: what the service and the Lambda function do.

    Args:
        lake: where the lines go.
    """

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.lag = 0.0
        """Seconds from the commit in the database to the object, of the latest event."""

    async def write(self, messages: Sequence[Message[Any]]) -> None:
        """Write the events of a batch; raises `MessagesFailed` for those that are none."""
        lines: list[Line] = []
        unreadable: dict[str, Exception] = {}
        for message in messages:
            try:
                event = validate_json(_EVENT, message.encode())
            except DecodeError as error:
                unreadable[message.id] = error
            else:
                lines.append(Line(event.id, f"{event.occurred_at:%Y-%m-%d}", event.model_dump_json()))
                self.lag = clock.now() - event.occurred_at.timestamp()
        for part in _parts(lines):
            await self.lake.add(secrets.token_hex(16), part)
        if unreadable:
            raise MessagesFailed(unreadable)


class Analytics:
    """A service, see `eip.runtime.service.Service`.

    Args:
        channels: its queue is `Channels.analytics`.
        lake: where the lines go.
        batch: events written together.
        window: seconds that an event waits for its batch to fill.
        concurrency: events in the works, over all batches.
        options: of the `Consumer`.
    """

    def __init__(
        self,
        channels: Channels,
        lake: Lake,
        *,
        batch: int = 10,
        window: float = 0.1,
        concurrency: int = 100,
        **options: Any,
    ) -> None:
        self.lake, self._writer = lake, LakeWriter(lake)
        handler = batched(batch, window)(self._writer.write)
        self.consumer = Consumer(channels.analytics, handler, concurrency=concurrency, name="analytics", **options)

    @property
    def lag(self) -> float:
        """Seconds from the commit in the database to the object, of the latest event."""
        return self._writer.lag

    async def run(self) -> None:
        """Write until `stop`; finish what processes before this one began."""
        async with asyncio.TaskGroup() as tasks:
            keeper = tasks.create_task(self._take_over())
            consumer = tasks.create_task(self.consumer.run())
            await asyncio.wait([consumer])
            keeper.cancel()

    async def stop(self) -> None:
        """Let `run` drain and return."""
        await self.consumer.stop()

    async def _take_over(self) -> None:
        while True:
            try:
                finished = await self.lake.take_over()
                if finished:
                    _log.info("batches_taken_over", count=finished)
            except StoreError as error:
                _log.warning("take_over_failed", error=str(error))
            await asyncio.sleep(self.lake.takeover)


def _parts(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """The lines in runs whose size a store takes."""
    part: list[Line] = []
    size = 0
    for line in lines:
        if part and size + len(line.text.encode()) > _MOST:
            yield part
            part, size = [], 0
        part.append(line)
        size += len(line.text.encode())
    if part:
        yield part
