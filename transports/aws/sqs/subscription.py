"""Subscriptions of topics and rules of buses: a queue, and a filter that is evaluated here."""

from __future__ import annotations

from typing_extensions import override

from eip.channels import Filter, Receiver, Source
from eip.codec import JSON, Codec
from eip.matching import as_predicate
from eip.transports.aws.sqs.queue import SqsQueue

__all__ = ["QueueSubscription"]


class QueueSubscription(Source):
    """A subscription's queue; messages that the filter rejects are acknowledged.

    Args:
        queue: of the subscription.
        filter: default: every message.
        codec: decodes the bodies of foreign producers.
    """

    def __init__(self, queue: SqsQueue, filter: Filter | None, *, codec: Codec = JSON) -> None:  # noqa: A002
        self._codec = codec
        self.name, self.queue, self.retry_queue, self.limits = queue.name, queue, queue, queue.limits
        self._filter = None if filter is None else as_predicate(filter)

    @override
    def receiver(self, *, capacity: int = 10) -> Receiver:
        return self.queue.filtered_receiver(capacity=capacity, codec=self._codec, filter=self._filter)
