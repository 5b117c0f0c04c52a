"""Calls on one queue: finds its URL, and reads its attributes once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from eip.errors import ChannelNotFound, TransportError
from eip.transports.aws._client.service_client import ServiceClient

__all__ = ["QueueClient"]


class QueueClient:
    """What senders and receivers of a queue share.

    Args:
        client: makes the calls.
        arn: the queue's.
    """

    def __init__(self, client: ServiceClient, arn: str) -> None:
        self._client, self.arn = client, arn
        self.name = arn.rpartition(":")[2]
        self.fifo = self.name.endswith(".fifo")
        self._lookup: asyncio.Task[str] | None = None
        self._url: str | None = None
        self._attributes: Mapping[str, str] | None = None

    async def url(self) -> str:
        """The queue's URL; raises `ChannelNotFound`. Concurrent callers share one call."""
        if self._url is None:
            if self._lookup is None or self._lookup.done():
                self._lookup = asyncio.create_task(self._look_up_url(), name=f"{self.name} url")
                self._lookup.add_done_callback(_mark_retrieved)
            self._url = await asyncio.shield(self._lookup)
        return self._url

    async def _look_up_url(self) -> str:
        account, name = self.arn.split(":")[4:6]
        try:
            answer = await self._client.call(
                "sqs", "GetQueueUrl", channel=self.name, QueueName=name, QueueOwnerAWSAccountId=account
            )
        except ChannelNotFound as error:
            raise ChannelNotFound(f"no queue {self.name}; declare it with eip.topology") from error
        return str(answer["QueueUrl"])

    async def attributes(self) -> Mapping[str, str]:
        """The queue's attributes by the service's names; read at the first use."""
        if self._attributes is None:
            answer = await self.call("GetQueueAttributes", AttributeNames=["All"])
            self._attributes = answer["Attributes"]
        return self._attributes

    def forget_attributes(self) -> None:
        """Read the attributes again at the next use."""
        self._attributes = None

    async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """A call on this queue; see `ServiceClient.call`."""
        url = self._url or await self.url()
        return await self._client.call("sqs", operation, channel=self.name, QueueUrl=url, **parameters)

    def call_blocking(self, operation: str, *, timeout: float, **parameters: Any) -> dict[str, Any]:
        """A call on this queue from another thread; see `ServiceClient.call_blocking`."""
        if self._url is None:
            raise TransportError(f"{self.name} has not been used yet")
        return self._client.call_blocking("sqs", operation, timeout=timeout, QueueUrl=self._url, **parameters)

    def close(self) -> None:
        """Cancel what is under way."""
        if self._lookup is not None:
            self._lookup.cancel()


def _mark_retrieved(lookup: asyncio.Task[str]) -> None:
    """Retrieve the error, which asyncio would log where all callers were cancelled."""
    if not lookup.cancelled():
        lookup.exception()
