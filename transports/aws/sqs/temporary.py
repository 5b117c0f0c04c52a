"""Temporary queues on SQS, which has none of its own: made at their first use, removed by their owner or a janitor.

A tag names the owner; another holds the time until which the queue counts as alive, which the owner moves on with each
heartbeat. Whoever owns a queue of the same name also looks after those of others: a queue whose time passed, and whose
owner did not move it on until the next look, is removed. So a queue outlives a killed owner by minutes, provided that
another process has a temporary queue of that name, or gets one later.

An owner that is alive loses its queue only where it was stopped, or cut off from SQS, for longer than that. Then it
makes the queue again; the replies in it are gone.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from typing_extensions import override

from eip import clock
from eip._ids import new_id
from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.channels import TemporaryQueue
from eip.errors import AccessDenied, ChannelNotFound, ConfigurationError, EipError, error_text
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws.sqs._queue_client import QueueClient
from eip.transports.aws.sqs.queue import SqsQueue

__all__ = ["SqsTemporaryQueue", "temporary_name"]

_log = get_logger("eip.sqs")
_lines = RepeatedLines(_log)

_OWNER_TAG: Final = "eip:owner"
_ALIVE_TAG: Final = "eip:alive-until"
_MAX_HOST: Final = 20
"""Letters of the host's name in a queue's name."""
_MISSED_BEATS: Final = 5
"""Heartbeats that a queue outlives; also the heartbeats between two looks for queues that lost their owner."""
_RETENTION_S: Final = 3600
"""Of replies that nobody takes; requests that wait for replies to one process are short."""
_REMOVE_TIMEOUT_S: Final = 5.0


def temporary_name(prefix: str) -> str:
    """A name for a queue of this process: the prefix, ``temp``, the host, the process id, and what makes it unique."""
    if not re.fullmatch("[A-Za-z0-9_-]{1,30}", prefix):
        raise ConfigurationError(f"name must be 1 to 30 letters, digits, - and _, got {prefix!r}")
    host = re.sub("[^A-Za-z0-9_-]", "-", socket.gethostname())[:_MAX_HOST]
    return f"{_stem(prefix)}{host}-{os.getpid()}-{new_id()[:12]}"  # at most 80 letters, as SQS has it


def _stem(prefix: str) -> str:
    return f"{prefix}-temp-"


class SqsTemporaryQueue(SqsQueue, TemporaryQueue):
    """A queue of this process; `AwsTransport.temporary_queue` makes it.

    Args:
        client: makes the calls.
        address: its ARN, with a `temporary_name`.
        prefix: that name's.
        heartbeat: seconds between signs of life.
        on_removed: called once it is removed.
        options: see `SqsQueue`.
    """

    def __init__(
        self,
        client: ServiceClient,
        address: str,
        *,
        prefix: str,
        heartbeat: float,
        on_removed: Callable[[], object],
        **options: Any,
    ) -> None:
        super().__init__(client, address, **options)
        self._owned = self._queue = _OwnedQueue(client, address, lifetime=_MISSED_BEATS * heartbeat)
        self._owned.on_made = self._begin
        self._janitor = _Janitor(client, _stem(prefix), own=self.name)
        self._heartbeat, self._on_removed = heartbeat, on_removed
        self._beating: asyncio.Task[None] | None = None
        self._removed = False

    def _begin(self) -> None:
        if self._beating is None and not self._removed:
            self._beating = asyncio.create_task(self._beat(), name=f"{self.name} heartbeat")

    async def _beat(self) -> None:
        beats = 0
        while True:
            try:
                if beats % _MISSED_BEATS == 0:
                    await self._janitor.sweep()
                await asyncio.sleep(self._heartbeat)
                beats += 1
                await self._owned.touch()
            except EipError as error:
                _lines.warning("temporary_queue_failed", queue=self.name, error=error_text(error))
                await asyncio.sleep(self._heartbeat)

    @override
    async def remove(self) -> None:
        if self._removed:
            return
        self._removed = True
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait((self._beating,))
        try:
            async with asyncio.timeout(_REMOVE_TIMEOUT_S):
                await self._owned.delete()
        except (EipError, TimeoutError) as error:
            _log.warning("temporary_queue_left", queue=self.name, error=error_text(error) or "no answer")
        finally:
            self._on_removed()

    def __repr__(self) -> str:
        return f"<SqsTemporaryQueue {self.name}>"


class _OwnedQueue(QueueClient):
    """Makes its queue where others look it up."""

    def __init__(self, client: ServiceClient, arn: str, *, lifetime: float) -> None:
        super().__init__(client, arn)
        self._lifetime = lifetime
        self.on_made: Callable[[], None] = lambda: None

    @override
    async def _look_up_url(self) -> str:
        attributes = {"MessageRetentionPeriod": str(_RETENTION_S)}
        answer = await self._client.call(
            "sqs", "CreateQueue", channel=self.name, QueueName=self.name, Attributes=attributes, tags=self._tags()
        )
        self.on_made()
        return str(answer["QueueUrl"])

    def _tags(self) -> dict[str, str]:
        owner = f"{socket.gethostname()}/{os.getpid()}"
        return {_OWNER_TAG: owner, _ALIVE_TAG: f"{clock.now() + self._lifetime:.3f}"}

    async def touch(self) -> None:
        """Give a sign of life; make the queue again where it is gone."""
        try:
            await self.call("TagQueue", Tags=self._tags())
        except ChannelNotFound:
            _log.error("temporary_queue_gone", queue=self.name, hint="was this process stopped for minutes?")
            await self._look_up_url()

    async def delete(self) -> None:
        """Remove the queue, if it was ever made."""
        if self._lookup is not None:
            with suppress(ChannelNotFound):
                await self.call("DeleteQueue")


class _Janitor:
    """Removes queues that lost their owner.

    Args:
        client: makes the calls.
        stem: what their names begin with.
        own: the name of the queue that is not to be looked at.
    """

    def __init__(self, client: ServiceClient, stem: str, *, own: str) -> None:
        self._client, self._stem, self._own = client, stem, own
        self._suspected: Mapping[str, str] = {}
        """By URL, until when those counted as alive whose time had passed at the last look."""
        self._allowed = True

    async def sweep(self) -> None:
        """Remove the queues whose time had passed at the last look, and that nobody has moved on since."""
        if not self._allowed:
            return
        try:
            await self._sweep()
        except AccessDenied as error:
            self._allowed = False
            hint = "grant sqs:ListQueues, sqs:ListQueueTags and sqs:DeleteQueue, or remove leftover queues yourself"
            _log.warning("temporary_queues_not_swept", queues=f"{self._stem}*", error=error_text(error), hint=hint)

    async def _sweep(self) -> None:
        found = {url: until async for url in self._urls() if (until := await self._passed(url)) is not None}
        for url, until in found.items():
            if self._suspected.get(url) == until:
                await self._client.call("sqs", "DeleteQueue", QueueUrl=url)
                _log.info("temporary_queue_removed", queue=url.rpartition("/")[2], alive_until=until)
        self._suspected = found

    async def _urls(self) -> AsyncIterator[str]:
        page: dict[str, Any] = {}
        while True:
            answer = await self._client.call("sqs", "ListQueues", QueueNamePrefix=self._stem, MaxResults=1000, **page)
            for url in answer.get("QueueUrls", ()):
                if url.rpartition("/")[2] != self._own:
                    yield url
            if not answer.get("NextToken"):
                return
            page = {"NextToken": answer["NextToken"]}

    async def _passed(self, url: str) -> str | None:
        """Until when a queue of ours counted as alive, where that has passed; None: it is alive, gone, or not ours."""
        try:
            tags = (await self._client.call("sqs", "ListQueueTags", QueueUrl=url)).get("Tags", {})
            until = tags.get(_ALIVE_TAG)
            return until if _OWNER_TAG in tags and until and float(until) < clock.now() else None
        except (ChannelNotFound, ValueError):
            return None
