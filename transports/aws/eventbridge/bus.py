"""Amazon EventBridge: event buses. Receiving from a bus means a rule with an SQS queue as its target.

Delivery is at-least-once and in no order, to each target of a rule. Source: Amazon EventBridge User Guide and API
Reference, 2026.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from typing_extensions import override

from eip._checks import check_message, check_name
from eip.channels import Bus, Filter, Source
from eip.codec import JSON, Codec
from eip.envelope import encoded_for
from eip.errors import ChannelNotFound
from eip.message import Message
from eip.topology.names import rule_queue
from eip.transports._capabilities import EVENTBRIDGE
from eip.transports._event_format import as_bus_predicate, entry_of
from eip.transports.aws._batch_dispatcher import FRUGAL, Batching, Outcome
from eip.transports.aws._batch_results import outcome_of
from eip.transports.aws._batched_sender import BatchedSender
from eip.transports.aws._batching import BatchAccumulator
from eip.transports.aws._billing import request_units
from eip.transports.aws._client.errors import ServiceFailed
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws._entry_queue import Entry
from eip.transports.aws._xray import to_xray
from eip.transports.aws.arns import Arns
from eip.transports.aws.eventbridge.archives import EventBridgeArchives
from eip.transports.aws.sqs.queue import SqsQueue
from eip.transports.aws.sqs.subscription import QueueSubscription

__all__ = ["EventBridgeBus"]


class EventBridgeBus(BatchedSender[BatchAccumulator], Bus):
    """An event bus; `AwsTransport.bus` makes it. It must exist, its rules and queues too: declare them.

    A message needs a type, a source, and a JSON object as its body (`eip.transports._event_format`).
    """

    system = "aws.eventbridge"

    limits = EVENTBRIDGE

    def __init__(
        self,
        client: ServiceClient,
        arns: Arns,
        address: str,
        *,
        find_queue: Callable[[str], SqsQueue],
        batching: Batching = FRUGAL,
        codec: Codec = JSON,
    ) -> None:
        self._client, self._arns, self._find_queue = client, arns, find_queue
        self.address, self.codec = address, codec
        self.name = address.partition(":event-bus/")[2]
        self._accumulator = BatchAccumulator(self._put_events, self.limits, batching=batching)

    @override
    async def send(self, *messages: Message[Any]) -> None:
        """Put the messages on the bus; see `Sender.send`. A bus keeps no order, message groups included."""
        entries = [self._entry(message) for message in messages]
        if entries:
            await self._accumulator.send(entries)

    @override
    def subscription(self, name: str, *, pattern: Filter | None = None) -> Source:
        """The named rule's events: its queue ``bus-name``, declared as `eip.topology.Rule`.

        ``pattern`` is evaluated here, also where the topology has the service evaluate it: the result is the same, and
        what it does not let through is acknowledged.
        """
        check_name(name)
        wanted = None if pattern is None else as_bus_predicate(pattern)
        return QueueSubscription(self._find_queue(rule_queue(self.name, name)), wanted)

    async def unsubscribe(self, name: str) -> bool:
        """Remove the named rule with its targets; its queue stays, with what it holds. False where there is none."""
        of_rule: dict[str, Any] = {"channel": self.name, "EventBusName": self.address}
        try:
            found = await self._client.call("events", "ListTargetsByRule", Rule=name, **of_rule)
            if ids := [each["Id"] for each in found.get("Targets") or ()]:
                await self._client.call("events", "RemoveTargets", Rule=name, Ids=ids, **of_rule)
            await self._client.call("events", "DeleteRule", Name=name, **of_rule)
        except ChannelNotFound:
            return False
        return True

    @property
    def archives(self) -> EventBridgeArchives:
        """The bus's archives, for `eip.patterns.replay`."""
        return EventBridgeArchives(self._client, self._arns, self.address)

    async def parameters(self, message: Message[Any]) -> dict[str, Any]:
        """The entry that PutEvents is given for a message, for those who have it called by another service.

        Raises:
            InvalidMessage: it cannot be carried.
        """
        return dict(self._entry(message).payload)

    def _entry(self, message: Message[Any]) -> Entry:
        check_message(message)
        message = encoded_for(message, self.codec)
        entry = entry_of(message, channel=self.name)
        payload: dict[str, Any] = {
            "Source": entry.source,
            "DetailType": entry.detail_type,
            "Detail": entry.detail.decode(),
            "Time": entry.time,
            "EventBusName": self.address,
        }
        if message.traceparent is not None and (xray := to_xray(message.traceparent)):
            payload["TraceHeader"] = xray
        return Entry(message, payload, entry.size, None)

    async def _put_events(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        answer = await self._client.call(
            "events",
            "PutEvents",
            channel=self.name,
            Entries=[entry.payload for entry in entries],
            messages=len(entries),
            size=sum(entry.size for entry in entries),
            units=sum(request_units(entry.size) for entry in entries),
            retry=False,
        )
        answered = answer.get("Entries")
        if not isinstance(answered, list) or len(answered) != len(entries):
            return [ServiceFailed("events PutEvents: the answer does not mention each entry")] * len(entries)
        return [outcome_of("events", "PutEvents", each, proof="EventId") for each in answered]

    def __repr__(self) -> str:
        return f"<EventBridgeBus {self.name}>"
