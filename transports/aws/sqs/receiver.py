"""Receiving from SQS by long polls.

Delivery is at-least-once: a lease that ends before the ack means another delivery, on FIFO queues too.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from typing_extensions import override

from eip._ids import new_id
from eip._logging import get_logger
from eip.channels import Delivery, Receiver, Sender, Unsettled
from eip.codec import JSON, Codec, load_json
from eip.errors import ConnectionLost, DecodeError
from eip.matching.predicate import Predicate
from eip.transports.aws._batch_results import checksum_error
from eip.transports.aws._billing import measure_received
from eip.transports.aws._reading import read_message
from eip.transports.aws.sqs._loop_lag import LoopLag
from eip.transports.aws.sqs._queue_client import QueueClient
from eip.transports.aws.sqs._settling import BatchSettler, SqsDelivery

_log = get_logger("eip.sqs")

__all__ = ["SqsReceiver"]

_CANCEL_GRACE_S: Final = 1.0
"""After a cancelled poll: messages that arrive within it are released, instead of waiting for their lease to end."""
_RECEIVE_ATTEMPTS: Final = 3
_MIN_LONG_POLL_S: Final = 0.5
"""A long poll that ends earlier without messages is not SQS's: a proxy may answer in its place."""
_FIRST_PAUSE_S: Final = 0.1
_MAX_PAUSE_S: Final = 5.0
_OWN_LEASE_S: Final = 30.0
"""For a queue whose visibility timeout is 0; SQS's own default."""
_SLACK_SHARE: Final = 20
"""Part of a lease that is given up, as an answer takes its time to arrive; at most a second."""


class SqsReceiver(Receiver):
    """Leases a queue's messages by long polls.

    Args:
        queue: makes the calls.
        find_queue: gives the queue of an ARN, for the dead-letter queue of the redrive policy.
        capacity: maximum of deliveries that its consumer holds.
        long_poll: maximum length of a long poll, in seconds.
        codec: decodes the bodies of foreign producers.
        filter: whether a message is wanted; others are acknowledged.
    """

    system = "aws_sqs"
    settle_batch = 10
    billed = True

    def __init__(
        self,
        queue: QueueClient,
        *,
        find_queue: Callable[[str], Sender],
        capacity: int,
        long_poll: float,
        codec: Codec = JSON,
        filter: Predicate | None = None,  # noqa: A002 - the field's term
    ) -> None:
        self.name, self._queue, self._codec, self._filter = queue.name, queue, codec, filter
        self._find_queue, self._long_poll = find_queue, long_poll
        self._settler = BatchSettler(queue)
        self.max_batch = max(1, min(10, capacity))
        self.ordered = queue.fifo
        self._polls: set[asyncio.Task[list[SqsDelivery]]] = set()
        self._pause = 0.0
        """Seconds of the last pause after a long poll that ended at once without messages."""
        self._warned = False
        self._own_lease: Mapping[str, int] = {}
        """What a receive asks for where the queue itself gives no lease."""

    @override
    async def open(self) -> None:
        """Read the queue's attributes; raises `ChannelNotFound`."""
        attributes = await self._queue.attributes()
        self.lease = float(attributes.get("VisibilityTimeout") or 30)
        if not self.lease:  # the queue would hand a message out again while it is handled, to every free slot
            self.lease, self._own_lease = _OWN_LEASE_S, {"VisibilityTimeout": round(_OWN_LEASE_S)}
        policy = attributes.get("RedrivePolicy")
        if policy:
            parsed = load_json(policy)
            self.max_receive_count = int(parsed["maxReceiveCount"])
            if self.dead_letters is None:
                self.dead_letters = self._find_queue(parsed["deadLetterTargetArn"])

    @override
    async def receive(self, limit: int, *, wait: float = 20.0) -> Sequence[Delivery]:
        loop = asyncio.get_running_loop()
        until = loop.time() + wait
        while True:
            begun = loop.time()
            poll = math.ceil(min(max(until - begun, 0.0), self._long_poll))
            taken = await self._poll(min(limit, self.max_batch), poll)
            if taken or loop.time() - begun >= _MIN_LONG_POLL_S:
                self._pause = 0.0
            elif poll:
                await self._pause_until(until, poll)
            if self._filter is not None and taken:
                taken = await self._sift(taken, self._filter)
            if taken or loop.time() >= until:
                return taken

    async def _pause_until(self, until: float, poll: int) -> None:
        """Wait after a long poll that ended at once without messages, longer each time: each is billed."""
        if not self._pause and not self._warned:
            self._warned = True
            _log.warning("long_polls_end_at_once", channel=self.name, asked=poll, hint="does a proxy answer for SQS?")
        self._pause = min(max(_FIRST_PAUSE_S, self._pause * 2), _MAX_PAUSE_S)
        await asyncio.sleep(min(self._pause, max(0.0, until - asyncio.get_running_loop().time())))

    async def _poll(self, limit: int, wait: int) -> list[SqsDelivery]:
        """One long poll. Where the caller is cancelled, messages that still arrive are released."""
        poll = asyncio.create_task(self._receive(limit, wait), name=f"{self.name} long poll")
        try:
            return await asyncio.shield(poll)
        except asyncio.CancelledError:
            release = asyncio.create_task(self._release(poll), name=f"{self.name} release")
            self._polls.add(release)
            release.add_done_callback(self._polls.discard)
            raise

    async def _release(self, poll: asyncio.Task[list[SqsDelivery]]) -> list[SqsDelivery]:
        try:
            async with asyncio.timeout(_CANCEL_GRACE_S):
                taken = await poll
        except Exception:  # noqa: BLE001 - nothing came in time, or the poll failed: there is nothing to release
            return []
        with contextlib.suppress(Exception):  # their leases run out
            await self.nack(taken[::-1])
        return taken

    async def _receive(self, limit: int, wait: int) -> list[SqsDelivery]:
        parameters: dict[str, Any] = {
            "MaxNumberOfMessages": limit,
            "WaitTimeSeconds": wait,
            "MessageAttributeNames": ["All"],
            "MessageSystemAttributeNames": ["All"],
            **self._own_lease,
        }
        if self.ordered:
            # After a lost answer the same id brings the same messages, whose group would be locked otherwise.
            parameters["ReceiveRequestAttemptId"] = new_id()
        loop, lease = asyncio.get_running_loop(), self.lease or 30.0
        slack = min(1.0, lease / _SLACK_SHARE)
        attempt = 1
        while True:
            begun, lag = loop.time(), LoopLag(slack / 2)
            try:
                answer = await self._queue.call("ReceiveMessage", retry=False, measure=measure_received, **parameters)
            except ConnectionLost:
                if not self.ordered or attempt == _RECEIVE_ATTEMPTS:
                    raise
                attempt += 1
                await asyncio.sleep(0.1)
            else:
                break
            finally:
                late = lag.stop()
        # The lease began when SQS sent the answer. That was not before the call; and if the loop was never late, so
        # that it read its sockets all the time, it was at most `slack` ago.
        sent = begun if late else max(begun, loop.time() - slack)
        taken = self._deliveries(answer.get("Messages") or [], sent + lease)
        return await self._renewed(taken, lease) if late and loop.time() - begun > slack else taken

    async def _renewed(self, taken: list[SqsDelivery], lease: float) -> list[SqsDelivery]:
        """Renew leases that may have run while the answer waited in the socket of a blocked loop.

        Deliveries that cannot be renewed in time are left out: the queue delivers them again.
        """
        now = asyncio.get_running_loop().time()
        certain = {each: each.lease_until for each in taken}
        for each in taken:
            each.lease_until = None
        lost = {each.delivery for each in await self._settler.extend(taken, lease, lease=lease)}
        for each in taken:
            each.lease_until = certain[each] if each in lost else now + lease
        return [each for each in taken if (each.lease_until or 0.0) > now]

    def _deliveries(self, received: Any, until: float) -> list[SqsDelivery]:
        """The messages of an answer; one without a receipt handle cannot be settled and is delivered again."""
        entries = received if isinstance(received, list) else []
        usable = [each for each in entries if isinstance(each, dict) and isinstance(each.get("ReceiptHandle"), str)]
        if len(usable) < len(entries) or entries is not received:
            _log.error("receive_answer_malformed", channel=self.name, left_out=len(entries) - len(usable))
        return [self._delivery(each, until) for each in usable]

    def _delivery(self, received: Mapping[str, Any], until: float) -> SqsDelivery:
        system = received.get("Attributes") or {}
        attributes = received.get("MessageAttributes") or {}
        identity, body = received.get("MessageId"), received.get("Body")
        message, error = read_message(identity, body, system, attributes, codec=self._codec)
        error = checksum_error(received) or error
        delivery = SqsDelivery(self, message, receive_count=_count(system), lease_until=until, error=error)
        delivery.receipt = received["ReceiptHandle"]
        return delivery

    async def _sift(self, taken: list[SqsDelivery], filter: Predicate) -> list[SqsDelivery]:  # noqa: A002
        """Acknowledge the messages that the subscription's filter rejects; return the others."""
        kept = [each for each in taken if each.error is not None or self._passes(each, filter)]
        if len(kept) < len(taken):
            chosen = set(kept)
            await self.ack([each for each in taken if each not in chosen])
        return kept

    @staticmethod
    def _passes(delivery: SqsDelivery, filter: Predicate) -> bool:  # noqa: A002
        """Whether the filter accepts it; a filter that raises makes it a delivery with an error."""
        try:
            return filter(delivery.message)
        except Exception as error:  # noqa: BLE001 - it concerns this message only
            delivery.error = DecodeError(f"the subscription's filter failed on it: {type(error).__name__}: {error}")
            return True

    @override
    async def _ack(self, deliveries: Sequence[Delivery]) -> Sequence[Unsettled]:
        return await self._settler.delete(deliveries)

    @override
    async def _nack(self, deliveries: Sequence[Delivery], delay: float) -> Sequence[Unsettled]:
        return await self._settler.release(deliveries, delay)

    @override
    async def _extend(self, deliveries: Sequence[Delivery], seconds: float) -> Sequence[Unsettled]:
        return await self._settler.extend(deliveries, seconds, lease=self.lease)

    @override
    def extend_blocking(self, deliveries: Sequence[Delivery], seconds: float) -> Sequence[Unsettled]:
        return self._settler.extend_blocking(deliveries, seconds, lease=self.lease)

    @override
    async def aclose(self) -> None:
        """Wait until the messages of cancelled polls are released, at most a second."""
        if self._polls:
            await asyncio.wait(self._polls)


def _count(system: Any) -> int:
    """The receive count; 1 where it is missing or malformed."""
    try:
        return max(1, int(system["ApproximateReceiveCount"]))
    except (LookupError, TypeError, ValueError):
        return 1
