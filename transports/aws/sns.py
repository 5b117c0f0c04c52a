"""Amazon SNS: standard and FIFO topics. Receiving from a topic means an SQS queue that is subscribed to it.

Source: Amazon SNS Developer Guide and API Reference, 2026.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from eip import limits
from eip._checks import check_message, check_type
from eip.channels import Filter, Source, Topic
from eip.codec import JSON, Codec
from eip.envelope import encoded_for
from eip.errors import AccessDenied, InvalidMessage
from eip.message import Message
from eip.topology.names import suffixed
from eip.transports.aws._answers import outcomes_of
from eip.transports.aws._attributes import carried, fifo_ids, native_fields
from eip.transports.aws._outbox import Entry, Outbox, Outcome
from eip.transports.aws._provision import subscriptions
from eip.transports.aws._subscription import QueueSubscription
from eip.transports.aws.sqs import SqsQueue, units_of

if TYPE_CHECKING:
    from eip.transports.aws.transport import AwsTransport

__all__ = ["SnsTopic"]

_SUBJECT: Final = re.compile(r"[!-~][ -~]{0,98}")
"""What SNS takes as a Subject: ASCII of less than 100 characters (API reference, Publish)."""


class SnsTopic(Topic):
    """A topic; `AwsTransport.topic` makes it. It must exist: declare it with `eip.topology`."""

    limits = limits.SNS

    def __init__(self, transport: AwsTransport, address: str, *, linger: float = 0.0, codec: Codec = JSON) -> None:
        self._transport, self.address, self.codec = transport, address, codec
        self.name = address.rpartition(":")[2]
        self.fifo = self.name.endswith(".fifo")
        self._by_content: bool | None = None if self.fifo else False
        self._outbox = Outbox(self._publish_batch, self.limits, linger=linger)

    async def send(self, *messages: Message[Any]) -> None:
        """Publish the messages; see `Sender.send`, and `SqsQueue.send` for FIFO topics.

        A header ``subject`` is the notification's Subject, too, where SNS takes it.
        """
        if self._by_content is None:
            self._by_content = await self._deduplicates_by_content()
        entries = [self._entry(message) for message in messages]
        if entries:
            await self._outbox.send(entries)

    def subscription(self, name: str, *, filter: Filter | None = None) -> Source:  # noqa: A002 - the field's term
        """The named subscription: a queue named ``topic-name``, declared as `eip.topology.Subscription`.

        ``filter`` is evaluated here, also where the topology has the service evaluate it: the result is the same, and
        what it does not let through is acknowledged.
        """
        check_type("name", name, str, "a str")
        queue = self._transport.queue(suffixed(self.name, name))
        return QueueSubscription(queue, filter, codec=self.codec)

    async def subscribers(self) -> frozenset[str]:
        """The names of the queues that are subscribed; the service's list may be some seconds old."""
        found = await subscriptions(self._transport, self.address)
        return frozenset(endpoint.rpartition(":")[2] for endpoint in found if endpoint.startswith("arn:"))

    async def unsubscribe(self, queue: SqsQueue) -> bool:
        """End the queue's subscription; the queue stays, with what it holds. False where it was not subscribed."""
        found = (await subscriptions(self._transport, self.address)).get(queue.address)
        if found is None:
            return False
        await self._transport.call("sns", "Unsubscribe", channel=self.name, SubscriptionArn=found)
        return True

    async def flush(self) -> None:
        """Return when everything was published, or given up."""
        await self._outbox.flush()

    async def aclose(self, *, limit: float) -> None:
        """Flush in at most ``limit`` seconds; `AwsTransport.aclose` does it."""
        await self._outbox.aclose(limit=limit)

    def changed(self) -> None:
        """Its attributes were set: they are read again when next needed."""
        self._by_content = None if self.fifo else False

    async def _deduplicates_by_content(self) -> bool:
        try:
            answer = await self._transport.call("sns", "GetTopicAttributes", channel=self.name, TopicArn=self.address)
        except AccessDenied:  # one that may only publish: then every message has an id, which is right for either
            return False
        return bool(answer["Attributes"].get("ContentBasedDeduplication") == "true")

    def _entry(self, message: Message[Any]) -> Entry:
        check_message(message)
        if self.fifo and message.group_id is None:
            raise InvalidMessage(f"{self.name} is FIFO: a message needs a group_id")
        message = encoded_for(message, self.codec)
        ids = fifo_ids(message, by_content=bool(self._by_content)) if self.fifo else {}
        subject = message.headers.get("subject", "")
        subject = subject if _SUBJECT.fullmatch(subject) else ""
        limit = (self.limits.message_bytes or 0) - len(subject)
        sent = carried(message, channel=self.name, limit=limit, native=native_fields(ids))
        payload: dict[str, Any] = {"Message": sent.body, "MessageAttributes": sent.attributes, **ids}
        if subject:
            payload["Subject"] = subject
        return Entry(message, payload, sent.size + len(subject), ids.get("MessageGroupId"))

    async def _publish_batch(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        size = sum(entry.size for entry in entries)
        answer = await self._transport.call(
            "sns",
            "PublishBatch",
            channel=self.name,
            TopicArn=self.address,
            PublishBatchRequestEntries=[{"Id": str(index), **entry.payload} for index, entry in enumerate(entries)],
            messages=len(entries),
            size=size,
            units=units_of(size),
            retry=False,
        )
        return outcomes_of("sns", "PublishBatch", answer, entries)

    def __repr__(self) -> str:
        return f"<SnsTopic {self.name}>"
