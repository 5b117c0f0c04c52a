"""Why messages failed, so that those which failed alike are one group."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["kind_of"]

_MAX_KIND: Final = 160
"""Characters of a reason that tell one kind from another."""
_VARYING: Final = re.compile(
    r"""
    '[^'\n]{1,80}' | "[^"\n]{1,80}"                                             # what is quoted
    | \b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F-]{22}\b                        # UUIDs
    | \b(?=[0-9a-fA-F]*[0-9])[0-9a-fA-F]{8,}\b                                  # digests and ids
    | \d[\d.,:_-]*\d | \d                                                       # numbers, times, amounts
    """,
    re.VERBOSE,
)


def kind_of(reason: str) -> str:
    """The reason without what differs from message to message: ``ValueError: order … costs …``."""
    return _VARYING.sub("…", " ".join(reason[: 4 * _MAX_KIND].split()))[:_MAX_KIND]
