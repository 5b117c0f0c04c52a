"""What a topic's subscriptions and a bus's rules are read from: a queue, and the filter that is evaluated here."""

from __future__ import annotations

from eip._checks import check_integer
from eip.channels import Filter, Receiver, Source
from eip.codec import JSON, Codec
from eip.matching import as_predicate
from eip.transports.aws.sqs import SqsQueue, SqsReceiver

__all__ = ["QueueSubscription"]


class QueueSubscription(Source):
    """A subscription's queue; what the filter does not let through is acknowledged unseen."""

    def __init__(self, queue: SqsQueue, wanted: Filter | None, *, codec: Codec = JSON) -> None:
        self._codec = codec
        self.name, self.queue, self.retry_queue, self.limits = queue.name, queue, queue, queue.limits
        self._wanted = None if wanted is None else as_predicate(wanted)

    def receiver(self, *, capacity: int = 10) -> Receiver:
        """A receiver; any number may share the subscription."""
        check_integer("capacity", capacity, least=1)
        return SqsReceiver(self.queue, capacity=capacity, codec=self._codec, wanted=self._wanted)
