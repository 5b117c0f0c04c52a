"""Reference applications and short examples."""

from __future__ import annotations

import sys
from types import TracebackType


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error, but nothing for Ctrl-C: a command takes a second to import, and handles it only then."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


if sys.argv[0] == "-m":  # one of them is about to run as a command
    sys.excepthook = _report
