"""Change data capture: what was committed to the database, in the order of the commits, as often as it is asked for.

`sqlite_capture` and `postgres_capture` implement it. A slot marks how far changes were confirmed; what was read and not
confirmed is read again, with the same positions, by this process or by the next.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, TypeAlias

__all__ = ["CaptureError", "Change", "ChangeCapture", "Operation", "Position", "Row"]

Operation: TypeAlias = Literal["insert", "update", "delete"]
Row: TypeAlias = Mapping[str, Any]
"""By column, the value as the database gives it: text, or JSON's types."""


class CaptureError(Exception):
    """The database failed, or the way to it; what was not confirmed will be read again."""


class Position(NamedTuple):
    """Where a change stands: in the order of the commits, and within its transaction."""

    commit: int
    place: int

    def __str__(self) -> str:
        """Text of the same order."""
        return f"{self.commit:016X}-{self.place:08X}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One committed change of a row; a changed key is a deletion and an insertion."""

    position: Position
    operation: Operation
    before: Row | None
    """The whole row as it was; None for an insertion."""
    after: Row | None
    """The whole row as it is; None for a deletion."""
    committed_at: datetime


class ChangeCapture(ABC):
    """The changes of one table through one slot; an async context manager. All methods raise `CaptureError`."""

    origin: str
    """Which database this is; positions of two databases have nothing to do with each other. Known once open."""

    @abstractmethod
    def changes(self, most: int) -> AsyncGenerator[list[Change]]:
        """The committed changes that are not confirmed, in batches of at most ``most``; ends where it has caught up."""

    @abstractmethod
    async def confirm(self, position: Position) -> None:
        """Never read again what is up to there, as far as those are whole transactions."""

    @abstractmethod
    async def behind(self) -> str:
        """How much is not confirmed, for people to read."""

    @abstractmethod
    async def open(self) -> None:
        """Connect, and make the slot where there is none."""

    @abstractmethod
    async def aclose(self) -> None:
        """Disconnect; the slot stays. Idempotent."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
