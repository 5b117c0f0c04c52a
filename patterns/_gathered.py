"""What a request brought."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from typing_extensions import override

from eip.codec import JSON
from eip.message import Message
from eip.patterns._asking import REPLY_CODEC, Conditions

__all__ = ["CompletedBy", "Gathered", "GatheredInMemory", "ReplyCounts"]

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


class GatheredInMemory(Gathered):
    """A result that grows: ten thousand requests wait with a hundred thousand replies, so these rest until looked at.

    Args:
        id: the request's own.
        request: as it is sent.
        conditions: when it is complete.
    """

    __slots__ = ("_awake", "_errors", "_replies")

    def __init__(self, id: str, request: Message[Any], conditions: Conditions) -> None:  # noqa: A002 - its own term
        # Spelled out, since every request pays: the constructor of twelve keywords takes twice as long.
        self.id, self.correlation_id, self.request = id, request.correlation_id or id, request
        self.expected, self.names, _ = conditions
        self._replies: list[Any] = []
        self._awake = 0
        self._errors: list[Message[Any]] | None = None
        self.missing = _NOBODY
        self.completed_by = self.completed_at = self.late_replies = None
        self.late = 0

    @property
    @override
    def replies(self) -> list[Message[Any]]:  # type: ignore[override]
        """The answers, in the order of their arrival, each once."""
        replies = self._replies
        for index in range(self._awake, len(replies)):
            if replies[index].__class__ is tuple:
                reply = replies[index] = Message.woken(replies[index])
                reply.decode_with(REPLY_CODEC)
        self._awake = len(replies)
        return replies

    @property
    @override
    def errors(self) -> list[Message[Any]]:  # type: ignore[override]
        """The answers of responders that report a failure."""
        if self._errors is None:
            self._errors = []
        return self._errors

    @property
    @override
    def answered(self) -> int:
        """How many responders answered, those that failed included."""
        return len(self._replies) + len(self._errors or ())

    def add(self, reply: Message[Any], *, failed: bool) -> None:
        """Keep an answer, at rest unless someone has looked at it."""
        if failed:
            reply.decode_with(REPLY_CODEC)
            self.errors.append(reply)
        else:
            self._replies.append(reply.at_rest() if reply.codec is JSON else reply)


_NOBODY: Final[frozenset[str]] = frozenset()


@dataclass(slots=True)
class ReplyCounts:
    """Replies that found no open request; all are acknowledged."""

    late: int = 0
    """Came after their request was over."""
    unknown: int = 0
    """Belong to no request that is known."""
    ambiguous: int = 0
    """Carry no request id, and a correlation id that several requests share."""
