"""Where dead letters go back to."""

from __future__ import annotations

from eip.channels import Queue
from eip.console._identity import source_of
from eip.console.subject import DeadLetterQueue, Subject
from eip.errors import ConfigurationError
from eip.matching.predicate import Predicate

__all__ = ["both", "targets_of"]


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
    """What both let through."""
    return lambda message: first(message) and second(message)


def _failed_on(name: str, info: DeadLetterQueue) -> Predicate:
    return lambda message: source_of(message, info) == name
