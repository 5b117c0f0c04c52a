"""Health of what runs: a small value to ask a consumer or a transport for, and what keeps it.

`eip.Consumer.health` and `eip.channels.Transport.health` return it; a readiness probe answers with its ``ok``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from eip.clock import now
from eip.errors import error_text

__all__ = ["Health", "HealthTracker"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether the service answers; times in seconds since the epoch (UTC)."""

    ok: bool
    """Whether the last call to the service succeeded and work goes on."""
    last_poll: float | None = None
    """When the service last answered a receive, with or without messages; None: never."""
    last_settle: float | None = None
    """When a message was last acknowledged or given back; None: never."""
    failing_since: float | None = None
    """When the first of the calls failed that have failed since without a success; None: the last one succeeded."""
    backlog_age: float | None = None
    """Seconds since the oldest message in hand was created; None: there is none, or it is not known."""
    reason: str | None = None
    """Why it is not ok: the last error, or the state."""


class HealthTracker:
    """Keeps a `Health`: report each outcome, ask `health` whenever."""

    __slots__ = ("_failing_since", "_reason", "last_poll", "last_settle", "watched")

    def __init__(self) -> None:
        self.last_poll: float | None = None
        self.last_settle: float | None = None
        self.watched: Callable[[], Health] | None = None
        """A further condition: a connection of which calls know nothing."""
        self._failing_since: float | None = None
        self._reason: str | None = None

    def polled(self) -> None:
        """Report a receive that the service answered."""
        self.last_poll = now()
        self._failing_since = self._reason = None

    def settled(self) -> None:
        """Report messages that were acknowledged or given back."""
        self.last_settle = now()

    def succeeded(self) -> None:
        """Report any other call that the service answered."""
        self._failing_since = self._reason = None

    def failed(self, error: BaseException | str) -> None:
        """Report a call that failed, with its error."""
        if self._failing_since is None:
            self._failing_since = now()
        self._reason = error_text(error) if isinstance(error, BaseException) else error

    def health(self) -> Health:
        """The health as of now."""
        found = Health(
            ok=self._failing_since is None,
            last_poll=self.last_poll,
            last_settle=self.last_settle,
            failing_since=self._failing_since,
            reason=self._reason,
        )
        if not found.ok or self.watched is None or (other := self.watched()).ok:
            return found
        return replace(found, ok=False, failing_since=other.failing_since, reason=other.reason)
