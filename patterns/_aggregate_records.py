"""A group of messages as the aggregator keeps it, and as it hands it to its user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel

from eip.message import Message

__all__ = ["Aggregate", "AggregateCompletedBy", "GroupState"]

AggregateCompletedBy: TypeAlias = Literal["size", "sequence", "predicate", "inactivity", "deadline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """A complete group."""

    key: str
    messages: Sequence[Message[Any]]
    """Each input once: by position where they are parts of a sequence, otherwise in the order of arrival."""
    completed_by: AggregateCompletedBy
    opened_at: float
    """When its first input was stored, seconds since the epoch."""


class GroupState(BaseModel):
    """What the store holds of a group; its inputs are the record's parts."""

    opened_at: float
    deadline: float | None
    idle_at: float | None = None
    size: int | None = None
    """Parts of its sequence, once known."""
    inputs: list[str] = []
    """Ids, in the order of arrival."""
    state: Literal["open", "claimed", "released"] = "open"
    completed_by: AggregateCompletedBy | None = None
    owner: str | None = None
    retry_at: float | None = None
    """While claimed: when another may claim it."""
    failures: int = 0

    @property
    def due(self) -> float | None:
        """When it has to be looked at; None: only when a message comes."""
        if self.state == "open":
            return min((each for each in (self.deadline, self.idle_at) if each is not None), default=None)
        return self.retry_at if self.state == "claimed" else None
