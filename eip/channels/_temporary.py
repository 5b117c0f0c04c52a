"""Temporary queues: where replies to one process arrive, gone when it is."""

from __future__ import annotations

from abc import abstractmethod
from types import TracebackType
from typing import Self

from eip.channels._kinds import Source

__all__ = ["TemporaryQueue"]


class TemporaryQueue(Source):
    """A reply queue of one process, for `eip.patterns.RequestReply` and `eip.patterns.ScatterGather`.

    It is made at its first use. It ends with its ``async with``, and without one with its transport; what is in it then
    is gone.
    """

    address: str
    """Where responders answer to."""

    @abstractmethod
    async def remove(self) -> None:
        """Remove it, and the replies in it. Idempotent."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.remove()
