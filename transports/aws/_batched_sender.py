"""The sending side that all channels of AWS share."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from eip.channels import Sender
from eip.transports.aws._batch_dispatcher import BatchDispatcher

__all__ = ["BatchedSender"]

_Accumulator = TypeVar("_Accumulator", bound=BatchDispatcher[Any])


class BatchedSender(Sender, Generic[_Accumulator]):
    """A channel whose messages are gathered into calls."""

    _accumulator: _Accumulator

    async def flush(self) -> None:
        """Return when every message was accepted or has failed."""
        await self._accumulator.flush()

    async def aclose(self, *, timeout: float) -> None:  # noqa: ASYNC109 - expiry is no error here
        """Flush for at most ``timeout`` seconds; `AwsTransport.aclose` calls it."""
        await self._accumulator.aclose(timeout=timeout)
