"""A group of messages as the aggregator keeps it, and as it hands it to its user."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, field_validator

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
    count: int = 0
    """How many inputs there were."""
    state: Any = None
    """What ``fold`` made of the inputs, which then are not in `messages`."""


class GroupState(BaseModel):
    """What the store holds of a group: its inputs are the record's parts, ids of older ones in chunks, see `Groups`."""

    opened_at: float
    deadline: float | None
    idle_at: float | None = None
    size: int | None = None
    """Parts of its sequence, once known."""
    chunks: int = 0
    in_chunks: int = 0
    """Ids in the chunks, all together."""
    inputs: list[str] = []
    """The ids since, in the order of arrival."""
    folded: Any = None
    """The running state, where inputs are folded."""
    # Earlier releases wrote "open" and "claimed". They cannot read the words of this one: a process that is not
    # upgraded yet fails, and tries again, instead of taking the latest inputs for all.
    state: Literal["gathering", "releasing", "released"] = "gathering"
    completed_by: AggregateCompletedBy | None = None
    owner: str | None = None
    retry_at: float | None = None
    """While it is released, when another process may try; afterwards, when any may see to its chunks."""
    failures: int = 0

    @field_validator("state", mode="before")
    @classmethod
    def _from_earlier_releases(cls, state: Any) -> Any:
        return {"open": "gathering", "claimed": "releasing"}.get(state, state)

    @property
    def due(self) -> float | None:
        """When something is to be done that no input brings about."""
        if self.state == "gathering":
            return min((each for each in (self.deadline, self.idle_at) if each is not None), default=None)
        return self.retry_at

    @property
    def count(self) -> int:
        """Inputs so far."""
        return self.in_chunks + len(self.inputs)

    def gathers(self, now: float) -> bool:
        """Whether it takes inputs."""
        due = self.due
        return self.state == "gathering" and (due is None or due > now)

    def identity(self, key: str, chunk: int | None = None) -> str:
        """An id of this group alone, even if one of the same key comes after it; or of one of its chunks."""
        of = f"{key}\0{self.opened_at!r}" if chunk is None else f"{key}\0{self.opened_at!r}\0{chunk}"
        return hashlib.sha256(of.encode("utf-8", "surrogatepass")).hexdigest()[:32]
