"""What the store holds of each instance of a process."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel

from eip.codec import load_json

__all__ = ["Instance", "Outcome", "ProcessEnded", "Status", "Visit"]

Status: TypeAlias = Literal["running", "waiting", "compensating", "completed", "compensated", "cancelled", "failed"]
Outcome: TypeAlias = Literal["running", "waiting", "done", "skipped", "failed"]

_ENDED: Final = ("completed", "compensated", "cancelled", "failed")


class Visit(BaseModel):
    """That an instance came to a step, or back to it to compensate it."""

    step: str
    undo: bool = False
    """Whether it was compensated."""
    outcome: Outcome = "running"
    attempts: int = 0
    """Attempts begun; 0 for what takes none, e.g. a choice."""
    started_at: float
    ended_at: float | None = None
    detail: str = ""
    """The branch that was taken, or the latest failure."""


class Instance(BaseModel):
    """What the store holds of a running process."""

    id: str
    process: str
    version: int
    status: Status = "running"
    state: str
    """As JSON."""
    step: str | None
    """The step that is next, or under way."""
    done: list[str] = []
    """The steps to compensate, the latest one last."""
    attempt: int = 0
    """Attempts begun at the step, or at its compensation."""
    broken_off: bool = False
    """Whether an attempt at the step, not counted, was broken off, and may have had an effect."""
    error: str | None = None
    """The latest failure: kind and reason."""
    caught: str | None = None
    """The failure that the failure branch which it is in was taken for."""
    back_to: str | None = None
    """While it compensates: the catch whose body is undone; None: the whole process is."""
    cancelled: str | None = None
    """Why it is to be cancelled, once somebody asked for it."""
    claim: str | None = None
    """Names the attempt under way."""
    started_at: float
    ended_at: float | None = None
    deadline: float | None = None
    waits_until: float | None = None
    """When a step that waits has waited long enough."""
    taken: list[str] = []
    """Ids of the messages that steps have received."""
    due: float | None = None
    """When something is to be done; while a step runs: when another process takes it over."""
    history: list[Visit] = []
    """The steps it came to, in their order."""

    parent: str | None = None
    """The id of the instance that it is a branch, an item or a sub-process of."""
    branch: str = ""
    """Which one of them it is."""
    children: dict[str, int] = {}
    """By step, how many instances it has made."""
    open: list[int] = []
    """The numbers of those that may not have ended yet."""
    left: int | None = None
    """While a step with children is compensated: how many of them are still to be."""
    released: bool = False
    """Whether the parent needs it no more."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in _ENDED

    def child(self, step: str, number: int) -> str:
        """The id of a child."""
        return f"{self.id}/{step}/{number}"

    def visit(self, step: str, now: float, *, undo: bool = False) -> Visit:
        """Its visit to a step; begins with the first call."""
        for each in reversed(self.history):
            if (each.step, each.undo) == (step, undo):
                return each
        self.history.append(Visit(step=step, undo=undo, started_at=now))
        return self.history[-1]

    def leave(self, step: str, now: float, outcome: Outcome, detail: str = "", *, undo: bool = False) -> None:
        """Note how a visit ended."""
        visit = self.visit(step, now, undo=undo)
        visit.outcome, visit.ended_at, visit.detail = outcome, now, detail or visit.detail


class ProcessEnded(BaseModel):
    """The body of the message that a process has ended, of type ``ProcessEnded``; its id is the correlation id."""

    process: str
    version: int
    id: str
    status: Status
    state: Any
    """Its last one, as JSON values."""
    error: str | None = None
    """The latest failure, where there was one."""
    started_at: float
    ended_at: float | None = None

    @classmethod
    def of(cls, instance: Instance) -> ProcessEnded:
        """That of an instance."""
        known = {name: getattr(instance, name) for name in cls.model_fields if name != "state"}
        return cls(**known, state=load_json(instance.state.encode()))
