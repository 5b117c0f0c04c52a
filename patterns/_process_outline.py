"""What a diagram shows of each element of a process: its text, and how an instance fared at it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from eip.patterns._labels import thing_name
from eip.patterns._process_elements import Children, Element, Fail, ProcessStep, Wait
from eip.patterns.process import Instance, Process, Visit

__all__ = ["Look", "Outline"]

Look: TypeAlias = Literal["plain", "running", "done", "skipped", "failed", "undone", "not reached"]

_LEAST_S: Final = 0.001
"""Seconds that are worth showing."""


@dataclass(frozen=True, slots=True)
class Outline:
    """The texts and looks of a process's elements.

    Args:
        process: the definition.
        instances: an instance of it, with its children: how they fared is shown. Others are passed over.
    """

    process: Process[Any]
    instances: tuple[Instance, ...] = ()

    @classmethod
    def of(cls, process: Process[Any], instances: Iterable[Instance]) -> Outline:
        """That of a process and of those instances that run it."""
        ours = (each for each in instances if (each.process, each.version) == (process.name, process.version))
        return cls(process, tuple(ours))

    @property
    def title(self) -> str:
        """Of the whole diagram."""
        name = f"{self.process.name} {self.process.version}"
        if not self.instances:
            return name
        first = self.instances[0]
        return f"{name}: {first.id} {first.status}" + (f" ({first.error})" if first.error else "")

    def lines(self, element: Element) -> list[str]:
        """The texts of an element: its name, what it does, and how it went."""
        visit, undo = self._visit(element.name), self._visit(element.name, undo=True)
        lines = [element.name, *_about(element)]
        lines += [] if visit is None else [_fared(visit)]
        lines += [] if undo is None else [f"undone: {_fared(undo)}"]
        return [each for each in lines if each]

    def look(self, element: Element) -> Look:
        """How an element is shown."""
        if not self.instances:
            return "plain"
        visit, undo = self._visit(element.name), self._visit(element.name, undo=True)
        if visit is None:
            return "not reached"
        if undo is not None and undo.outcome == "done":
            return "undone"
        outcome = visit.outcome if undo is None else undo.outcome
        return "running" if outcome == "waiting" else outcome

    def taken(self, choice: str, label: str) -> bool:
        """Whether an instance took a branch of a choice."""
        visit = self._visit(choice)
        return visit is not None and visit.detail == label

    def _visit(self, step: str, *, undo: bool = False) -> Visit | None:
        for instance in self.instances:
            for visit in instance.history:
                if (visit.step, visit.undo) == (step, undo):
                    return visit
        return None


def _about(element: Element) -> list[str]:
    match element:
        case ProcessStep(waits=waits, when=when, compensate=compensate):
            return [
                "" if waits is None else f"a message within {_time(waits)}",
                "" if when is None else f"when {thing_name(when)}",
                "" if compensate is None else f"undo: {thing_name(compensate)}",
            ]
        case Wait(delay=delay):
            return [thing_name(delay) if callable(delay) else _time(delay)]
        case Children(process=process, kind="map", max_concurrency=most) if process is not None:
            return [f"{process.name} {process.version} for each, {most} at once"]
        case Children(process=process) if process is not None:
            return [f"{process.name} {process.version}"]
        case Fail(reason=reason):
            return [reason if isinstance(reason, str) else thing_name(reason).lstrip("_")]
        case _:
            return []


def _fared(visit: Visit) -> str:
    seconds = 0.0 if visit.ended_at is None else visit.ended_at - visit.started_at
    took = f" after {_time(seconds)}" if seconds >= _LEAST_S else ""
    tries = f", {visit.attempts} attempts" if visit.attempts > 1 else ""
    detail = f": {visit.detail}" if visit.detail else ""
    return f"{visit.outcome}{took}{tries}{detail}"


def _time(seconds: float) -> str:
    """A duration in its largest unit."""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"
