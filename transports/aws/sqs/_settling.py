"""Acks, nacks and lease extensions of SQS: ten deliveries a call, with an outcome for each."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any, Final

from eip.channels import Delivery, Unsettled
from eip.transports._capabilities import SQS
from eip.transports.aws._batch_dispatcher import Outcome
from eip.transports.aws._batch_results import outcomes_of
from eip.transports.aws.sqs._queue_client import QueueClient

__all__ = ["BatchSettler", "SqsDelivery"]

_BATCH: Final = 10
_CHANGE: Final = "ChangeMessageVisibilityBatch"
_MAX_BLOCKING_TIMEOUT_S: Final = 3.0
"""Of a call from another thread."""
_DEFAULT_LEASE_S: Final = 30.0


class SqsDelivery(Delivery):
    """A message on lease, with its receipt handle."""

    __slots__ = ("receipt",)
    receipt: str


class BatchSettler:
    """Settles the deliveries of one queue.

    Calls are made one after the other, so that the order of the deliveries is kept. They are repeated until the lease
    ends at most: after that an old receipt may belong to another consumer's delivery.
    """

    def __init__(self, queue: QueueClient) -> None:
        self._queue = queue

    async def delete(self, deliveries: Sequence[Delivery]) -> list[Unsettled]:
        """Delete the messages; returns those that were not."""
        return await self._settle("DeleteMessageBatch", deliveries)

    async def release(self, deliveries: Sequence[Delivery], delay: float) -> list[Unsettled]:
        """Let the leases end ``delay`` seconds from now; returns those that could not be changed."""
        return await self._settle(_CHANGE, deliveries, VisibilityTimeout=_visibility(delay))

    async def extend(self, deliveries: Sequence[Delivery], seconds: float, *, lease: float | None) -> list[Unsettled]:
        """Let the leases end ``seconds`` from now; returns those that could not be extended.

        Tried once: the next heartbeat is the next attempt, and is in time only if this one does not hang.
        """
        within = max(1.0, (lease or _DEFAULT_LEASE_S) / 6)
        return await self._settle(
            _CHANGE, deliveries, heartbeat=True, within=within, VisibilityTimeout=_visibility(seconds)
        )

    def extend_blocking(
        self, deliveries: Sequence[Delivery], seconds: float, *, lease: float | None
    ) -> list[Unsettled]:
        """Extend from another thread while the event loop is blocked; returns those that could not be extended."""
        timeout = min(_MAX_BLOCKING_TIMEOUT_S, max(0.5, (lease or _DEFAULT_LEASE_S) / 8))
        failed: list[Unsettled] = []
        for start in range(0, len(deliveries), _BATCH):
            batch = deliveries[start : start + _BATCH]
            entries = _entries(batch, VisibilityTimeout=_visibility(seconds))
            try:
                answer = self._queue.call_blocking(_CHANGE, timeout=timeout, Entries=entries)
            except Exception as error:  # noqa: BLE001 - reported for each delivery
                failed += [Unsettled(delivery, error) for delivery in batch]
            else:
                failed += _unsettled(batch, outcomes_of("sqs", _CHANGE, answer, batch))
        return failed

    async def _settle(
        self,
        operation: str,
        deliveries: Sequence[Delivery],
        *,
        heartbeat: bool = False,
        within: float = math.inf,
        **each: Any,
    ) -> list[Unsettled]:
        failed: list[Unsettled] = []
        for start in range(0, len(deliveries), _BATCH):
            batch = deliveries[start : start + _BATCH]
            entries = _entries(batch, **each)
            until = min(each.lease_until or math.inf for each in batch)
            until = min(until, asyncio.get_running_loop().time() + within)
            try:
                answer = await self._queue.call(
                    operation,
                    Entries=entries,
                    messages=len(entries),
                    heartbeats=len(entries) if heartbeat else 0,
                    retry=not heartbeat,
                    until=until,
                )
            except Exception as error:  # noqa: BLE001 - reported for each delivery
                failed += [Unsettled(delivery, error) for delivery in batch]
            else:
                failed += _unsettled(batch, outcomes_of("sqs", operation, answer, batch))
        return failed


def _entries(batch: Sequence[Delivery], **each: Any) -> list[dict[str, Any]]:
    """The entries of a call. Ids are indices: a message that was delivered twice must not make two equal ids."""
    return [
        {"Id": str(index), "ReceiptHandle": delivery.receipt, **each}
        for index, delivery in enumerate(batch)
        if isinstance(delivery, SqsDelivery)
    ]


def _unsettled(batch: Sequence[Delivery], outcomes: Sequence[Outcome]) -> list[Unsettled]:
    failed = zip(batch, outcomes, strict=True)
    return [Unsettled(delivery, outcome) for delivery, outcome in failed if outcome is not None]


def _visibility(seconds: float) -> int:
    return math.ceil(min(seconds, SQS.max_lease or math.inf))
