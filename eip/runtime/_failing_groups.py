"""The message groups of one consumer that do not get past their head: what its health calls poisoned."""

from __future__ import annotations

from typing import Final, NamedTuple

from eip import clock
from eip.errors import error_text

__all__ = ["FailingGroups"]

_POISONED_AFTER_S: Final = 10.0
"""A group whose head has failed for longer is poisoned; a failure that passes is over sooner."""
_OVERDUE_S: Final = 60.0
"""After its next attempt was due, a group that did not come back is another consumer's."""
_MAX_GROUPS: Final = 1000
"""Remembered at once; one is enough to be not well."""


class _Failing(NamedTuple):
    since: float
    next_attempt: float
    reason: str


class FailingGroups:
    """Keeps since when and why the heads of message groups fail; times in seconds since the epoch.

    Args:
        parked: the groups whose messages go to the dead-letter channel until somebody unparks them.
    """

    def __init__(self, parked: set[str]) -> None:
        self._parked = parked
        self._failing: dict[str, _Failing] = {}

    def __bool__(self) -> bool:
        return bool(self._failing)

    def failed(self, group: str, error: Exception, retry_in: float) -> None:
        """Report an attempt at the group's head that failed, and when the next one is due."""
        now = clock.now()
        known = self._failing.get(group)
        if known is not None or len(self._failing) < _MAX_GROUPS:
            since = now if known is None else known.since
            self._failing[group] = _Failing(since, now + retry_in, error_text(error))

    def passed(self, group: str | None) -> None:
        """Report that the group's head was handled, or dead-lettered."""
        if group is not None:
            self._failing.pop(group, None)

    def poisoned(self) -> tuple[float | None, str] | None:
        """Since when, and which group and why, for the group that has failed for longest; None: all are well.

        May be called from any thread.
        """
        now = clock.now()
        found = None
        for group, failing in list(self._failing.items()):
            if failing.next_attempt + _OVERDUE_S < now:
                self._failing.pop(group, None)
            elif failing.since + _POISONED_AFTER_S <= now and (found is None or failing.since < found[0]):
                found = failing.since, f"message group {group!r} does not get past a message: {failing.reason}"
        if found is not None or not self._parked:
            return found
        return None, f"message groups are parked: {', '.join(sorted(self._parked.copy())[:5])}"
