"""The application's channels on AWS: location topics on SNS, queues on SQS."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from eip import Source
from eip import topology as declared
from eip.transports.aws import AwsTransport
from examples.rfq.channels import PREFIX, UNREADABLE, Channels
from examples.rfq.vicinity import all_zones

__all__ = ["AwsChannels"]

_RECEIVES: Final = 20
"""A question is received again each time its unicorn's process restarts; that alone must not dead-letter it."""


class AwsChannels(Channels):
    """A unicorn has one inbox for life, which is subscribed to the topic of the zone that it is in."""

    durable = True

    def __init__(self, transport: AwsTransport) -> None:
        super().__init__(transport)
        self._aws = transport
        self._before: dict[str, list[str]] = {}
        """By inbox, the zones it was subscribed to when this process started: a killed one could not end that."""

    async def prepare(self) -> None:
        """See `Channels.prepare`."""
        await super().prepare()
        before: dict[str, list[str]] = defaultdict(list)
        for zone in all_zones():
            for inbox in await self._aws.topic(self.zone(zone).name).subscribers():
                before[inbox].append(zone)
        self._before = dict(before)

    async def enter(self, zone: str, unicorn: str) -> Source:
        """See `Channels.enter`."""
        topic, inbox = self.zone(zone).name, self._inbox(unicorn)
        target = declared.QueueSpec(inbox, dead_letters=UNREADABLE.name, max_receive_count=_RECEIVES)
        # SNS delivers to SQS with retries for 23 days; a dead-letter queue for each subscription would be thrice many.
        subscription = declared.SubscriptionSpec(topic, unicorn, queue=target, dead_letters=False)
        await declared.Topology(UNREADABLE, declared.TopicSpec(topic), subscription).apply(self.transport)
        for left in self._before.pop(inbox, ()):
            if left != zone:
                await self.leave(left, unicorn)
        return self._aws.queue(inbox)

    async def leave(self, zone: str, unicorn: str) -> None:
        """See `Channels.leave`."""
        await self._aws.topic(self.zone(zone).name).unsubscribe(self._aws.queue(self._inbox(unicorn)))

    def _inbox(self, unicorn: str) -> str:
        return f"{PREFIX}inbox-{unicorn}"
