"""Amazon SQS: standard and FIFO queues.

Delivery is at-least-once on both: FIFO queues drop what is *sent* twice within five minutes, but a lease that ends
before the ack means another delivery. Sources: Amazon SQS Developer Guide and API Reference, 2026.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from typing_extensions import override

from eip._checks import check_delay, check_integer, check_message
from eip.channels import Queue, Receiver, Sender
from eip.clock import Duration
from eip.codec import JSON, Codec
from eip.envelope import encoded_for
from eip.errors import AccessDenied, ConfigurationError, EipError, InvalidMessage, TransportError
from eip.limits import KIB
from eip.matching.predicate import Predicate
from eip.message import Message
from eip.transports._capabilities import SQS
from eip.transports.aws._attributes import carried, fifo_ids, native_fields
from eip.transports.aws._batch_dispatcher import FRUGAL, Batching, Outcome
from eip.transports.aws._batch_results import outcomes_of
from eip.transports.aws._batched_sender import BatchedSender
from eip.transports.aws._batching import BatchAccumulator
from eip.transports.aws._billing import request_units
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws._entry_queue import Entry
from eip.transports.aws._fair_groups import FairGroups
from eip.transports.aws._xray import to_xray
from eip.transports.aws.sqs._queue_client import QueueClient
from eip.transports.aws.sqs.receiver import SqsReceiver

__all__ = ["SqsQueue"]

_LEAST_LIMIT: Final = KIB
"""Bytes of a message that every queue takes: the least MaximumMessageSize (SetQueueAttributes, API reference)."""
_MAX_MOVE_RATE: Final = 500
"""Messages a second of a move task (StartMessageMoveTask)."""
_MOVE_POLL_S: Final = 1.0
"""Between looks at a move task."""
_MOVE_CANCEL_S: Final = 5.0
"""For the call that ends a move task whose redrive was cancelled."""


class SqsQueue(BatchedSender[BatchAccumulator], Queue):
    """A queue; `AwsTransport.queue` makes it. It must exist: declare it with `eip.topology`.

    Its attributes (visibility timeout, redrive policy) are read once, at the first use.
    """

    system = "aws_sqs"

    limits = SQS

    def __init__(
        self,
        client: ServiceClient,
        address: str,
        *,
        find_queue: Callable[[str], SqsQueue],
        batching: Batching = FRUGAL,
        long_poll: float = 20.0,
        codec: Codec = JSON,
        fair: bool = True,
    ) -> None:
        self._client, self.address, self.codec = client, address, codec
        self._queue = QueueClient(client, address)
        self.name, self.fifo = self._queue.name, self._queue.fifo
        self._find_queue, self._long_poll = find_queue, long_poll
        self._groups = FairGroups(self.name, sent=fair)
        self._limit_read = False
        self._accumulator = BatchAccumulator(self._send_batch, self.limits, batching=batching)
        self._by_content: bool | None = None if self.fifo else False
        """Whether a FIFO queue deduplicates by content; None: not asked yet."""

    @override
    async def send(self, *messages: Message[Any], delay: Duration = 0.0) -> None:
        """Send the messages; ``delay`` is at most 15 minutes, and not possible on a FIFO queue.

        On a FIFO queue a message is deduplicated by its ``deduplication_id``; without one by its id, or by its body
        where the queue was declared with content-based deduplication. Where the service refused a message for the
        moment but took later ones of its group in the same call, it is reported as failed and not sent again: that
        would break the order. A queue's own ``MaximumMessageSize`` is read once, at the first message above 1 KiB.
        """
        seconds = check_delay(self.name, delay, most=self.limits.max_delay)
        if seconds and self.fifo:
            raise InvalidMessage(f"{self.name} is FIFO: it has no delay per message")
        if self._by_content is None:
            self._by_content = await self._deduplicates_by_content()
        entries = [self._entry(message, math.ceil(seconds)) for message in messages]
        if not self._limit_read and any(entry.size > _LEAST_LIMIT for entry in entries):
            await self._read_limit()
            entries = [self._entry(message, math.ceil(seconds)) for message in messages]
        if entries:
            await self._accumulator.send(entries)

    @override
    def receiver(self, *, capacity: int = 10) -> Receiver:
        """A receiver; any number, in any process, may share the queue."""
        return self.filtered_receiver(capacity=capacity, codec=self.codec)

    def filtered_receiver(self, *, capacity: int, codec: Codec, filter: Predicate | None = None) -> Receiver:  # noqa: A002
        """A receiver that acknowledges the messages that the filter rejects."""
        return SqsReceiver(
            self._queue,
            find_queue=self._find_queue,
            capacity=check_integer("capacity", capacity, least=1),
            long_poll=self._long_poll,
            codec=codec,
            filter=filter,
        )

    @override
    async def aclose(self, *, timeout: float) -> None:
        await super().aclose(timeout=timeout)
        self._queue.close()

    async def url(self) -> str:
        """The queue's URL; raises `ChannelNotFound`."""
        return await self._queue.url()

    async def attributes(self) -> Mapping[str, str]:
        """The queue's attributes by the service's names; read once."""
        return await self._queue.attributes()

    def forget_attributes(self) -> None:
        """Read the attributes again at the next use, since they were changed."""
        self._queue.forget_attributes()
        self._by_content = None if self.fifo else False
        self._limit_read, self.limits = False, SQS

    @override
    async def depth(self) -> dict[str, int]:
        """About how many messages are ready, delayed and on lease; asks the service each time."""
        wanted = {
            "ApproximateNumberOfMessages": "ready",
            "ApproximateNumberOfMessagesDelayed": "delayed",
            "ApproximateNumberOfMessagesNotVisible": "leased",
        }
        answer = await self._queue.call("GetQueueAttributes", AttributeNames=list(wanted))
        return {name: int(answer["Attributes"].get(key, 0)) for key, name in wanted.items()}

    @override
    async def purge(self) -> None:
        """Remove all messages, those on lease too; takes up to a minute (SQS: PurgeQueue, once a minute).

        Raises:
            Conflict: it was purged less than a minute ago.
        """
        await self._queue.call("PurgeQueue")

    async def move_messages(
        self,
        to: Sender | None,
        *,
        limit: int | None = None,
        rate: float | None = None,
        on_moved: Callable[[int], None] | None = None,
    ) -> int:
        """Have the service move all messages of this dead-letter queue; returns about how many.

        To another queue, or without one back to the queues that they failed on. Waits until that is done; cancelled, it
        has the service stop. ``rate`` is a whole number up to 500 a second; default: as the backlog allows. Raises
        `ConfigurationError` for what the service cannot do: a ``limit``, a destination that is not a queue, a source
        that is not a dead-letter queue.
        """
        if limit is not None or not (to is None or isinstance(to, SqsQueue)):
            raise ConfigurationError(
                "SQS itself moves all messages of a dead-letter queue, and to a queue only: drop limit, give a queue"
            )
        if rate is not None and not (1 <= rate <= _MAX_MOVE_RATE and rate == int(rate)):
            raise ConfigurationError(f"rate must be a whole number, 1 to {_MAX_MOVE_RATE} for SQS, got {rate:g}")
        given: dict[str, Any] = {} if to is None else {"DestinationArn": to.address}
        if rate is not None:
            given["MaxNumberOfMessagesPerSecond"] = int(rate)
        task = await self._client.call(
            "sqs",
            "StartMessageMoveTask",
            channel=self.name,
            SourceArn=self.address,
            retry=False,  # it would be refused as a second one where only the answer was lost
            **given,
        )
        try:
            return await self._moved_by(task["TaskHandle"], on_moved)
        except asyncio.CancelledError:
            # The service goes on by itself. Where it cannot be reached, the task ends with the last message.
            with suppress(EipError, TimeoutError):
                async with asyncio.timeout(_MOVE_CANCEL_S):
                    await self._client.call(
                        "sqs", "CancelMessageMoveTask", channel=self.name, TaskHandle=task["TaskHandle"]
                    )
            raise

    async def _moved_by(self, handle: str, on_moved: Callable[[int], None] | None) -> int:
        """How many a move task moved, once it has ended."""
        while True:
            answer = await self._client.call(
                "sqs", "ListMessageMoveTasks", channel=self.name, SourceArn=self.address, MaxResults=10
            )
            found = next((each for each in answer["Results"] if each.get("TaskHandle") == handle), None)
            found = found or next(iter(answer["Results"]), {"Status": "FAILED", "FailureReason": "not listed"})
            moved = int(found.get("ApproximateNumberOfMessagesMoved", 0))
            if on_moved is not None:
                on_moved(moved)
            if found["Status"] == "COMPLETED":
                return moved
            if found["Status"] in ("FAILED", "CANCELLED"):
                raise TransportError(f"moving ended: {found.get('FailureReason', found['Status'])}")
            await asyncio.sleep(_MOVE_POLL_S)

    async def _read_limit(self) -> None:
        """Take over the queue's own limit of a message."""
        try:
            found = (await self.attributes()).get("MaximumMessageSize")
        except AccessDenied:  # one that may only send: the service has the last word
            found = None
        self._limit_read = True
        self.limits = replace(SQS, message_bytes=int(found)) if found else SQS

    async def _deduplicates_by_content(self) -> bool:
        try:
            return (await self.attributes()).get("ContentBasedDeduplication") == "true"
        except AccessDenied:  # one that may only send: then every message has an id, which is right for either
            return False

    async def parameters(self, message: Message[Any]) -> dict[str, Any]:
        """What SendMessage is given for a message, for those who have it called by another service.

        Raises:
            InvalidMessage: it cannot be carried.
        """
        if self._by_content is None:
            self._by_content = await self._deduplicates_by_content()
        return dict(self._entry(message, 0).payload)

    def _entry(self, message: Message[Any], delay: int) -> Entry:
        check_message(message)
        message = encoded_for(message, self.codec)
        ids = self._ids(message)
        sent = carried(message, channel=self.name, limit=self.limits.message_bytes or 0, native=native_fields(ids))
        payload: dict[str, Any] = {"MessageBody": sent.body, "MessageAttributes": sent.attributes, **ids}
        if delay:
            payload["DelaySeconds"] = delay
        if message.traceparent is not None and (xray := to_xray(message.traceparent)):
            payload["MessageSystemAttributes"] = {"AWSTraceHeader": {"DataType": "String", "StringValue": xray}}
        return Entry(message, payload, sent.size, ids.get("MessageGroupId") if self.fifo else None)

    def _ids(self, message: Message[Any]) -> dict[str, str]:
        if self.fifo:
            return fifo_ids(message, channel=self.name, by_content=bool(self._by_content))
        return self._groups.ids(message)

    async def _send_batch(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        if self.fifo:
            return await self._send_call(entries)
        return await self._groups.send(
            entries, self._send_call, lambda entry: self._entry(entry.message, entry.payload.get("DelaySeconds", 0))
        )

    async def _send_call(self, entries: Sequence[Entry]) -> list[Outcome]:
        size = sum(entry.size for entry in entries)
        answer = await self._queue.call(
            "SendMessageBatch",
            Entries=[{"Id": str(index), **entry.payload} for index, entry in enumerate(entries)],
            messages=len(entries),
            size=size,
            units=request_units(size),
            retry=False,
        )
        return outcomes_of("sqs", "SendMessageBatch", answer, entries)

    def __repr__(self) -> str:
        return f"<SqsQueue {self.name}>"
