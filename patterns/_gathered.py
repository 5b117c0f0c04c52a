"""What a request brought."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from eip.message import Message

__all__ = ["CompletedBy", "Gathered", "ReplyCounts"]

CompletedBy: TypeAlias = Literal["expected", "count", "predicate", "deadline"]


@dataclass(slots=True, kw_only=True)
class Gathered:
    """What a request brought."""

    id: str
    """The request's own id, unique whatever its correlation id: what `ScatterGather.get` takes."""
    correlation_id: str
    request: Message[Any] | None = None
    """The request as it was sent, with its deadline as ``expires_at``."""
    replies: list[Message[Any]] = field(default_factory=list)
    """The answers, in the order of their arrival, each once."""
    errors: list[Message[Any]] = field(default_factory=list)
    """The answers of responders that report a failure."""
    expected: int | None = None
    names: frozenset[str] | None = None
    """The responders expected by name; None: they were not named."""
    missing: frozenset[str] = frozenset()
    """Once complete: of the responders expected by name (a reply's ``source``), those that did not answer."""
    completed_by: CompletedBy | None = None
    """What completed it; None while it is running."""
    completed_at: float | None = None
    """Seconds since the epoch."""
    late: int = 0
    """Replies that came after completion; grows while the request is remembered."""
    late_replies: list[Message[Any]] | None = None
    """With a store, those replies; None without one, which only counts them."""

    @property
    def answered(self) -> int:
        """How many responders answered, those that failed included."""
        return len(self.replies) + len(self.errors)


@dataclass(slots=True)
class ReplyCounts:
    """Replies that found no open request; all are acknowledged."""

    late: int = 0
    """Came after their request was over."""
    unknown: int = 0
    """Belong to no request that is known."""
    ambiguous: int = 0
    """Carry no request id, and a correlation id that several requests share."""
