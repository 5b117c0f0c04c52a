"""The services of a subject that a console shows, by kind and name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from eip.console.subject import Subject
from eip.patterns.message_scheduler import MessageScheduler
from eip.patterns.process_manager import ProcessManager
from eip.patterns.scatter_gather import ScatterGather

__all__ = ["gatherers_of", "managers_of", "named", "schedulers_of"]

_T = TypeVar("_T", ProcessManager, MessageScheduler, ScatterGather)


def managers_of(subject: Subject) -> dict[str, ProcessManager]:
    """Its process managers."""
    return _of_kind(subject, ProcessManager)


def schedulers_of(subject: Subject) -> dict[str, MessageScheduler]:
    """Its message schedulers."""
    return _of_kind(subject, MessageScheduler)


def gatherers_of(subject: Subject) -> dict[str, ScatterGather]:
    """Its scatter-gathers."""
    return _of_kind(subject, ScatterGather)


def named(services: Mapping[str, _T], name: str) -> _T:
    """The service of that name; raises `LookupError` where there is none."""
    if name not in services:
        raise LookupError(name)
    return services[name]


def _of_kind(subject: Subject, kind: type[_T]) -> dict[str, _T]:
    """Those of a kind by their names; a second one of a name has a number."""
    found: dict[str, _T] = {}
    for each in subject.services():
        if isinstance(each, kind):
            number, name = 2, each.name
            while name in found:
                name, number = f"{each.name} {number}", number + 1
            found[name] = each
    return found
