"""What may be read of a shard: five calls and 2 MB a second, shared by all who poll it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from eip._checks import check_duration
from eip.errors import ConfigurationError
from eip.limits import MIB

__all__ = ["Budget", "ReadRate", "ReadRates"]

_MAX_PENALTY_S: Final = 5.0
"""A call that brought 10 MiB makes the next fail for five seconds (API reference, GetRecords)."""


_MAX_IDLE_S: Final = 300.0
"""An iterator expires after five minutes (API reference, GetShardIterator)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRate:
    """How fast a shard is polled by this process, all groups of it together.

    Args:
        calls: GetRecords a second; the service allows five to all processes together, so with three groups in as many
            processes 1.6 each. What is too much is throttled, and polled more slowly for a while.
        bytes: data a second.
        idle: the longest pause, in seconds, between polls of a shard that nothing comes from.
    """

    calls: float = 5.0
    bytes: int = 2 * MIB
    idle: float = 1.0

    def __post_init__(self) -> None:
        """Validate the parameters."""
        for name, value in (("calls", self.calls), ("bytes", self.bytes)):
            if not value > 0:
                raise ConfigurationError(f"{name} must be > 0, got {value!r}")
        check_duration("idle", self.idle, most=_MAX_IDLE_S)


class Budget:
    """When one shard may be read next."""

    def __init__(self, rate: ReadRate) -> None:
        self._rate = rate
        self._next = 0.0
        self._penalty = 0.0

    async def wait(self) -> None:
        """Return when it is this caller's turn; others of the process come after it."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        turn = max(now, self._next)
        self._next = turn + 1 / self._rate.calls
        if turn > now:
            await asyncio.sleep(turn - now)

    def spend(self, size: int) -> None:
        """A call brought so many bytes: the next waits until they are within the rate."""
        self._penalty = 0.0
        self._next = max(self._next, asyncio.get_running_loop().time() + size / self._rate.bytes)

    def throttled(self) -> None:
        """The service refused a call: others read the shard, or more was read than we know of."""
        self._penalty = min(max(2 * self._penalty, 1 / self._rate.calls), _MAX_PENALTY_S)
        self._next = max(self._next, asyncio.get_running_loop().time() + self._penalty)


class ReadRates:
    """The budgets of one stream's shards."""

    def __init__(self, rate: ReadRate) -> None:
        self.rate = rate
        self._budgets: dict[str, Budget] = {}

    def of(self, shard: str) -> Budget:
        """The budget of a shard, shared by all who ask."""
        return self._budgets.setdefault(shard, Budget(self.rate))
