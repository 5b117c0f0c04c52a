"""Names that follow from other names: dead-letter queues, and the queues of subscriptions and rules."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["FIFO_SUFFIX", "is_fifo", "rule_queue", "suffixed"]

FIFO_SUFFIX: Final = ".fifo"
"""Suffix of the names of FIFO queues and topics."""


def is_fifo(name: str) -> bool:
    """Whether a queue or topic of that name is FIFO."""
    return name.endswith(FIFO_SUFFIX)


def suffixed(name: str, suffix: str) -> str:
    """The name with a suffix, FIFO if the name is: ``orders.fifo`` and ``dead`` make ``orders-dead.fifo``."""
    base = name.removesuffix(FIFO_SUFFIX)
    return f"{base}-{suffix}{FIFO_SUFFIX if is_fifo(name) else ''}"


def rule_queue(bus: str, rule: str) -> str:
    """The name of a rule's own queue."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", f"{bus}-{rule}")
