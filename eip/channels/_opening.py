"""Base of what is opened and closed: transports and receivers."""

from __future__ import annotations

from types import TracebackType
from typing import Self

__all__ = ["Opening"]


class Opening:
    """Opened and closed by ``async with``."""

    async def open(self) -> None:
        """Connect; called once, by ``async with``."""
        return

    async def aclose(self) -> None:
        """Flush or release what is held, and disconnect. Idempotent."""
        return

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
