"""Log lines that repeat: written once, then with a count, so that a lasting failure does not flood the log."""

from __future__ import annotations

from collections import OrderedDict
from time import monotonic
from typing import Any, Final

__all__ = ["RepeatedLines"]

_INTERVAL_S: Final = 60.0
_MAX_LINES: Final = 200
"""Lines remembered at once; the oldest is forgotten first."""


class RepeatedLines:
    """Writes a line at its first occurrence, and then at most once per ``interval`` with the number of occurrences.

    Lines are the same if event and fields are, save those in ``varying``. Not for lines that each name a message.

    Args:
        log: a structlog logger.
        interval: seconds between two lines that are the same.
    """

    def __init__(self, log: Any, *, interval: float = _INTERVAL_S) -> None:
        self._log, self._interval = log, interval
        self._lines: OrderedDict[object, tuple[float, int]] = OrderedDict()
        """By line: when it was last written, and how often it occurred since."""

    def warning(self, event: str, *, varying: dict[str, Any] | None = None, **fields: Any) -> None:
        """Log a warning, or count it."""
        self._write("warning", event, varying or {}, fields)

    def error(self, event: str, *, varying: dict[str, Any] | None = None, **fields: Any) -> None:
        """Log an error, or count it."""
        self._write("error", event, varying or {}, fields)

    def _write(self, level: str, event: str, varying: dict[str, Any], fields: dict[str, Any]) -> None:
        line = (event, repr(sorted(fields.items())))
        now = monotonic()
        written, count = self._lines.get(line, (None, 0))
        if written is not None and now - written < self._interval:
            self._lines[line] = (written, count + 1)
            return
        self._lines[line] = (now, 0)
        self._lines.move_to_end(line)
        if len(self._lines) > _MAX_LINES:
            self._lines.popitem(last=False)
        repeated = {"repeated": count + 1} if count else {}
        getattr(self._log, level)(event, **fields, **varying, **repeated)
