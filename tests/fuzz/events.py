"""An event of ours as EventBridge delivers it, for every reader that may be given one."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["EVENT"]

EVENT: Final[dict[str, Any]] = {
    "version": "0",
    "id": "e",
    "detail-type": "T",
    "source": "s",
    "account": "1",
    "region": "r",
    "resources": [],
    "time": "2026-11-24T00:00:00Z",
    "detail": {"n": 1.25, "eip": {"id": "m", "at": 1.5, "attrs": {"a": 1}}},
}
