"""The audit log: who changed what through the console, and how that ended."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import orjson

from eip import clock
from eip._ids import new_id
from eip._logging import get_logger
from eip.console._files import append
from eip.errors import StoreError, error_text

__all__ = ["AuditLog"]

_log = get_logger("eip.console.audit")
_MAX_SHOWN: Final = 500
"""Records kept for the page."""
_MAX_TEXT: Final = 2000


class AuditLog:
    """Records each change before it is made, and again when it has ended.

    Each record is a log event of ``eip.console.audit`` and, with a path, a line of JSON. A change that cannot be
    recorded is not made. No body and no token is ever among it.

    Args:
        path: a file that is only ever appended to, readable by its owner; None: the log events alone.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._shown: deque[dict[str, Any]] = deque(maxlen=_MAX_SHOWN)
        self._turn = asyncio.Lock()

    def latest(self, limit: int = 100) -> list[dict[str, Any]]:
        """The last records, the latest first."""
        return [each for _, each in zip(range(limit), reversed(self._shown), strict=False)]

    async def check(self) -> None:
        """Raise `StoreError` where the file cannot be written."""
        if self.path is not None:
            await self._append(b"")

    async def record(self, **fields: Any) -> dict[str, Any]:
        """Write a record; raises `StoreError` where that fails."""
        found = {"at": clock.now(), **{name: _bounded(each) for name, each in fields.items() if each is not None}}
        if self.path is not None:
            await self._append(orjson.dumps(found, default=str) + b"\n")
        _log.info("audit", **found)
        self._shown.append(found)
        return found

    @asynccontextmanager
    async def change(self, action: str, *, by: str, **details: Any) -> AsyncIterator[dict[str, Any]]:
        """Record a change around a block, which may add to the details of its end.

        Args:
            action: what is done, e.g. ``"redrive"``.
            by: who does it.
            details: what it is done to.

        Raises:
            StoreError: the beginning cannot be recorded; the block is not entered.
        """
        change = new_id()[:12]
        await self.record(change=change, action=action, by=by, outcome="begun", **details)
        outcome: dict[str, Any] = {}
        try:
            yield outcome
        except BaseException as error:
            await self._end(change, action, by, "failed", {**details, **outcome, "error": error_text(error)})
            raise
        await self._end(change, action, by, "done", {**details, **outcome})

    async def _end(self, change: str, action: str, by: str, outcome: str, details: dict[str, Any]) -> None:
        """Record the end; the change is made, whatever becomes of the record."""
        try:
            await asyncio.shield(self.record(change=change, action=action, by=by, outcome=outcome, **details))
        except StoreError as error:
            _log.error("audit_incomplete", change=change, action=action, by=by, ended=outcome, error=str(error))

    async def _append(self, line: bytes) -> None:
        assert self.path is not None
        async with self._turn:
            try:
                await asyncio.to_thread(append, self.path, line)
            except OSError as error:
                raise StoreError(f"the audit log {self.path} cannot be written: {error.strerror}") from error


def _bounded(value: Any) -> Any:
    return f"{value[:_MAX_TEXT]}…" if isinstance(value, str) and len(value) > _MAX_TEXT else value
