"""Amazon SQS: standard and FIFO queues.

Delivery is at-least-once on both: FIFO queues drop what is *sent* twice within five minutes, but a lease that ends
before the ack means another delivery. Sources: Amazon SQS Developer Guide and API Reference, 2026.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from eip import limits
from eip._checks import check_duration, check_integer, check_message
from eip._ids import new_id, to_native_id
from eip._logging import get_logger
from eip.channels import Delivery, Queue, Receiver, Sender, Unsettled
from eip.clock import Duration
from eip.codec import JSON, Codec, load_json
from eip.envelope import encoded_for
from eip.errors import (
    AccessDenied,
    ChannelNotFound,
    ConfigurationError,
    ConnectionLost,
    DecodeError,
    EipError,
    InvalidMessage,
    TransportError,
)
from eip.message import Message
from eip.transports.aws._answers import checksum_error, outcomes_of
from eip.transports.aws._attributes import carried, fifo_ids, native_fields
from eip.transports.aws._outbox import Entry, Outbox, Outcome
from eip.transports.aws._reading import read_message
from eip.transports.aws._tracing import to_xray

if TYPE_CHECKING:
    from eip.transports.aws.transport import AwsTransport

_log = get_logger("eip.sqs")

__all__ = ["SqsDelivery", "SqsQueue", "SqsReceiver", "units_of"]

_LONGEST_LEASE: Final = 43_200
_CHANGE: Final = "ChangeMessageVisibilityBatch"
_AFTER_CANCEL: Final = 1.0
"""Seconds that a cancelled poll is still listened to: what it brings is released instead of waiting for its lease."""
_RECEIVE_ATTEMPTS: Final = 3
_BLOCKING_TIMEOUT: Final = 3.0
"""Seconds of a call from another thread, at most."""
_TOO_SOON: Final = 0.5
"""Seconds before which no long poll should end with nothing."""
_PAUSES: Final = (0.1, 5.0)
"""Seconds between such polls, the first and the longest."""
_SLACK: Final = 20
"""Part of a lease that is given up, since an answer takes its time to come; at most a second."""
_LOOK_AGAIN: Final = 1.0
"""Seconds between looks at a task that the service works on."""


class SqsQueue(Queue):
    """A queue; `AwsTransport.queue` makes it. It must exist: declare it with `eip.topology`.

    Its attributes (visibility timeout, redrive policy) are read once, at the first use.
    """

    limits = limits.SQS

    def __init__(
        self,
        transport: AwsTransport,
        address: str,
        *,
        linger: float = 0.0,
        codec: Codec = JSON,
        fair: bool = True,
    ) -> None:
        self._transport, self.address, self.codec = transport, address, codec
        self.name = address.rpartition(":")[2]
        self.fifo = self.name.endswith(".fifo")
        self._fair = fair and not self.fifo
        """Whether messages of a standard queue carry their group id, for fair queues."""
        self._outbox = Outbox(self._send_batch, self.limits, linger=linger)
        self._asking: asyncio.Task[str] | None = None
        self._url: str | None = None
        self._attributes: Mapping[str, str] | None = None
        self._by_content: bool | None = None if self.fifo else False

    async def send(self, *messages: Message[Any], delay: Duration = 0.0) -> None:
        """See `Queue.send`; ``delay`` up to 15 minutes, none on a FIFO queue.

        On a FIFO queue a message is deduplicated by its ``deduplication_id``; without one by its id, or by its body
        where the queue was declared with content-based deduplication. Where the service refused a message for the
        moment but took later ones of its group in the same call, it is reported as failed and not sent again: that
        would break the order.
        """
        try:
            seconds = check_duration("delay", delay, most=self.limits.max_delay)
        except ConfigurationError as error:
            raise InvalidMessage(f"{self.name}: {error}") from None
        if seconds and self.fifo:
            raise InvalidMessage(f"{self.name} is FIFO: it has no delay per message")
        if self._by_content is None:
            self._by_content = await self._deduplicates_by_content()
        entries = [self._entry(message, math.ceil(seconds)) for message in messages]
        if entries:
            await self._outbox.send(entries)

    def receiver(self, *, capacity: int = 10) -> Receiver:
        """A receiver; any number, in any process, may share the queue."""
        check_integer("capacity", capacity, least=1)
        return SqsReceiver(self, capacity=capacity, codec=self.codec)

    async def flush(self) -> None:
        """Return when everything was sent, or given up."""
        await self._outbox.flush()

    async def aclose(self, *, limit: float) -> None:
        """Flush in at most ``limit`` seconds; `AwsTransport.aclose` does it."""
        await self._outbox.aclose(limit=limit)
        if self._asking is not None:
            self._asking.cancel()

    async def url(self) -> str:
        """The queue's URL; raises `ChannelNotFound`. All who ask at once wait for the same call."""
        if self._url is None:
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask_url(), name=f"{self.name} url")
                self._asking.add_done_callback(_outcome_seen)
            self._url = await asyncio.shield(self._asking)
        return self._url

    async def _ask_url(self) -> str:
        _, _, _, _, account, name = self.address.split(":")
        try:
            answer = await self._transport.call(
                "sqs", "GetQueueUrl", channel=self.name, QueueName=name, QueueOwnerAWSAccountId=account
            )
        except ChannelNotFound as error:
            raise ChannelNotFound(f"no queue {self.name}; declare it with eip.topology") from error
        return str(answer["QueueUrl"])

    async def attributes(self) -> Mapping[str, str]:
        """The queue's attributes, as the service tells them; read once."""
        if self._attributes is None:
            answer = await self.call("GetQueueAttributes", AttributeNames=["All"])
            self._attributes = answer.get("Attributes", {})
        return self._attributes

    def changed(self) -> None:
        """Its attributes were set: they are read again when next needed."""
        self._attributes = None
        self._by_content = None if self.fifo else False

    async def depth(self) -> dict[str, int]:
        """About how many messages are ready, delayed and on lease; asks the service each time."""
        wanted = {
            "ApproximateNumberOfMessages": "ready",
            "ApproximateNumberOfMessagesDelayed": "delayed",
            "ApproximateNumberOfMessagesNotVisible": "leased",
        }
        answer = await self.call("GetQueueAttributes", AttributeNames=list(wanted))
        return {name: int(answer["Attributes"].get(key, 0)) for key, name in wanted.items()}

    async def move_messages(self, to: Sender, *, limit: int | None = None) -> int:
        """Have the service move all messages of this dead-letter queue to another queue; returns about how many.

        Waits until that is done; 500 messages a second. Raises `ConfigurationError` for what the service cannot do: a
        ``limit``, a destination that is no queue, a queue that is no dead-letter queue.
        """
        if limit is not None or not isinstance(to, SqsQueue):
            raise ConfigurationError("SQS moves all of a dead-letter queue to a queue, or nothing")
        task = await self._transport.call(
            "sqs", "StartMessageMoveTask", channel=self.name, SourceArn=self.address, DestinationArn=to.address
        )
        while True:
            answer = await self._transport.call(
                "sqs", "ListMessageMoveTasks", channel=self.name, SourceArn=self.address, MaxResults=10
            )
            found = next((each for each in answer["Results"] if each.get("TaskHandle") == task["TaskHandle"]), None)
            found = found or next(iter(answer["Results"]), {"Status": "FAILED", "FailureReason": "not listed"})
            if found["Status"] == "COMPLETED":
                return int(found.get("ApproximateNumberOfMessagesMoved", 0))
            if found["Status"] in ("FAILED", "CANCELLED"):
                raise TransportError(f"moving ended: {found.get('FailureReason', found['Status'])}")
            await asyncio.sleep(_LOOK_AGAIN)

    async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """A call on this queue."""
        url = self._url or await self.url()
        return await self._transport.call("sqs", operation, channel=self.name, QueueUrl=url, **parameters)

    def call_blocking(self, operation: str, *, timeout: float, **parameters: Any) -> dict[str, Any]:
        """A hot call on this queue from another thread, while the event loop is blocked."""
        if self._url is None:
            raise TransportError(f"{self.name} has not been used yet")
        return self._transport.call_blocking("sqs", operation, timeout=timeout, QueueUrl=self._url, **parameters)

    def dead_letter_queue(self, address: str) -> SqsQueue:
        """The queue of a redrive policy."""
        return self._transport.queue(address)

    @property
    def long_poll(self) -> float:
        """Seconds of a long poll at most."""
        return self._transport.long_poll

    async def _deduplicates_by_content(self) -> bool:
        try:
            return (await self.attributes()).get("ContentBasedDeduplication") == "true"
        except AccessDenied:  # one that may only send: then every message has an id, which is right for either
            return False

    def _entry(self, message: Message[Any], delay: int) -> Entry:
        check_message(message)
        if self.fifo and message.group_id is None:
            raise InvalidMessage(f"{self.name} is FIFO: a message needs a group_id")
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
            return fifo_ids(message, by_content=bool(self._by_content))
        if message.group_id is None or not self._fair:
            return {}
        return {"MessageGroupId": to_native_id(message.group_id)}

    async def _send_batch(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        if not self._fair:
            return await self._send_call(entries)
        try:
            outcomes = await self._send_call(entries)
        except EipError as error:
            if not _refuses_groups(error):
                raise
            outcomes = [error] * len(entries)
        refused = [place for place, outcome in enumerate(outcomes) if outcome and _refuses_groups(outcome)]
        if not refused or not any("MessageGroupId" in entries[place].payload for place in refused):
            return outcomes
        _log.warning("fair_queues_refused", queue=self.name, error=str(outcomes[refused[0]]))
        self._fair = False
        again = [self._without_group(entries[place]) for place in refused]
        sent = await self._send_call(again)
        found = dict(zip(refused, sent, strict=True))
        return [found.get(place, outcome) for place, outcome in enumerate(outcomes)]

    def _without_group(self, entry: Entry) -> Entry:
        """The entry for a queue that takes no group id: it is in the envelope."""
        return self._entry(entry.message, entry.payload.get("DelaySeconds", 0))

    async def _send_call(self, entries: Sequence[Entry]) -> list[Outcome]:
        size = sum(entry.size for entry in entries)
        answer = await self.call(
            "SendMessageBatch",
            Entries=[{"Id": str(index), **entry.payload} for index, entry in enumerate(entries)],
            messages=len(entries),
            size=size,
            units=units_of(size),
            retry=False,
        )
        return outcomes_of("sqs", "SendMessageBatch", answer, entries)

    def __repr__(self) -> str:
        return f"<SqsQueue {self.name}>"


class SqsDelivery(Delivery):
    """A message on lease, with its receipt handle."""

    __slots__ = ("receipt",)

    def __init__(self, receiver: Receiver, message: Message[Any], *, receipt: str, **state: Any) -> None:
        super().__init__(receiver, message, **state)
        self.receipt = receipt


class SqsReceiver(Receiver):
    """Leases a queue's messages by long polls.

    Args:
        queue: what it receives from.
        capacity: most deliveries that its consumer holds.
        codec: decodes the bodies of foreign producers.
        wanted: whether a message is for us; others are acknowledged unseen.
    """

    settle_batch = 10

    def __init__(
        self,
        queue: SqsQueue,
        *,
        capacity: int,
        codec: Codec = JSON,
        wanted: Callable[[Message[Any]], bool] | None = None,
    ) -> None:
        self.name, self._queue, self._codec, self._wanted = queue.name, queue, codec, wanted
        self.max_batch = max(1, min(10, capacity))
        self.ordered = queue.fifo
        self._polls: set[asyncio.Task[list[SqsDelivery]]] = set()
        self._pause = 0.0
        """Seconds waited after the last long poll that ended at once with nothing."""
        self._warned = False

    async def open(self) -> None:
        """Read the queue's attributes; raises `ChannelNotFound`."""
        attributes = await self._queue.attributes()
        self.lease = float(attributes.get("VisibilityTimeout", 30))
        policy = attributes.get("RedrivePolicy")
        if policy:
            parsed = load_json(policy)
            self.max_receive_count = int(parsed["maxReceiveCount"])
            if self.dead_letters is None:
                self.dead_letters = self._queue.dead_letter_queue(parsed["deadLetterTargetArn"])

    async def receive(self, limit: int, *, wait: float = 20.0) -> Sequence[Delivery]:
        """See `Receiver.receive`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + wait
        while True:
            begun = loop.time()
            poll = math.ceil(min(max(until - begun, 0.0), self._queue.long_poll, limits.SQS.long_poll or 0.0))
            taken = await self._poll(min(limit, self.max_batch), poll)
            if taken or loop.time() - begun >= _TOO_SOON:
                self._pause = 0.0
            elif poll:
                await self._pause_until(until, poll)
            if self._wanted is not None and taken:
                taken = await self._sift(taken, self._wanted)
            if taken or loop.time() >= until:
                return taken

    async def _pause_until(self, until: float, poll: int) -> None:
        """Wait after a long poll that ended at once with nothing: each is billed. Waits longer each time."""
        if not self._pause and not self._warned:
            self._warned = True
            _log.warning("long_polls_end_at_once", channel=self.name, asked=poll, hint="does a proxy answer for SQS?")
        first, longest = _PAUSES
        self._pause = min(max(first, self._pause * 2), longest)
        await asyncio.sleep(min(self._pause, max(0.0, until - asyncio.get_running_loop().time())))

    async def _poll(self, limit: int, wait: int) -> list[SqsDelivery]:
        """One long poll; cancelled, it is listened to a little longer, and what comes is released."""
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
            async with asyncio.timeout(_AFTER_CANCEL):
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
            "AttributeNames": ["All"],
        }
        if self.ordered:
            # After a lost answer the same id brings the same messages, whose group would be locked otherwise.
            parameters["ReceiveRequestAttemptId"] = new_id()
        loop, lease = asyncio.get_running_loop(), self.lease or 30.0
        slack = min(1.0, lease / _SLACK)
        attempt = 1
        while True:
            begun, lag = loop.time(), _LoopLag(slack / 2)
            try:
                answer = await self._queue.call("ReceiveMessage", retry=False, measure=_received, **parameters)
            except ConnectionLost:
                if not self.ordered or attempt == _RECEIVE_ATTEMPTS:
                    raise
                attempt += 1
                await asyncio.sleep(0.1)
            else:
                break
            finally:
                late = lag.stop()
        # The lease began when SQS sent the answer: not before the call, and where the loop read its sockets all the
        # time, not longer ago than the slack.
        sent = begun if late else max(begun, loop.time() - slack)
        taken = self._deliveries(answer.get("Messages") or [], sent + lease)
        return await self._renewed(taken, lease) if late and loop.time() - begun > slack else taken

    async def _renewed(self, taken: list[SqsDelivery], lease: float) -> list[SqsDelivery]:
        """Renew leases that may have ended in the socket of a blocked loop; what cannot be renewed comes again."""
        now = asyncio.get_running_loop().time()
        certain = {each: each.lease_until for each in taken}
        for each in taken:
            each.lease_until = None
        lost = {each.delivery for each in await self._extend(taken, lease)}
        for each in taken:
            each.lease_until = certain[each] if each in lost else now + lease
        return [each for each in taken if (each.lease_until or 0.0) > now]

    def _deliveries(self, received: Any, until: float) -> list[SqsDelivery]:
        """What a receive brought; an entry without a receipt cannot be settled, and comes again."""
        entries = received if isinstance(received, list) else []
        usable = [each for each in entries if isinstance(each, Mapping) and isinstance(each.get("ReceiptHandle"), str)]
        if len(usable) < len(entries) or entries is not received:
            _log.error("receive_answer_malformed", channel=self.name, left_out=len(entries) - len(usable))
        return [self._delivery(each, until) for each in usable]

    def _delivery(self, received: Mapping[str, Any], until: float) -> SqsDelivery:
        system = received.get("Attributes") or {}
        attributes = received.get("MessageAttributes") or {}
        identity, body = received.get("MessageId"), received.get("Body")
        message, error = read_message(identity, body, system, attributes, codec=self._codec)
        return SqsDelivery(
            self,
            message,
            receipt=received["ReceiptHandle"],
            receive_count=_count(system),
            lease_until=until,
            error=checksum_error(received) or error,
        )

    async def _sift(self, taken: list[SqsDelivery], wanted: Callable[[Message[Any]], bool]) -> list[SqsDelivery]:
        """Acknowledge what the subscription's filter does not let through."""
        kept = [each for each in taken if each.error is not None or self._passes(each, wanted)]
        if len(kept) < len(taken):
            chosen = set(kept)
            await self.ack([each for each in taken if each not in chosen])
        return kept

    @staticmethod
    def _passes(delivery: SqsDelivery, wanted: Callable[[Message[Any]], bool]) -> bool:
        """Whether the filter lets it through; a filter that fails on a message is that message's error."""
        try:
            return wanted(delivery.message)
        except Exception as error:  # noqa: BLE001 - the neighbours must not pay for it
            delivery.error = DecodeError(f"the subscription's filter failed on it: {type(error).__name__}: {error}")
            return True

    async def _ack(self, deliveries: Sequence[Delivery]) -> Sequence[Unsettled]:
        return await self._batches("DeleteMessageBatch", deliveries)

    async def _nack(self, deliveries: Sequence[Delivery], delay: float) -> Sequence[Unsettled]:
        return await self._batches(_CHANGE, deliveries, VisibilityTimeout=_visibility(delay))

    async def _extend(self, deliveries: Sequence[Delivery], seconds: float) -> Sequence[Unsettled]:
        # Once: the next heartbeat is the next attempt, and comes in time only if this one does not hang.
        patience = max(1.0, (self.lease or 30.0) / 6)
        return await self._batches(
            _CHANGE, deliveries, heartbeat=True, patience=patience, VisibilityTimeout=_visibility(seconds)
        )

    def extend_blocking(self, deliveries: Sequence[Delivery], seconds: float) -> Sequence[Unsettled]:
        """See `Receiver.extend_blocking`."""
        timeout = min(_BLOCKING_TIMEOUT, max(0.5, (self.lease or 30.0) / 8))
        failed: list[Unsettled] = []
        for start in range(0, len(deliveries), 10):
            batch = deliveries[start : start + 10]
            entries = _entries(batch, VisibilityTimeout=_visibility(seconds))
            try:
                answer = self._queue.call_blocking(_CHANGE, timeout=timeout, Entries=entries)
            except Exception as error:  # noqa: BLE001 - reported for each
                failed += [Unsettled(delivery, error) for delivery in batch]
            else:
                failed += _unsettled(batch, outcomes_of("sqs", _CHANGE, answer, batch))
        return failed

    async def _batches(
        self,
        operation: str,
        deliveries: Sequence[Delivery],
        *,
        heartbeat: bool = False,
        patience: float = math.inf,
        **each: Any,
    ) -> list[Unsettled]:
        """The operation on all, ten a call, one call after the other so that their order is kept.

        Tried again for ``patience`` seconds at most, and not beyond a lease: an old receipt may be another's by then.
        """
        failed: list[Unsettled] = []
        for start in range(0, len(deliveries), 10):
            batch = deliveries[start : start + 10]
            entries = _entries(batch, **each)
            until = min(each.lease_until or math.inf for each in batch)
            until = min(until, asyncio.get_running_loop().time() + patience)
            try:
                answer = await self._queue.call(
                    operation,
                    Entries=entries,
                    messages=len(entries),
                    heartbeats=len(entries) if heartbeat else 0,
                    retry=not heartbeat,
                    until=until,
                )
            except Exception as error:  # noqa: BLE001 - reported for each
                failed += [Unsettled(delivery, error) for delivery in batch]
                continue
            failed += _unsettled(batch, outcomes_of("sqs", operation, answer, batch))
        return failed

    async def aclose(self) -> None:
        """Wait, for a moment, for what cancelled polls still bring, and release it."""
        if self._polls:
            await asyncio.wait(self._polls)


class _LoopLag:
    """Notices whether the event loop was held up while something was awaited.

    Args:
        interval: seconds between two looks. A loop that stood still for twice as long was late.
    """

    def __init__(self, interval: float) -> None:
        self._loop, self._interval = asyncio.get_running_loop(), interval
        self._late = False
        self._due = self._loop.time() + interval
        self._timer = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        self._note()
        self._due = self._loop.time() + self._interval
        self._timer = self._loop.call_at(self._due, self._look)

    def _note(self) -> None:
        self._late = self._late or self._loop.time() > self._due + self._interval

    def stop(self) -> bool:
        """Return whether the loop was late."""
        self._timer.cancel()
        self._note()
        return self._late


def _outcome_seen(asking: asyncio.Task[str]) -> None:
    """Those who asked may have been cancelled; its error is nobody's then."""
    if not asking.cancelled():
        asking.exception()


def _entries(batch: Sequence[Delivery], **each: Any) -> list[dict[str, Any]]:
    """Ids are indices: a message that was delivered twice into one batch must not make a double id."""
    return [
        {"Id": str(index), "ReceiptHandle": delivery.receipt, **each}
        for index, delivery in enumerate(batch)
        if isinstance(delivery, SqsDelivery)
    ]


def _unsettled(batch: Sequence[Delivery], outcomes: Sequence[Outcome]) -> list[Unsettled]:
    failed = zip(batch, outcomes, strict=True)
    return [Unsettled(delivery, outcome) for delivery, outcome in failed if outcome is not None]


def _refuses_groups(error: Exception) -> bool:
    """Whether a standard queue refused a group id: a partition, or an emulator, without fair queues."""
    text = str(error)
    return not getattr(error, "transient", False) and ("MessageGroupId" in text or "queue type" in text)


def _visibility(seconds: float) -> int:
    return min(math.ceil(seconds), _LONGEST_LEASE)


def _count(system: Any) -> int:
    """How often the message was received; 1 where the queue gives no number."""
    try:
        return max(1, int(system["ApproximateReceiveCount"]))
    except (LookupError, TypeError, ValueError):
        return 1


def _received(answer: Mapping[str, Any]) -> tuple[int, int, int]:
    """The messages of an answer, their bytes with attributes, and what is billed for them."""
    found = answer.get("Messages")
    messages = [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []
    size = sum(len(str(each.get("Body", "")).encode("utf-8", "replace")) + _size_of(each) for each in messages)
    return len(messages), size, units_of(size)


def _size_of(message: Mapping[str, Any]) -> int:
    attributes = message.get("MessageAttributes")
    if not isinstance(attributes, Mapping):
        return 0
    return sum(
        len(name) + sum(len(part if isinstance(part, bytes) else str(part).encode()) for part in each.values())
        for name, each in attributes.items()
        if isinstance(each, Mapping)
    )


def units_of(size: int) -> int:
    """Billed requests: one per 64 KiB begun."""
    return max(1, -(-size // (limits.SQS.unit_bytes or 1)))
