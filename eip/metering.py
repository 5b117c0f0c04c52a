"""What the services are asked to do: the calls, messages and bytes that appear on a bill.

Every driver reports each call to its transport's meter, so that cost per handled message is a measured figure.
`UsageMeter` counts in this process; `eip.cost` turns what it counted into money.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from eip._logging import get_logger
from eip.clock import Duration, seconds
from eip.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Observation
    from opentelemetry.metrics import Meter as OtelMeter

__all__ = ["Call", "Meter", "Usage", "UsageMeter", "export_metrics"]

_log = get_logger("eip.metering")

_RECEIVES: Final = frozenset(("ReceiveMessage", "GetRecords", "receive"))
"""Operations that ask for messages: one that brought none is an empty receive."""
_SETTLES: Final = frozenset(("DeleteMessage", "DeleteMessageBatch", "ack", "ACK"))
"""Operations by which a message is done with."""
_REST: Final = "(others)"
"""Counts what is reported once there are too many channels to tell apart."""


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
            heartbeats: leases that the call extends (ChangeMessageVisibilityBatch tells not by its name whether it
                extends a lease or gives a message back).
        """
        ...


class Call(NamedTuple):
    """What usage is counted by."""

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


class UsageMeter:
    """Counts calls per service, channel and operation; give it to a transport as ``meter``.

    A report costs a look-up and a few additions; one meter may serve several transports of one event loop.

    Args:
        most: how many combinations are told apart; what comes beyond is counted under the channel ``(others)``, so
            that a service with a queue per customer stays bounded.
    """

    def __init__(self, *, most: int = 10_000) -> None:
        self._most = most
        self._counts: dict[tuple[str, str, str], Usage] = {}
        self._logged: dict[tuple[str, str], Usage] = {}

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
        """See `Meter.record`."""
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
        known = channel if len(self._counts) < self._most else _REST
        return self._counts.setdefault((service, known, operation), Usage())

    def usage(self) -> dict[Call, Usage]:
        """A copy of the counts."""
        return {Call(*call): counts + Usage() for call, counts in list(self._counts.items())}

    def total(self, service: str | None = None) -> Usage:
        """All counts of a service, or of all, added up."""
        counted = self.usage()
        return sum((counts for call, counts in counted.items() if service in (None, call.service)), Usage())

    @property
    def settled(self) -> int:
        """Messages that were acknowledged; a pack is one (`eip.Consumer.stats.messages` counts those in it).

        Those of streams are not in it: their readers keep checkpoints and acknowledge nothing.
        """
        return sum(counts.messages for call, counts in self.usage().items() if call.operation in _SETTLES)

    def as_dict(self) -> dict[str, dict[str, dict[str, dict[str, int]]]]:
        """The counts as plain data: by service, channel and operation."""
        found: dict[str, dict[str, dict[str, dict[str, int]]]] = {}
        for call, counts in self.usage().items():
            found.setdefault(call.service, {}).setdefault(call.channel, {})[call.operation] = asdict(counts)
        return found

    def log(self) -> None:
        """Write one log event per channel with what was counted since the last time."""
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


_METRICS: Final = {
    "calls": ("{call}", "Calls that a messaging service answered"),
    "units": ("{request}", "Requests that a messaging service bills"),
    "messages": ("{message}", "Messages carried by calls of a messaging service"),
    "size": ("By", "Payload bytes carried by calls of a messaging service"),
    "empty_receives": ("{call}", "Receives that brought no message"),
    "heartbeats": ("{lease}", "Leases of messages extended"),
}
_SYSTEMS: Final = {"sqs": "aws_sqs", "sns": "aws.sns"}
"""Names of the semantic conventions, where they differ from ours."""


def export_metrics(meter: UsageMeter, otel: OtelMeter | None = None) -> None:
    """Let OpenTelemetry read the meter's counts as observable counters named ``eip.transport.calls`` and so on.

    Nothing is added to the path of a message: the counts are read when the SDK collects. ``otel`` is the OpenTelemetry
    meter to register with; default: the global provider's. Raises `ConfigurationError` without the extra ``otel``.
    """
    try:
        from opentelemetry import metrics  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError("metrics need the extra: pip install aioeip[otel]") from error

    def observing(name: str) -> Callable[[CallbackOptions], Iterator[Observation]]:
        def observe(_: CallbackOptions) -> Iterator[Observation]:
            for call, counts in meter.usage().items():
                yield metrics.Observation(getattr(counts, name), _attributes(call))

        return observe

    target = metrics.get_meter("eip") if otel is None else otel
    for name, (unit, description) in _METRICS.items():
        target.create_observable_counter(f"eip.transport.{name}", [observing(name)], unit=unit, description=description)


def _attributes(call: Call) -> dict[str, Any]:
    return {
        "messaging.system": _SYSTEMS.get(call.service, call.service),
        "messaging.destination.name": call.channel,
        "messaging.operation.name": call.operation,
    }
