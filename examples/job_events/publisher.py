"""The anti-corruption service: reads what changed in the database and publishes what that means.

Order of work: read, translate, publish, confirm. The slot moves only after the topic has accepted the events, so a
crash in between publishes them again, with the same ids: within five minutes the topic drops them, and later the
services know them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

import structlog

from eip import Backoff, Message
from eip.errors import InvalidMessage, PartialSendError, TransportError
from examples.job_events.changes import CaptureError, Change, ChangeCapture
from examples.job_events.channels import Channels
from examples.job_events.model import JobEvent, message_of
from examples.job_events.translation import UntranslatableChange, translate

__all__ = ["Publisher"]

_log = structlog.get_logger("examples.job_events")


class Publisher:
    """A `Service`. While database or topic fail, it tries again, and nothing is skipped.

    A change that is no event, or an event that no topic carries, is put aside on the invalid-message channel, and the
    next ones go on.

    Args:
        capture: where changes come from; opened and closed here.
        channels: where events go.
        batch: changes read and published together.
        idle: seconds to wait after the last change was read.
        retry: how long to wait after a failure.
    """

    def __init__(
        self,
        capture: ChangeCapture,
        channels: Channels,
        *,
        batch: int = 500,
        idle: float = 0.2,
        retry: Backoff | None = None,
    ) -> None:
        self._capture, self._channels = capture, channels
        self._batch, self._idle, self._retry = batch, idle, retry or Backoff(base=0.5, cap=10.0)
        self._stopping = asyncio.Event()
        self._connected = False
        self.changes = self.published = self.put_aside = self.failures = 0
        """Counts since the start; what is published again after a failure counts again."""
        self.recent: deque[JobEvent] = deque(maxlen=10)
        """The latest events."""

    async def run(self) -> None:
        """Publish what changes until `stop`."""
        failed = 0
        try:
            while not self._stopping.is_set():
                try:
                    await self._catch_up()
                    failed, wait = 0, self._idle
                except (CaptureError, TransportError) as error:
                    failed += 1
                    self.failures += 1
                    wait = self._retry.delay(failed)
                    _log.warning("publishing_failed", error=str(error), again_in=round(wait, 1))
                    if isinstance(error, CaptureError):
                        await self._disconnect()
                await self._pause(wait)
        finally:
            await self._disconnect()

    async def stop(self) -> None:
        """Let `run` end after the batch at hand."""
        self._stopping.set()

    async def behind(self) -> str:
        """How much is not published yet, for people to read."""
        try:
            return await self._capture.behind() if self._connected else "not connected"
        except CaptureError:
            return "unknown"

    async def _catch_up(self) -> None:
        if not self._connected:
            await self._capture.open()
            self._connected = True
        async with aclosing(self._capture.changes(self._batch)) as batches:
            async for batch in batches:
                await self._publish(batch)
                if not await self._settled():
                    return
                await self._capture.confirm(batch[-1].position)
                if self._stopping.is_set():
                    return

    async def _settled(self) -> bool:
        """Wait until what was accepted cannot be lost; False where `stop` came first."""
        settled = asyncio.create_task(self._channels.settled())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([settled, stopping], return_when=asyncio.FIRST_COMPLETED)
            return settled.done() and settled.result() is None
        finally:
            settled.cancel()
            stopping.cancel()

    async def _disconnect(self) -> None:
        self._connected = False
        await self._capture.aclose()

    async def _publish(self, changes: Sequence[Change]) -> None:
        events: list[JobEvent] = []
        for change in changes:
            try:
                event = translate(change, self._capture.origin)
            except UntranslatableChange as error:
                await self._put_aside(_raw(change, self._capture.origin), str(error))
                continue
            if event is not None:
                events.append(event)
        await self._send([message_of(each) for each in events])
        self.changes += len(changes)
        self.published += len(events)
        self.recent.extend(events[-10:])

    async def _send(self, messages: Sequence[Message[Any]]) -> None:
        """Return once the topic has accepted all, in their order, or they were put aside."""
        failed = 0
        while messages:
            try:
                await self._channels.topic.send(*messages)
            except PartialSendError as error:
                for each in error.failed:
                    if isinstance(each.error, InvalidMessage):
                        await self._put_aside(each.message, str(each.error))
                messages = [each.message for each in error.failed if not isinstance(each.error, InvalidMessage)]
                failed += 1
                await self._pause(self._retry.delay(failed))
                if self._stopping.is_set():
                    raise
            except InvalidMessage as error:
                if len(messages) == 1:
                    await self._put_aside(messages[0], str(error))
                else:
                    for message in messages:
                        await self._send([message])
                return
            else:
                return

    async def _put_aside(self, message: Message[Any], reason: str) -> None:
        """To the invalid-message channel with the reason; where it is too large for that as well, without its body."""
        _log.warning("put_aside", message_id=message.id, reason=reason)
        aside = message.replace(headers={**message.headers, "invalid-reason": reason[:1000]}, group_id=None)
        try:
            await self._channels.invalid.send(aside)
        except InvalidMessage:
            await self._channels.invalid.send(aside.with_body({"too-large": message.id}))
        self.put_aside += 1

    async def _pause(self, seconds: float) -> None:
        """Until `stop`, at most that long."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


def _raw(change: Change, origin: str) -> Message[Any]:
    """The change as it was read."""
    return Message(
        {**asdict(change), "position": str(change.position)}, id=f"{origin}:{change.position}", type="Change"
    )
