"""Redrive of a dead-letter queue: its messages back to where they failed, all or some, watched and bounded.

Each message is sent before it is taken off the dead-letter queue, so a redrive that is killed half-way loses nothing
and can simply be started again; the message it was busy with may then be there twice, with the same id. Within a
message group the order is kept: a group of which a message could not be sent, or is left by the filter, stays as it is
from there on. Where nothing is filtered, changed or paced, the service moves the messages itself if it can.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

import structlog

from eip.channels import Delivery, Filter, Queue, Receiver, Sender, revived
from eip.clock import Duration, seconds
from eip.errors import ConfigurationError, EipError
from eip.matching import as_predicate
from eip.message import Message

__all__ = ["Moves", "Progress", "redrive"]

_log = structlog.get_logger("eip.redrive")

_MOST_LEFT: Final = 10_000
"""Messages that a filter may leave on the queue while they are held, so that they are not read over and over."""


@runtime_checkable
class Moves(Protocol):
    """A queue whose service moves messages by itself (SQS: StartMessageMoveTask)."""

    async def move_messages(self, to: Sender, *, limit: int | None = None) -> int:
        """Move up to ``limit`` messages; returns how many."""
        ...


@dataclass(slots=True, kw_only=True)
class Progress:
    """What a redrive did so far."""

    moved: int = 0
    """Sent and taken off the dead-letter queue; in a dry run: those that would be."""
    left: int = 0
    """Stay on the dead-letter queue: not wanted, of a group that is held up, or unreadable."""
    failed: int = 0
    """Could not be sent, or not be taken off after sending; they stay."""
    reasons: dict[str, int] = field(default_factory=dict)
    """How many were seen by the reason they failed for, the first 100 characters of it."""


async def redrive(
    dead_letters: Queue,
    to: Sender,
    *,
    wanted: Filter | None = None,
    transform: Callable[[Message[Any]], Message[Any]] | None = None,
    rate: float | None = None,
    limit: int | None = None,
    dry_run: bool = False,
    idle: Duration = 2.0,
    on_progress: Callable[[Progress], None] | None = None,
) -> Progress:
    """Send the queue's messages to another channel and take them off; returns what was done when nothing more comes.

    Args:
        dead_letters: the queue; what it holds and nobody else has on lease is read once.
        to: usually the queue that they failed on.
        wanted: only those are moved; the others stay, with their receive count raised by one.
        transform: what is sent instead; the id should stay, so that duplicates are known.
        rate: messages a second at most.
        limit: messages to move at most.
        dry_run: move none, and say what would be; of a message group on SQS it sees the first ten.
        idle: seconds without a message after which the queue counts as empty.
        on_progress: called after each batch.

    Raises:
        ConfigurationError: ``to`` is the dead-letter queue itself, or an option that cannot be.
        TransportError: the dead-letter queue cannot be read.
    """
    if to.address == dead_letters.address:
        raise ConfigurationError(f"{dead_letters.name} would be redriven to itself")
    if (rate is not None and rate <= 0) or (limit is not None and limit < 1):
        raise ConfigurationError("rate and limit are more than 0")
    plain = wanted is None and transform is None and rate is None and limit is None and not dry_run
    if plain and on_progress is None and isinstance(dead_letters, Moves) and type(to) is type(dead_letters):
        with contextlib.suppress(EipError):  # then it is done here
            return Progress(moved=await dead_letters.move_messages(to))
    run = _Run(to, wanted, transform, rate, limit, dry_run=dry_run)
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(dead_letters.receiver(capacity=10))
        keeper = asyncio.create_task(run.keep_leases(receiver), name="redrive leases")
        stack.callback(keeper.cancel)
        async for batch in _batches(receiver, seconds(idle)):
            await run.batch(batch)
            if on_progress is not None:
                on_progress(run.progress)
            if run.enough:
                break
        await run.give_back(receiver)
    _log.info("redriven", queue=dead_letters.name, to=to.name, moved=run.progress.moved, left=run.progress.left)
    return run.progress


async def _batches(receiver: Receiver, idle: float) -> AsyncIterator[list[Delivery]]:
    while batch := await receiver.receive(10, wait=idle):
        yield list(batch)


class _Run:
    """One redrive; what it leaves alone stays on lease until the end, so that it is seen once."""

    def __init__(
        self,
        to: Sender,
        wanted: Filter | None,
        transform: Callable[[Message[Any]], Message[Any]] | None,
        rate: float | None,
        limit: int | None,
        *,
        dry_run: bool,
    ) -> None:
        self.progress = Progress()
        self._to, self._transform, self._rate, self._limit, self._dry_run = to, transform, rate, limit, dry_run
        self._wants = None if wanted is None else as_predicate(wanted)
        self._held: list[Delivery] = []
        self._stuck: set[str] = set()
        """Groups that have a message which stays: later ones must not overtake it."""
        self._next = 0.0

    @property
    def enough(self) -> bool:
        """Whether it is over before the queue is empty."""
        moved = self._limit is not None and self.progress.moved >= self._limit
        return moved or len(self._held) >= _MOST_LEFT

    async def batch(self, deliveries: list[Delivery]) -> None:
        """Move those of the batch that are to be moved, one after the other."""
        for delivery in deliveries:
            reason = delivery.message.headers.get("dead-letter-reason", "unknown")[:100]
            self.progress.reasons[reason] = self.progress.reasons.get(reason, 0) + 1
            if self.enough or not self._moves(delivery):
                self._leave(delivery)
                continue
            if self._dry_run:
                self.progress.moved += 1
                self._held.append(delivery)
                continue
            await self._pace()
            await self._move(delivery)

    def _moves(self, delivery: Delivery) -> bool:
        message = delivery.message
        if delivery.error is not None or message.group_id in self._stuck:
            return False
        try:
            return self._wants is None or self._wants(message)
        except Exception as error:  # noqa: BLE001 - a filter that fails on a message leaves it
            _log.warning("redrive_filter_failed", message_id=message.id, error=repr(error))
            return False

    async def _move(self, delivery: Delivery) -> None:
        message = revived(delivery.message)
        try:
            await self._to.send(message if self._transform is None else self._transform(message))
            await delivery.ack()
        except Exception as error:  # noqa: BLE001 - it stays; one message's failure must not end the redrive
            _log.warning("redrive_failed", message_id=message.id, error=repr(error))
            self.progress.failed += 1
            self._leave(delivery, count=False)
        else:
            self.progress.moved += 1

    def _leave(self, delivery: Delivery, *, count: bool = True) -> None:
        self.progress.left += count
        self._held.append(delivery)
        if delivery.message.group_id is not None:
            self._stuck.add(delivery.message.group_id)

    async def _pace(self) -> None:
        if self._rate is None:
            return
        now = asyncio.get_running_loop().time()
        if self._next > now:
            await asyncio.sleep(self._next - now)
        self._next = max(self._next, now) + 1 / self._rate

    async def keep_leases(self, receiver: Receiver) -> None:
        """Extend the leases of what is left, until cancelled."""
        if receiver.lease is None:
            return
        while True:
            await asyncio.sleep(receiver.lease / 3)
            for start in range(0, len(self._held), 10):
                await receiver.extend(self._held[start : start + 10], receiver.lease)

    async def give_back(self, receiver: Receiver) -> None:
        """Give back what stays, the newest first."""
        if self._held:
            await receiver.nack(self._held[::-1])
