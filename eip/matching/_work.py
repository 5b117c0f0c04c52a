"""Bounds on what one evaluation may cost, whatever the pattern and the event: both come from strangers.

Work is counted in units of about a tenth of a microsecond: one test of one value. Tests that read a whole value count
its length as well.
"""

from __future__ import annotations

from typing import Final

from eip.errors import EipError

__all__ = ["MAX_PATTERN_WEIGHT", "MAX_SET_WORK", "MAX_TEXT", "MAX_WORK", "Exhausted", "Work"]

MAX_WORK: Final = 1_000_000
"""Units that one sub-rule may take for one event; an event that needs more does not match."""
MAX_SET_WORK: Final = 5_000_000
"""Units that all sub-rules of a rule set may take together for one event."""
MAX_PATTERN_WEIGHT: Final = 100_000
"""Tests of all sub-rules of a pattern together, for values of one character; a pattern with more is refused."""
MAX_TEXT: Final = 256 * 1024
"""Characters of a pattern: the size that SNS allows for policies; EventBridge allows 4,096."""


class Exhausted(EipError):
    """Evaluating took more than `MAX_WORK`."""


class Work:
    """What one evaluation may still cost, in units."""

    __slots__ = ("left",)

    def __init__(self, limit: int = MAX_WORK) -> None:
        self.left = limit

    def spend(self, units: int) -> None:
        """Count work before it is done; raises `Exhausted`."""
        if units > self.left:  # a refused step does not count
            raise Exhausted("evaluating the pattern takes too much work")
        self.left -= units
