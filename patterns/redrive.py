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
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Protocol, TypeAlias, runtime_checkable

from eip._checks import check_integer
from eip._logging import get_logger
from eip.channels import Filter, Queue, Sender, without_dead_letter_headers
from eip.clock import Duration, seconds
from eip.errors import (
    AccessDenied,
    ChannelNotFound,
    ConfigurationError,
    ConnectionLost,
    EipError,
    Throttled,
    error_text,
)
from eip.message import Message
from eip.patterns._redrive_run import MAX_LEFT, Progress, RedriveRun, batches

__all__ = ["Progress", "TransferReceiver", "redrive"]

_log = get_logger("eip.redrive")


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
        dry_run: move none, and report what would be moved; on SQS it sees the first ten of each message group.
        keep_reason: leave the traces of the failure in the headers, as for another dead-letter queue or an archive.
        native: False: copy, also where the service could move them: the reasons are counted, and leave the headers.
        idle: seconds without a message after which the queue counts as empty.
        on_progress: called after each call that sends, and after each batch.

    Raises:
        ConfigurationError: ``to`` is the dead-letter queue itself, or missing where the service does not move the
            messages back by itself; or an invalid option.
        TransportError: the dead-letter queue cannot be read, or the service failed to move them.
    """
    if to is not None and to.address == dead_letters.address:
        raise ConfigurationError(f"to must be another queue than the dead-letter queue, got {to.name}")
    if rate is not None and not rate > 0:
        raise ConfigurationError(f"rate must be positive, got {rate!r}")
    if limit is not None:
        check_integer("limit", limit, least=1)
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
        held = MAX_LEFT if filter is not None or dry_run else 100
        receiver = await stack.enter_async_context(dead_letters.receiver(capacity=held))
        run = RedriveRun(
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
            async for batch in batches(receiver, seconds(idle)):
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
    """Why the service cannot move the messages by itself; empty: it may."""
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
