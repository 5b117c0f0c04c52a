"""Moves of dead letters: one pass over their queue, and where they go back to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from eip.channels import Queue, Sender
from eip.console._identity import source_of
from eip.console._jobs import Job
from eip.console._selection import Selection
from eip.console.subject import DeadLetterQueue, Subject
from eip.errors import ConfigurationError
from eip.matching.predicate import Predicate
from eip.message import Message
from eip.patterns.redrive import Progress, redrive

__all__ = ["both", "move", "targets_of"]

_IDLE_S: Final = 1.0
"""Without a message, after which a queue counts as empty."""


def targets_of(subject: Subject, info: DeadLetterQueue, to: str | None) -> list[tuple[Queue, Predicate]]:
    """The queues that get dead letters, and which of them.

    Args:
        subject: whose queues.
        info: the queue of dead letters.
        to: the one that gets all; None: each goes back to where it failed.

    Raises:
        ConfigurationError: no such queue, or it is not known where they failed.
    """
    known = subject.queues()
    if to is not None:
        if to not in known:
            raise ConfigurationError(f"to must be one of the queues {', '.join(known)}, got {to!r}")
        return [(known[to], lambda _: True)]
    if not any(source in known for source in info.sources):
        raise ConfigurationError(f"it is not known where the messages of {info.name} failed; give to=...")
    return [(queue, _failed_on(name, info)) for name, queue in known.items() if name in info.sources]


def both(first: Predicate, second: Predicate) -> Predicate:
    """A filter that accepts what both accept."""
    return lambda message: first(message) and second(message)


def _failed_on(name: str, info: DeadLetterQueue) -> Predicate:
    return lambda message: source_of(message, info) == name


async def move(
    job: Job,
    dead: Queue,
    to: Sender,
    wanted: Callable[[Message[Any]], bool],
    selection: Selection,
    *,
    rate: float | None = None,
    transform: Callable[[Message[Any]], Message[Any]] | None = None,
    keep_reason: bool = False,
) -> None:
    """Go through the queue once, and add to the job what that came to.

    Args:
        job: whose progress it is.
        dead: the queue of dead letters.
        to: what gets them.
        wanted: which of them.
        selection: what was asked for, which bounds how many.
        rate: messages a second at most.
        transform: what is sent instead.
        keep_reason: leave the traces of the failure in the headers.
    """
    matched, before = 0, (job.moved, job.failed)

    def matches(message: Message[Any]) -> bool:
        nonlocal matched
        found = wanted(message)
        matched += found
        return found

    def show(progress: Progress) -> None:
        job.moved, job.failed = before[0] + progress.moved, before[1] + progress.failed

    limit = None if selection.keys is None else len(selection.keys) - job.moved
    if limit is not None and limit < 1:
        return
    await redrive(
        dead,
        to,
        filter=matches,
        transform=transform,
        rate=rate,
        limit=limit,
        keep_reason=keep_reason,
        idle=_IDLE_S,
        on_progress=show,
    )
    job.left += max(0, matched - (job.moved - before[0]) - (job.failed - before[1]))
