"""Redrive of a dead-letter queue: its messages back to where they failed, all or some, watched and bounded.

Each message is sent before it is taken off the dead-letter queue, so a redrive that is killed half-way loses nothing
and can simply be started again; the message it was busy with may then be there twice, with the same id. Within a
message group the order is kept: a group of which a message could not be sent, or is left by the filter, stays as it is
from there on. Where nothing is filtered or changed, the service moves the messages itself if it can, FIFO queues
included, and without a destination back to where each of them failed. SQS does not change what it moves, so that the
reason of the last failure stays in the headers until the next one. `Progress.how` says which way was taken, and why.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

from eip._logging import get_logger
from eip.channels import Delivery, Filter, Queue, Receiver, Sender, without_dead_letter_headers
from eip.clock import Duration, seconds
from eip.errors import (
    AccessDenied,
    ChannelNotFound,
    ConfigurationError,
    ConnectionLost,
    EipError,
    PartialSendError,
    Throttled,
    TransportError,
    error_text,
)
from eip.matching import as_predicate
from eip.message import Message
from eip.retry import Backoff

__all__ = ["Progress", "TransferReceiver", "redrive"]

_log = get_logger("eip.redrive")

_REMEMBERED: Final = 100_000
"""Ids of moved messages that are remembered."""
_MAX_LEFT: Final = 10_000
"""Messages that a filter may leave on the queue while they are held, so that they are not read over and over."""

_RETRY_BACKOFF: Final = Backoff(base=0.2, cap=5.0)
_ATTEMPTS: Final = 8
"""Receives that may fail for the moment, one after the other."""
_CALLS_A_SECOND: Final = 10
"""Calls that a rate is spread over: messages are sent one by one where it is lower."""


@runtime_checkable
class TransferReceiver(Protocol):
    """A queue whose service moves messages by itself (SQS: StartMessageMoveTask)."""

    async def move_messages(
        self,
        to: Sender | None,
        *,
        limit: int | None = None,
        rate: float | None = None,
        on_moved: Callable[[int], None] | None = None,
    ) -> int:
        """Move up to ``limit`` messages, ``rate`` a second at most; returns how many.

        ``to`` is None: to the queues that they failed on. ``on_moved`` is called with how many were moved so far.
        Raises `ConfigurationError` for what the service does not do by itself.
        """
        ...


@dataclass(slots=True, kw_only=True)
class Progress:
    """What a redrive did so far."""

    moved: int = 0
    """Sent and taken off the dead-letter queue; in a dry run: those that would be."""
    left: int = 0
    """Stay on the dead-letter queue: refused by the filter, of a group that is held up, or unreadable."""
    failed: int = 0
    """Could not be sent, or not be taken off after sending; they stay."""
    reasons: dict[str, int] = field(default_factory=dict)
    """How many were seen, by the first 100 characters of the reason for their failure; natively none are seen."""
    native: bool = field(default=False, compare=False)
    """Whether the service moved them."""
    how: str = field(default="", compare=False)
    """For people: by the service, or by copying, and why."""


async def redrive(
    dead_letters: Queue,
    to: Sender | None = None,
    *,
    filter: Filter | None = None,  # noqa: A002 - the library's term
    transform: Callable[[Message[Any]], Message[Any]] | None = None,
    rate: float | None = None,
    limit: int | None = None,
    dry_run: bool = False,
    keep_reason: bool = False,
    native: bool = True,
    idle: Duration = 2.0,
    on_progress: Callable[[Progress], None] | None = None,
) -> Progress:
    """Send the queue's messages to another channel and take them off; return a report once nothing more comes.

    Args:
        dead_letters: the queue; what it holds and nobody else has on lease is read once.
        to: usually the queue that they failed on. Default: the service moves each back to that; a dry run needs none.
        filter: only those are moved; the others stay, with their receive count raised by one.
        transform: what is sent instead; the id should stay, so that duplicates are known.
        rate: messages a second at most; natively on SQS a whole number up to 500.
        limit: messages to move at most.
        dry_run: move none, and say what would be; of a message group on SQS it sees the first ten.
        keep_reason: leave the traces of the failure in the headers, as for another dead-letter queue or an archive.
        native: False: copy, also where the service could move them: the reasons are counted, and leave the headers.
        idle: seconds without a message after which the queue counts as empty.
        on_progress: called after each call that sends, and after each batch.

    Raises:
        ConfigurationError: ``to`` is the dead-letter queue itself, or missing where the service does not move the
            messages back by itself; or an option that cannot be.
        TransportError: the dead-letter queue cannot be read, or the service failed to move them.
    """
    if to is not None and to.address == dead_letters.address:
        raise ConfigurationError(f"{dead_letters.name} would be redriven to itself")
    if (rate is not None and rate <= 0) or (limit is not None and limit < 1):
        raise ConfigurationError("rate and limit are more than 0")
    asked = {
        "filter": filter,
        "transform": transform,
        "limit": limit,
        "dry_run": dry_run,
        "keep_reason": keep_reason,
        "native=False": not native,
    }
    reason = _why_copied(dead_letters, to, [name for name, value in asked.items() if value])
    if not reason and isinstance(dead_letters, TransferReceiver):
        moved = await _moved_natively(dead_letters, to, rate, on_progress)
        if isinstance(moved, Progress):
            return moved
        reason = moved
    if to is None and not dry_run:
        raise ConfigurationError(f"to is needed where messages are copied ({reason}): name the destination queue")
    async with AsyncExitStack() as stack:
        held = _MAX_LEFT if filter is not None or dry_run else 100
        receiver = await stack.enter_async_context(dead_letters.receiver(capacity=held))
        run = _Run(
            receiver,
            dead_letters if to is None else to,  # a dry run sends nothing
            filter=filter,
            transform=_whole(transform) if keep_reason else _without_reason(transform),
            rate=rate,
            limit=limit,
            dry_run=dry_run,
            on_progress=on_progress,
        )
        run.progress.how = f"copied, then deleted: {reason}"
        keeper = asyncio.create_task(run.keep_leases(), name="redrive leases")
        stack.callback(keeper.cancel)
        try:
            async for batch in _batches(receiver, seconds(idle)):
                await run.batch(batch)
                if run.enough:
                    break
        finally:
            await run.give_back()
    if not dry_run:
        _log.info("redriven", queue=dead_letters.name, to=run.to, moved=run.progress.moved, left=run.progress.left)
    return run.progress


_Transform: TypeAlias = Callable[[Message[Any]], Message[Any]]


def _whole(transform: _Transform | None) -> _Transform:
    return (lambda message: message) if transform is None else transform


def _without_reason(transform: _Transform | None) -> _Transform:
    """What is sent: the message without the traces of its failure, and then transformed."""
    if transform is None:
        return without_dead_letter_headers
    return lambda message: transform(without_dead_letter_headers(message))


def _why_copied(dead_letters: Queue, to: Sender | None, asked: Sequence[str]) -> str:
    """Why the service cannot move them by itself; empty: it may."""
    if asked:
        return f"{', '.join(asked)} asked for"
    if not isinstance(dead_letters, TransferReceiver):
        return "this service moves no messages by itself"
    if to is not None and type(to) is not type(dead_letters):
        return "they go to another kind of channel"
    return ""


async def _moved_natively(
    dead_letters: TransferReceiver,
    to: Sender | None,
    rate: float | None,
    on_progress: Callable[[Progress], None] | None,
) -> Progress | str:
    """What the service moved, or why it did not."""

    def progress(moved: int) -> Progress:
        return Progress(moved=moved, native=True, how="moved by the service itself")

    report = None if on_progress is None else lambda moved: on_progress(progress(moved))
    try:
        return progress(await dead_letters.move_messages(to, rate=rate, on_moved=report))
    except EipError as error:  # the messages are moved here instead, where it is known to where
        if to is not None:
            return f"the service does not move them: {error_text(error)}"
        if isinstance(error, (AccessDenied, ChannelNotFound, Throttled)):
            raise
        kind = ConnectionLost if getattr(error, "transient", False) else ConfigurationError
        raise kind(
            f"the service did not move the messages back by itself ({error_text(error)}): "
            "name the destination queue, and they are copied to it"
        ) from error


async def _batches(receiver: Receiver, idle: float) -> AsyncIterator[list[Delivery]]:
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


class _Run:
    """One redrive; what it leaves alone stays on lease until the end, so that it is seen once."""

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
        """Whether it is over before the queue is empty."""
        return self._nothing_new or self._room(self.progress.moved) <= 0 or len(self._held) >= _MAX_LEFT

    def _room(self, moved: int) -> int:
        return _MAX_LEFT if self._limit is None else self._limit - moved

    async def batch(self, deliveries: list[Delivery]) -> None:
        """Move those of the batch that are to be moved."""
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
        """What is sent together, and the rest: of a group one, as a later one could be accepted without it."""
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
        """Send them and take them off; returns those that stay."""
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
        """Extend the leases of what is held, until cancelled."""
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
        """Give back what stays, the newest first."""
        if self._held:
            await self._receiver.nack(list(self._held)[::-1])
