"""W3C trace context and X-Ray's trace header: the same ids, written differently (AWS X-Ray Developer Guide)."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["to_traceparent", "to_xray"]

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{8})([0-9a-f]{24})-([0-9a-f]{16})-([0-9a-f]{2})")
_ROOT: Final = re.compile(r"Root=1-([0-9a-f]{8})-([0-9a-f]{24})")
_PARENT: Final = re.compile(r"Parent=([0-9a-f]{16})")


def to_xray(traceparent: str) -> str | None:
    """The X-Ray header of a traceparent; None for what is none."""
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None:
        return None
    time, unique, parent, flags = found.groups()
    return f"Root=1-{time}-{unique};Parent={parent};Sampled={int(flags, 16) & 1}"


def to_traceparent(xray: str) -> str | None:
    """The traceparent of an X-Ray header; None where it names no parent."""
    root, parent = _ROOT.search(xray), _PARENT.search(xray)
    if root is None or parent is None:
        return None
    return f"00-{root[1]}{root[2]}-{parent[1]}-{'01' if 'Sampled=1' in xray else '00'}"
