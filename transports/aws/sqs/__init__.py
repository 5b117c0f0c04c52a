"""Amazon SQS: queues, and the subscriptions of topics and buses, which are read from queues."""

from __future__ import annotations

from eip.transports.aws.sqs.queue import SqsQueue as SqsQueue

__all__ = ["SqsQueue"]
