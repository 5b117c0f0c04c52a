"""The protocol of a driver whose stream is read by groups: shards, and a cursor over each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from eip.errors import ConfigurationError
from eip.message import Message

__all__ = ["HORIZON", "Cursor", "Log", "Page", "Position", "Record", "Shard", "ShardLimits", "Start", "place"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A place in a shard, kept in leases; with nothing set the oldest record there is."""

    sequence: str | None = None
    """After the record of that sequence number,"""
    part: int | None = None
    """or, where that is an aggregate that is done in part, after that part of it."""
    at: float | None = None
    """At the first record that arrived at that time or later."""

    def to_json(self) -> dict[str, Any]:
        """The fields that are set."""
        fields = {"seq": self.sequence, "part": self.part, "at": self.at}
        return {name: value for name, value in fields.items() if value is not None}

    @staticmethod
    def from_json(fields: Mapping[str, Any]) -> Position:
        """The inverse of `to_json`; raises `TypeError` for a field of the wrong type."""
        sequence, part, at = fields.get("seq"), fields.get("part"), fields.get("at")
        if not (
            isinstance(sequence, str | None) and isinstance(part, int | None) and isinstance(at, int | float | None)
        ):
            raise TypeError(f"{fields!r:.200} is no position")
        return Position(sequence=sequence, part=part, at=at)


HORIZON: Final = Position()
"""The oldest record there is."""

Start: TypeAlias = Literal["latest", "trim_horizon"] | float | datetime | Position
"""Where a new group begins: with what comes, with the oldest there is, or at a time (seconds since the epoch).

A position in a shard can be given where it means something in every shard, as in a stream that numbers all its records.
"""


def place(start: Start, latest: Callable[[], Position]) -> Position:
    """The position of a start; raises `ConfigurationError` for anything else."""
    match start:
        case Position():
            return start
        case datetime() if start.tzinfo is not None:
            return Position(at=start.timestamp())
        case int() | float():
            return Position(at=float(start))
        case "trim_horizon":
            return HORIZON
        case "latest":
            return latest()
    raise ConfigurationError(f'a start is "latest", "trim_horizon" or a time with its zone, not {start!r}')


class Shard(NamedTuple):
    """A shard as its log describes it."""

    id: str
    parents: tuple[str, ...] = ()
    """The shards that it was split or merged from; they may be gone already."""
    closed: bool = False
    """Nothing is added to it any more, as it was split or merged."""
    first_hash: int = 0
    last_hash: int = (1 << 128) - 1
    """Its range of hash keys: the records whose key's MD5 is in it."""


class ShardLimits(NamedTuple):
    """Limits of a shard."""

    records: float
    """A second."""
    bytes: float
    """Of data, a second."""


class Record(NamedTuple):
    """A record as read; its message is made when it is handed out."""

    sequence: str
    key: str
    at: float
    """When it arrived, seconds since the epoch."""
    size: int
    """Bytes of its data."""
    payload: Any
    """Whatever the log makes its message of."""
    part: int = 0
    """Its place in an aggregate."""
    last: bool = True
    """Whether it is the last of its sequence number: of an aggregate, or alone."""

    @property
    def name(self) -> str:
        """Its name within its shard: its sequence number, and its place in the aggregate."""
        return f"{self.sequence}:{self.part}"

    @property
    def position(self) -> Position:
        """The position after it."""
        return Position(sequence=self.sequence, part=None if self.last else self.part)


class Page(NamedTuple):
    """The records of one read."""

    records: Sequence[Record]
    behind: float | None = 0.0
    """Seconds between the newest record of the shard and the end of this page; None where the shard was not read."""
    ended: bool = False
    """Whether the shard is closed and this was its last page."""
    missed: int = 0
    """Records before it that fell out of the log unread, where that is known."""


class Cursor(ABC):
    """Reads one shard, from a position to its end."""

    max_read: float | None = 60.0
    """Longest that a `read` takes, in seconds: one that takes longer is cancelled, and has failed. None: no limit."""

    waits = False
    """Whether a `read` waits until records come, in place of an empty page."""

    @abstractmethod
    async def read(self, limit: int) -> Page:
        """The next records, about ``limit`` at most; waits for as long as the service's rates ask for.

        An empty page is not the end. After an error the next call goes on where the last page ended. A cancelled call
        loses no record.
        """

    async def aclose(self) -> None:
        """Let go of the connection, where there is one."""
        return


class Log(ABC):
    """A partitioned log."""

    name: str
    address: str = ""
    """What tells it from other streams of the same name, in other accounts and regions."""
    where: str = ""
    """Where the service is, for logs: its endpoint or region."""
    limits: ShardLimits | None = None
    """Of each shard; None: not known."""

    @abstractmethod
    async def shards(self) -> Sequence[Shard]:
        """All shards that still have records or get them, closed ones included."""

    @abstractmethod
    def latest(self) -> Position:
        """The place after which records come that are not there yet."""

    def position(self, start: Start) -> Position:
        """The place where a group begins that is made now."""
        return place(start, self.latest)

    @abstractmethod
    def cursor(self, shard: str, position: Position, *, group: str) -> Cursor:
        """A cursor of the group's over the shard, from a position on."""

    @abstractmethod
    def message(self, shard: str, record: Record) -> tuple[Message[Any], Exception | None]:
        """The record as a message, and why it cannot be read where that is so.

        The message of an unreadable record holds its raw bytes. What this raises concerns the record alone.
        """
