"""What a handler can ask for about the invocation that it runs in: Lambda's context, the event, the time window."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from eip.errors import DecodeError

__all__ = ["LambdaContext", "LambdaInvocation", "TumblingWindow", "current", "current_invocation", "window_of"]


class LambdaContext(Protocol):
    """The part of Lambda's context that is used."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function is ended."""
        ...


@dataclass(slots=True, kw_only=True)
class TumblingWindow:
    """A tumbling window of a shard: its bounds, and what the messages of it have come to so far."""

    start: datetime
    end: datetime
    shard: str
    state: Any = field(default_factory=dict[str, Any])
    """JSON, up to 1 MB for each shard (then Lambda ends the window early). Change it, or put another in its place.

    Counts once the message is done: what the handler of a failed message changed is undone.
    """
    final: bool = False
    """Whether this is the window's last invocation."""
    ended_early: bool = False
    """Whether its state had become too large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LambdaInvocation:
    """The invocation that a handler runs in."""

    event: Any
    """As Lambda called the function with it."""
    context: Any
    """Lambda's context: request id, function ARN, remaining time, ..."""
    source: str
    """The event source: ``"aws:sqs"``, ``"aws:kinesis"``, ...; ``"aws:events"`` for EventBridge and Scheduler."""
    window: TumblingWindow | None = None
    """The time window, where the mapping has one (Kinesis, DynamoDB streams)."""

    def remaining(self) -> float:
        """Seconds until Lambda ends the function."""
        return float(self.context.get_remaining_time_in_millis()) / 1000


current: ContextVar[LambdaInvocation] = ContextVar("eip_lambda_invocation")
"""The invocation that the running handler was called in."""


def current_invocation() -> LambdaInvocation:
    """The invocation that the running handler was called in; raises `LookupError` outside of Lambda."""
    return current.get()


def window_of(event: Any) -> TumblingWindow | None:
    """The time window of an event; None where it has none.

    Raises:
        DecodeError: a window that is none: no record of it may be counted.
    """
    if not isinstance(event, Mapping) or event.get("window") is None:
        return None
    try:
        window = event["window"]
        state = event.get("state")
        return TumblingWindow(
            start=datetime.fromisoformat(window["start"]),
            end=datetime.fromisoformat(window["end"]),
            shard=str(event.get("shardId", "")),
            state={} if state is None else state,
            final=event.get("isFinalInvokeForWindow") is True,
            ended_early=event.get("isWindowTerminatedEarly") is True,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DecodeError(f"window must have start and end, as times: {error}") from error
