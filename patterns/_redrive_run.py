"""One redrive by copying: each message is sent, then taken off; what stays is held until the end, and given back."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from eip._logging import get_logger
from eip.channels import Delivery, Filter, Receiver, Sender
from eip.errors import PartialSendError, TransportError
from eip.matching import as_predicate
from eip.message import Message
from eip.retry import Backoff

__all__ = ["MAX_LEFT", "Progress", "RedriveRun", "batches"]

_log = get_logger("eip.redrive")

_REMEMBERED: Final = 100_000
"""Ids of moved messages that are remembered."""
MAX_LEFT: Final = 10_000
"""Messages that a filter may leave on the queue while they are held, so that they are not read over and over."""

_RETRY_BACKOFF: Final = Backoff(base=0.2, cap=5.0)
_ATTEMPTS: Final = 8
"""Receives that may fail for the moment, one after the other."""
_CALLS_A_SECOND: Final = 10
"""Calls that a rate is spread over: messages are sent one by one where it is lower."""


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a redrive is."""

    moved: int = 0
    """Sent and taken off the dead-letter queue; in a dry run: those that would be."""
    left: int = 0
    """Stay on the dead-letter queue: refused by the filter, of a group that is held up, or unreadable."""
    failed: int = 0
    """Could not be sent, or not be taken off after sending; they stay."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Messages by the first 100 characters of the reason for their failure; empty where the service moved them."""
    native: bool = field(default=False, compare=False)
    """Whether the service moved them."""
    how: str = field(default="", compare=False)
    """For people: whether the service moved them or they were copied, and why."""


async def batches(receiver: Receiver, idle: float) -> AsyncIterator[list[Delivery]]:
    """Batches from the queue, until none came for ``idle`` seconds; failed receives are tried again."""
    failures = 0
    while True:
        try:
            batch = await receiver.receive(10, wait=idle)
        except TransportError as error:
            failures += 1
            if not error.transient or failures == _ATTEMPTS:
                raise
            await asyncio.sleep(_RETRY_BACKOFF.delay(failures))
            continue
        if not batch:
            return
        failures = 0
        yield list(batch)


class RedriveRun:
    """One redrive. Messages that it leaves stay on lease until the end, so that each is seen once."""

    def __init__(
        self,
        receiver: Receiver,
        to: Sender,
        *,
        filter: Filter | None,  # noqa: A002
        transform: Callable[[Message[Any]], Message[Any]],
        rate: float | None,
        limit: int | None,
        dry_run: bool,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.to = to.name
        self._on_progress = on_progress
        self.progress = Progress()
        self._receiver, self._to, self._transform = receiver, to, transform
        self._rate, self._limit, self._dry_run = rate, limit, dry_run
        self._wants = None if filter is None else as_predicate(filter)
        self._moved: OrderedDict[str, None] = OrderedDict()
        """Ids of what was moved: what comes back to the dead-letter queue meanwhile has failed again, and stays."""
        self._held: dict[Delivery, None] = {}
        """All that was received and not taken off, in that order."""
        self._left: set[str] = set()
        """Ids of those: one that comes again, because its lease could not be kept, is not counted again."""
        self._nothing_new = False
        self._stuck: set[str] = set()
        """Groups that have a message which stays: later ones must not overtake it."""
        self._next = 0.0

    @property
    def enough(self) -> bool:
        """Whether the redrive ends before the queue is empty."""
        return self._nothing_new or self._room(self.progress.moved) <= 0 or len(self._held) >= MAX_LEFT

    def _room(self, moved: int) -> int:
        return MAX_LEFT if self._limit is None else self._limit - moved

    async def batch(self, deliveries: list[Delivery]) -> None:
        """Move the messages of a batch that the filter lets through."""
        chosen: list[Delivery] = []
        self._held.update(dict.fromkeys(deliveries))
        new = [each for each in deliveries if each.message.id not in self._left]
        self._nothing_new = not new
        for delivery in new:
            reason = delivery.message.headers.get("dead-letter-reason", "unknown")[:100]
            self.progress.reasons[reason] = self.progress.reasons.get(reason, 0) + 1
            if self._moves(delivery) and self._room(self.progress.moved + len(chosen)) > 0:
                chosen.append(delivery)
            else:
                self._leave(delivery)
        if self._dry_run:
            self.progress.moved += len(chosen)
            chosen.clear()
        if not chosen:
            self._report()
        while chosen:
            call, chosen = self._call(chosen)
            await self._pace(len(call))
            failed = {self._group(each) for each in await self._move(call)} - {None}
            for overtaking in [each for each in chosen if self._group(each) in failed]:
                chosen.remove(overtaking)
                self._leave(overtaking)
            self._report()

    def _report(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.progress)

    def _group(self, delivery: Delivery) -> str | None:
        """The message group, where it orders anything."""
        return delivery.message.group_id if self._receiver.ordered else None

    def _moves(self, delivery: Delivery) -> bool:
        message = delivery.message
        if delivery.error is not None or self._group(delivery) in self._stuck or message.id in self._moved:
            return False
        try:
            return self._wants is None or self._wants(message)
        except Exception as error:  # noqa: BLE001 - a filter that fails on a message leaves it
            _log.warning("redrive_filter_failed", message_id=message.id, error=repr(error))
            return False

    def _call(self, chosen: list[Delivery]) -> tuple[list[Delivery], list[Delivery]]:
        """One call, and the rest. A call has one message of a group: a later one could be accepted without it."""
        most = len(chosen) if self._rate is None else max(1, int(self._rate / _CALLS_A_SECOND))
        call: list[Delivery] = []
        rest: list[Delivery] = []
        groups: set[str] = set()
        for delivery in chosen:
            group = self._group(delivery)
            if group in groups or len(call) == most:
                rest.append(delivery)
            else:
                call.append(delivery)
            if group is not None:
                groups.add(group)
        return call, rest

    async def _move(self, call: list[Delivery]) -> list[Delivery]:
        """Send the messages and delete them; returns those that stay."""
        messages: dict[Delivery, Message[Any]] = {}
        failed: dict[Delivery, Exception] = {}
        for delivery in call:
            try:
                messages[delivery] = self._transform(delivery.message)
            except Exception as error:  # noqa: BLE001 - it stays; one message's failure must not end the redrive
                failed[delivery] = error
        failed |= await self._send(messages)
        sent = [delivery for delivery in messages if delivery not in failed]
        if sent:
            failed |= {each.delivery: each.error for each in await self._receiver.ack(sent)}
        for delivery in call:
            if delivery in failed:
                self._fail(delivery, failed[delivery])
            else:
                del self._held[delivery]
                self.progress.moved += 1
                self._remember(delivery.message.id)
        return list(failed)

    def _remember(self, moved: str) -> None:
        self._moved[moved] = None
        if len(self._moved) > _REMEMBERED:
            self._moved.popitem(last=False)

    async def _send(self, messages: Mapping[Delivery, Message[Any]]) -> dict[Delivery, Exception]:
        """Send all of them; returns the failures."""
        try:
            if messages:
                await self._to.send(*messages.values())
        except PartialSendError as error:
            errors = {id(each.message): each.error for each in error.failed}
            return {each: errors[id(sent)] for each, sent in messages.items() if id(sent) in errors}
        except Exception as error:  # noqa: BLE001 - they stay
            if len(messages) == 1 or getattr(error, "transient", False):
                return dict.fromkeys(messages, error)
            # One of them cannot be sent: send each by itself.
            return {key: why for each in messages.items() for key, why in (await self._send(dict([each]))).items()}
        return {}

    def _fail(self, delivery: Delivery, error: Exception) -> None:
        _log.warning("redrive_failed", message_id=delivery.message.id, error=repr(error))
        self.progress.failed += 1
        self._leave(delivery, count=False)

    def _leave(self, delivery: Delivery, *, count: bool = True) -> None:
        self.progress.left += count
        self._left.add(delivery.message.id)
        if delivery.error is not None:
            _log.warning("redrive_unreadable", message_id=delivery.message.id, error=str(delivery.error))
        group = self._group(delivery)
        if group is not None:
            self._stuck.add(group)

    async def _pace(self, count: int) -> None:
        if self._rate is None:
            return
        now = asyncio.get_running_loop().time()
        if self._next > now:
            await asyncio.sleep(self._next - now)
        self._next = max(self._next, now) + count / self._rate

    async def keep_leases(self) -> None:
        """Extend the leases of the held messages, until cancelled."""
        lease = self._receiver.lease
        if lease is None:
            return
        while True:
            await asyncio.sleep(lease / 3)
            held = list(self._held)
            for start in range(0, len(held), 10):
                try:
                    await self._receiver.extend(held[start : start + 10], lease)
                except Exception as error:  # noqa: BLE001 - the next round tries again, until the leases end
                    _log.warning("redrive_leases_not_extended", error=repr(error))

    async def give_back(self) -> None:
        """Give the messages that stay back, the newest first."""
        if self._held:
            await self._receiver.nack(list(self._held)[::-1])
