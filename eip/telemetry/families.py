"""Metrics as values: what each is called, what it counts, and how to read it; exporters make of it what they export.

`eip.telemetry.metrics` gives them to OpenTelemetry, `eip.telemetry.prometheus` writes Prometheus's text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from eip._histogram import COUNTS, SECONDS, Histogram
from eip.channels import Sender
from eip.telemetry.meter import Call, UsageMeter

__all__ = ["SYSTEMS", "Family", "HandlerMeasures", "Kind", "Labels", "Recorder", "Sample", "usage_families"]

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]
Labels: TypeAlias = Mapping[str, str]
_MAX_SERIES: Final = 1000
"""Combinations of labels that a recorder keeps; what follows is not recorded."""
SYSTEMS: Final = {
    "sqs": "aws_sqs",
    "sns": "aws.sns",
    "eventbridge": "aws.eventbridge",
    "kinesis": "aws.kinesis",
}
"""A meter's names of services, by the semantic conventions."""
_AGES: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0)
"""Seconds: a message may have waited for a moment or for a day."""


class Sample(NamedTuple):
    """One value of a metric."""

    labels: Labels
    value: float | Histogram


@dataclass(frozen=True, slots=True)
class Family:
    """A metric."""

    name: str
    """With dots, e.g. ``eip.consumer.messages``."""
    kind: Kind
    unit: str
    """Of UCUM: ``s``, ``By``, ``USD``, ``{message}``."""
    description: str
    read: Callable[[], Iterable[Sample]]
    """Its values now; may be called from any thread."""


class _Histograms:
    """Histograms by their labels, in bounded number."""

    def __init__(self, *names: str, bounds: tuple[float, ...]) -> None:
        self._names, self._bounds = names, bounds
        self._found: dict[tuple[str, ...], Histogram] = {}

    def of(self, *labels: str) -> Histogram:
        """The histogram of those labels; one that nobody reads where there are too many."""
        known = self._found.get(labels)
        if known is None:
            known = Histogram(self._bounds)
            if len(self._found) < _MAX_SERIES:
                self._found[labels] = known
        return known

    def read(self) -> Iterator[Sample]:
        for labels, histogram in list(self._found.items()):
            yield Sample(dict(zip(self._names, labels, strict=True)), histogram)


class HandlerMeasures(NamedTuple):
    """Histograms of the attempts of one handler: a message costs three observations, and no look-up."""

    succeeded: Histogram
    """Seconds that successful attempts took."""
    failed: Histogram
    """Seconds that failed attempts took."""
    age: Histogram
    """Seconds from a message's creation to the attempt."""
    receive_count: Histogram


class Recorder:
    """Keeps how long handling and sending took, how old messages were and how often they came."""

    def __init__(self) -> None:
        self._handling = _Histograms("consumer", "handler", "outcome", bounds=SECONDS)
        self._age = _Histograms("consumer", bounds=_AGES)
        self._attempts = _Histograms("consumer", bounds=COUNTS)
        self._sending = _Histograms("system", "channel", "outcome", bounds=SECONDS)
        self._sent: dict[tuple[str, str], int] = {}

    def handling(self, consumer: str, handler: str) -> HandlerMeasures:
        """The instruments that count the attempts of one handler."""
        return HandlerMeasures(
            self._handling.of(consumer, handler, "ok"),
            self._handling.of(consumer, handler, "error"),
            self._age.of(consumer),
            self._attempts.of(consumer),
        )

    def sent(self, sender: Sender, messages: int, seconds: float, *, outcome: str) -> None:
        """Count a call of `eip.Sender.send`."""
        key = sender.system, sender.name
        self._sending.of(*key, outcome).observe(seconds)
        if outcome == "ok" and (key in self._sent or len(self._sent) < _MAX_SERIES):
            self._sent[key] = self._sent.get(key, 0) + messages

    def families(self) -> Iterator[Family]:
        """The recorded measurements."""
        yield Family("eip.handler.duration", "histogram", "s", "Time that handlers took", self._handling.read)
        yield Family("eip.message.age", "histogram", "s", "Age of messages when their handling began", self._age.read)
        yield Family("eip.message.attempts", "histogram", "{receive}", "Receives of a message", self._attempts.read)
        yield Family("eip.send.duration", "histogram", "s", "Time until the service accepted", self._sending.read)
        yield Family("eip.sent.messages", "counter", "{message}", "Messages that were accepted", self._read_sent)

    def _read_sent(self) -> Iterator[Sample]:
        for (system, channel), count in list(self._sent.items()):
            yield Sample({"system": system, "channel": channel}, count)


_USAGE: Final = {
    "calls": ("{call}", "Calls that a messaging service answered"),
    "units": ("{request}", "Requests that a messaging service bills"),
    "messages": ("{message}", "Messages carried by calls of a messaging service"),
    "size": ("By", "Payload bytes carried by calls of a messaging service"),
    "empty_receives": ("{call}", "Receives that brought no message"),
    "heartbeats": ("{lease}", "Leases of messages extended"),
}


def usage_families(meter: UsageMeter) -> Iterator[Family]:
    """The counts of a meter, by service, channel and operation."""
    for name, (unit, description) in _USAGE.items():
        yield Family(f"eip.transport.{name}", "counter", unit, description, _reading(meter, name))


def _reading(meter: UsageMeter, name: str) -> Callable[[], Iterable[Sample]]:
    def read() -> Iterator[Sample]:
        for call, counts in meter.usage().items():
            yield Sample(_labels_of(call), getattr(counts, name))

    return read


def _labels_of(call: Call) -> dict[str, str]:
    system = SYSTEMS.get(call.service, call.service)
    return {"system": system, "channel": call.channel, "operation": call.operation}
