"""What reading a stream needs of it: its calls, and how fast they may come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from eip.codec import Codec
from eip.transports.aws.kinesis.rates import ReadRates

__all__ = ["StreamCalls"]


class StreamCalls(Protocol):
    """A stream, for the cursors over its shards."""

    name: str
    address: str
    """Its ARN."""
    codec: Codec
    rates: ReadRates

    @property
    def where(self) -> str:
        """The endpoint or region, for logs."""
        ...

    async def call(self, operation: str, *, named: bool = True, channel: str = "", **parameters: Any) -> dict[str, Any]:
        """Call the service about the stream, which ``named`` adds to the parameters."""
        ...

    def report(self, group: str, operation: str, received: Sequence[Mapping[str, Any]]) -> None:
        """Report to the meter what was pushed."""
        ...
