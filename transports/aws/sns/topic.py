"""Amazon SNS: standard and FIFO topics. Receiving from a topic means an SQS queue that is subscribed to it.

Source: Amazon SNS Developer Guide and API Reference, 2026.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from typing_extensions import override

from eip._checks import check_message, check_name
from eip.channels import Filter, Source, Topic
from eip.codec import JSON, Codec
from eip.envelope import encoded_for
from eip.errors import AccessDenied, ChannelNotFound, ConfigurationError, MessageTooLarge
from eip.message import Message
from eip.topology.archives import ReplayState
from eip.topology.names import suffixed
from eip.transports._capabilities import SNS
from eip.transports.aws._attributes import carried, fifo_ids, native_fields
from eip.transports.aws._batch_dispatcher import FRUGAL, Batching, Outcome
from eip.transports.aws._batch_results import outcomes_of
from eip.transports.aws._batched_sender import BatchedSender
from eip.transports.aws._batching import BatchAccumulator
from eip.transports.aws._billing import request_units
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws._entry_queue import Entry
from eip.transports.aws._fair_groups import FairGroups
from eip.transports.aws.sns._subscriptions import list_subscriptions
from eip.transports.aws.sqs.queue import SqsQueue
from eip.transports.aws.sqs.subscription import QueueSubscription

__all__ = ["SnsTopic"]

_REPLAY_STATES: Final = {
    "pending": ReplayState.STARTING,
    "complete": ReplayState.COMPLETED,
    "fail": ReplayState.FAILED,
}
"""By a word of SNS's ReplayStatus; any other one is a replay under way (Developer Guide, "Message replay")."""
_SUBJECT: Final = re.compile(r"[!-~][ -~]{0,98}")
"""What SNS takes as a Subject: ASCII of less than 100 characters (API reference, Publish)."""


class SnsTopic(BatchedSender[BatchAccumulator], Topic):
    """A topic; `AwsTransport.topic` makes it. It must exist: declare it with `eip.topology`."""

    system = "aws.sns"

    limits = SNS

    def __init__(
        self,
        client: ServiceClient,
        address: str,
        *,
        find_queue: Callable[[str], SqsQueue],
        batching: Batching = FRUGAL,
        codec: Codec = JSON,
        fair: bool = True,
    ) -> None:
        self._client, self._find_queue, self.address, self.codec = client, find_queue, address, codec
        self.name = address.rpartition(":")[2]
        self.fifo = self.name.endswith(".fifo")
        self._by_content: bool | None = None if self.fifo else False
        self._groups = FairGroups(self.name, sent=fair)
        self._limit_read = False
        self._accumulator = BatchAccumulator(self._publish_batch, self.limits, batching=batching)

    @override
    async def send(self, *messages: Message[Any]) -> None:
        """Publish the messages; FIFO topics deduplicate as `SqsQueue.send` describes.

        A header ``subject`` is the notification's Subject, too, where SNS takes it. Messages of more than 256 KiB are
        for topics whose ``MaximumMessageSize`` allows them: it is read once, at the first that is larger.
        """
        if self._by_content is None:
            self._by_content = await self._deduplicates_by_content()
        try:
            entries = [self._entry(message) for message in messages]
        except MessageTooLarge:
            if self._limit_read:
                raise
            await self._read_limit()
            entries = [self._entry(message) for message in messages]
        if entries:
            await self._accumulator.send(entries)

    @override
    def subscription(self, name: str, *, filter: Filter | None = None) -> Source:
        """The named subscription: a queue named ``topic-name``, declared as `eip.topology.Subscription`.

        ``filter`` is evaluated here, also where the topology has the service evaluate it: the result is the same, and
        what it does not let through is acknowledged.
        """
        check_name(name)
        queue = self._find_queue(suffixed(self.name, name))
        return QueueSubscription(queue, filter, codec=self.codec)

    async def subscribers(self) -> frozenset[str]:
        """The names of the queues that are subscribed; the service's list may be some seconds old."""
        found = await list_subscriptions(self._client, self.address)
        return frozenset(endpoint.rpartition(":")[2] for endpoint in found if endpoint.startswith("arn:"))

    async def unsubscribe(self, queue: SqsQueue) -> bool:
        """End the queue's subscription; the queue stays, with what it holds. False where it was not subscribed."""
        found = (await list_subscriptions(self._client, self.address)).get(queue.address)
        if found is None:
            return False
        await self._client.call("sns", "Unsubscribe", channel=self.name, SubscriptionArn=found)
        return True

    async def start_replay(self, subscription: str, *, start: float, end: float | None) -> None:
        """Replay the topic's archive to a subscription; see `eip.patterns.topic_replay.HasTopicReplay`."""
        if not self.fifo:
            raise ConfigurationError(f"{self.name} must be FIFO: a standard topic has no archive to replay")
        policy = {"PointType": "Timestamp", "StartingPoint": _timestamp(start)}
        if end is not None:
            policy["EndingPoint"] = _timestamp(end)
        await self._set_replay(subscription, json.dumps(policy))

    async def stop_replay(self, subscription: str) -> None:
        """End the replay to a subscription."""
        await self._set_replay(subscription, "")

    async def replay_state(self, subscription: str) -> ReplayState | None:
        """How the replay to a subscription is; None: there is none."""
        arn = await self._subscription_arn(subscription)
        answer = await self._client.call("sns", "GetSubscriptionAttributes", channel=self.name, SubscriptionArn=arn)
        found = answer.get("Attributes", {})
        if not found.get("ReplayPolicy"):
            return None
        status = found.get("ReplayStatus", "").lower()
        return next((state for word, state in _REPLAY_STATES.items() if word in status), ReplayState.RUNNING)

    async def _set_replay(self, subscription: str, policy: str) -> None:
        arn = await self._subscription_arn(subscription)
        given: dict[str, Any] = {"AttributeName": "ReplayPolicy", "AttributeValue": policy}
        await self._client.call("sns", "SetSubscriptionAttributes", channel=self.name, SubscriptionArn=arn, **given)

    async def _subscription_arn(self, subscription: str) -> str:
        queue = self._find_queue(suffixed(self.name, check_name(subscription, "subscription")))
        found = (await list_subscriptions(self._client, self.address)).get(queue.address)
        if found is None:
            raise ChannelNotFound(f"{self.name} has no subscription {subscription}; declare it with eip.topology")
        return found

    def forget_attributes(self) -> None:
        """Read the attributes again at the next use, since they were changed."""
        self._by_content = None if self.fifo else False
        self._limit_read = False

    async def _deduplicates_by_content(self) -> bool:
        # Nothing is known to one that may only publish: then every message has an id, which is right for either.
        return (await self._attributes()).get("ContentBasedDeduplication") == "true"

    async def _read_limit(self) -> None:
        """Take over the topic's own limit, up to 1 MiB, which counts for a call, too.

        Smaller messages still share calls of 256 KiB; a larger one has a call of its own.
        """
        found = (await self._attributes()).get("MaximumMessageSize")
        self._limit_read = True
        self.limits = replace(SNS, message_bytes=int(found)) if found else SNS

    async def _attributes(self) -> Mapping[str, str]:
        """The topic's attributes by the service's names; none where they may not be read."""
        try:
            answer = await self._client.call("sns", "GetTopicAttributes", channel=self.name, TopicArn=self.address)
        except AccessDenied:
            return {}
        attributes: Mapping[str, str] = answer["Attributes"]
        return attributes

    async def parameters(self, message: Message[Any]) -> dict[str, Any]:
        """What Publish is given for a message, for those who have it called by another service.

        Raises:
            InvalidMessage: it cannot be carried.
        """
        if self._by_content is None:
            self._by_content = await self._deduplicates_by_content()
        return dict(self._entry(message).payload)

    def _entry(self, message: Message[Any]) -> Entry:
        check_message(message)
        message = encoded_for(message, self.codec)
        ids = self._ids(message)
        subject = message.headers.get("subject", "")
        subject = subject if _SUBJECT.fullmatch(subject) else ""
        limit = (self.limits.message_bytes or 0) - len(subject)
        # A standard topic passes the group on to standard queues only: for all others it stays in the envelope, too.
        native = native_fields(ids) if self.fifo else {}
        sent = carried(message, channel=self.name, limit=limit, native=native)
        payload: dict[str, Any] = {"Message": sent.body, "MessageAttributes": sent.attributes, **ids}
        if subject:
            payload["Subject"] = subject
        return Entry(message, payload, sent.size + len(subject), ids.get("MessageGroupId") if self.fifo else None)

    def _ids(self, message: Message[Any]) -> dict[str, str]:
        if self.fifo:
            return fifo_ids(message, channel=self.name, by_content=bool(self._by_content))
        return self._groups.ids(message)

    async def _publish_batch(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        if self.fifo:
            return await self._publish_call(entries)
        return await self._groups.send(entries, self._publish_call, lambda entry: self._entry(entry.message))

    async def _publish_call(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        size = sum(entry.size for entry in entries)
        answer = await self._client.call(
            "sns",
            "PublishBatch",
            channel=self.name,
            TopicArn=self.address,
            PublishBatchRequestEntries=[{"Id": str(index), **entry.payload} for index, entry in enumerate(entries)],
            messages=len(entries),
            size=size,
            units=request_units(size),
            retry=False,
        )
        return outcomes_of("sns", "PublishBatch", answer, entries)

    def __repr__(self) -> str:
        return f"<SnsTopic {self.name}>"


def _timestamp(time: float) -> str:
    """As SNS writes it, in milliseconds."""
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H:%M:%S}.{int(time * 1000) % 1000:03d}Z"
