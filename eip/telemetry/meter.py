"""Counts the calls, messages and bytes that a service bills.

Every driver reports each call to its transport's meter, so that the cost per handled message is a measured figure.
`UsageMeter` counts in this process; `eip.cost` turns its counts into money.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Final, NamedTuple, Protocol, runtime_checkable

from typing_extensions import override

from eip._logging import get_logger
from eip.clock import Duration, seconds

__all__ = ["Call", "Meter", "Metered", "Usage", "UsageMeter"]

_log = get_logger("eip.meter")

_RECEIVES: Final = frozenset(("ReceiveMessage", "GetRecords", "receive"))
"""Operations that ask for messages: one that brought none is an empty receive."""
_SETTLES: Final = frozenset(("DeleteMessage", "DeleteMessageBatch", "ack", "ACK"))
"""Operations that finish a message."""
_REST: Final = "(others)"
"""The channel that all calls beyond the limit of combinations are counted under."""


class Meter(Protocol):
    """Receives one report per call to a service; must be fast and must not raise."""

    def record(
        self,
        service: str,
        channel: str,
        operation: str,
        *,
        messages: int = 0,
        size: int = 0,
        units: int = 1,
        calls: int = 1,
        heartbeats: int = 0,
    ) -> None:
        """Count a call.

        Args:
            service: ``"sqs"``, ``"sns"``, ``"eventbridge"``, ``"kinesis"``, ``"activemq"``, ``"memory"``.
            channel: the channel's name.
            operation: the service's own name of the call, e.g. ``"SendMessageBatch"``.
            messages: messages carried; 0 for an empty receive.
            size: payload bytes carried.
            units: billed requests of the call (64 KB chunks on SQS and SNS); 0 where nothing is billed.
            calls: HTTP calls or frames, where several are reported at once.
            heartbeats: leases that the call extends (ChangeMessageVisibilityBatch both extends leases and gives
                messages back).
        """
        ...


@runtime_checkable
class Metered(Protocol):
    """A transport that reports its calls."""

    meter: Meter | None
    """Set before channels are asked for; None: nothing is recorded."""


class Call(NamedTuple):
    """The key of a count."""

    service: str
    channel: str
    operation: str


@dataclass(slots=True)
class Usage:
    """Counts that only grow."""

    calls: int = 0
    """Calls that the service answered."""
    units: int = 0
    """Billed requests."""
    messages: int = 0
    """Messages carried; a pack is one."""
    size: int = 0
    """Payload bytes carried, attributes included."""
    empty_receives: int = 0
    """Calls that asked for messages and got none."""
    heartbeats: int = 0
    """Leases extended."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(mine + theirs for mine, theirs in zip(self._counts(), other._counts(), strict=True)))

    def __sub__(self, other: Usage) -> Usage:
        return Usage(*(mine - theirs for mine, theirs in zip(self._counts(), other._counts(), strict=True)))

    def _counts(self) -> tuple[int, ...]:
        return (self.calls, self.units, self.messages, self.size, self.empty_receives, self.heartbeats)


class UsageMeter(Meter):
    """Counts calls per service, channel and operation; give it to a transport as ``meter``.

    A report costs a look-up and a few additions; one meter may serve several transports of one event loop.

    Args:
        max_channels: maximum number of combinations of service, channel and operation. Further ones are counted under
            the channel ``(others)``, so that a service with a queue per customer stays bounded.
    """

    def __init__(self, *, max_channels: int = 10_000) -> None:
        self._max_channels = max_channels
        self._counts: dict[tuple[str, str, str], Usage] = {}
        self._logged: dict[tuple[str, str], Usage] = {}

    @override
    def record(
        self,
        service: str,
        channel: str,
        operation: str,
        *,
        messages: int = 0,
        size: int = 0,
        units: int = 1,
        calls: int = 1,
        heartbeats: int = 0,
    ) -> None:
        counts = self._counts.get((service, channel, operation))
        if counts is None:
            counts = self._new(service, channel, operation)
        counts.calls += calls
        counts.units += units
        counts.messages += messages
        counts.size += size
        counts.heartbeats += heartbeats
        if not messages and operation in _RECEIVES:
            counts.empty_receives += calls

    def _new(self, service: str, channel: str, operation: str) -> Usage:
        known = channel if len(self._counts) < self._max_channels else _REST
        return self._counts.setdefault((service, known, operation), Usage())

    def usage(self) -> dict[Call, Usage]:
        """Return a copy of the counts."""
        return {Call(*call): counts + Usage() for call, counts in list(self._counts.items())}

    def total(self, service: str | None = None) -> Usage:
        """Return the sum of a service's counts, or of all."""
        counted = self.usage()
        return sum((counts for call, counts in counted.items() if service in (None, call.service)), Usage())

    @property
    def settled(self) -> int:
        """Messages that were acknowledged; a pack counts as one (`eip.Consumer.stats.messages` counts those in it).

        Records of streams are not included: their readers keep checkpoints and acknowledge nothing.
        """
        return sum(counts.messages for call, counts in self.usage().items() if call.operation in _SETTLES)

    def as_dict(self) -> dict[str, dict[str, dict[str, dict[str, int]]]]:
        """Return the counts as plain data: by service, channel and operation."""
        found: dict[str, dict[str, dict[str, dict[str, int]]]] = {}
        for call, counts in self.usage().items():
            found.setdefault(call.service, {}).setdefault(call.channel, {})[call.operation] = asdict(counts)
        return found

    def log(self) -> None:
        """Write one log event per channel with the counts since the last call."""
        for (service, channel), counts in self._by_channel().items():
            news = counts - self._logged.get((service, channel), Usage())
            if news.calls:
                _log.info("usage", service=service, channel=channel, **asdict(news))
            self._logged[service, channel] = counts

    async def log_every(self, interval: Duration) -> None:
        """Call `log` every ``interval`` seconds until cancelled, and then once more."""
        try:
            while True:
                await asyncio.sleep(seconds(interval))
                self.log()
        finally:
            self.log()

    def _by_channel(self) -> dict[tuple[str, str], Usage]:
        found: dict[tuple[str, str], Usage] = {}
        for call, counts in self.usage().items():
            key = call.service, call.channel
            found[key] = found.get(key, Usage()) + counts
        return found

    def __repr__(self) -> str:
        total = self.total()
        return f"<UsageMeter calls={total.calls} units={total.units} messages={total.messages}>"
