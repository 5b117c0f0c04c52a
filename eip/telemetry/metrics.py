"""Metrics for OpenTelemetry (extra ``otel``): counts that are read when its SDK collects, and the durations.

An `eip.App` exports its own where a meter provider is set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from eip._histogram import SECONDS
from eip.channels import Receiver, Sender
from eip.errors import ConfigurationError
from eip.telemetry.families import Family, Labels, usage_families
from eip.telemetry.meter import UsageMeter

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Observation
    from opentelemetry.metrics import Meter as OtelMeter

__all__ = ["MessagingMetrics", "export_families", "export_metrics", "is_metered"]

_ATTRIBUTES: Final = {
    "system": "messaging.system",
    "channel": "messaging.destination.name",
    "operation": "messaging.operation.name",
}
"""Labels that the semantic conventions have a name for; others begin with ``eip.``"""


def export_metrics(meter: UsageMeter, otel: OtelMeter | None = None) -> None:
    """Register the meter's counts as observable counters, ``eip.transport.calls`` and so on.

    The counts are read when the SDK collects, so handling a message costs nothing more.

    Args:
        meter: whose counts.
        otel: the OpenTelemetry meter to register with; default: the global provider's.

    Raises:
        ConfigurationError: the extra ``otel`` is not installed.
    """
    export_families(usage_families(meter), otel)


def export_families(families: Iterable[Family], otel: OtelMeter | None = None) -> None:
    """Register counters and gauges to be read when the SDK collects; histograms are recorded by `MessagingMetrics`.

    Args:
        families: what to register.
        otel: the OpenTelemetry meter to register with; default: the global provider's.

    Raises:
        ConfigurationError: the extra ``otel`` is not installed.
    """
    target = _api().get_meter("eip") if otel is None else otel
    for family in families:
        options: dict[str, Any] = {"unit": family.unit, "description": family.description}
        if family.kind == "counter":
            target.create_observable_counter(family.name, [_observing(family)], **options)
        elif family.kind == "gauge":
            target.create_observable_gauge(family.name, [_observing(family)], **options)


def is_metered() -> bool:
    """Whether a meter provider is set, so that measurements go somewhere."""
    from opentelemetry.metrics import NoOpMeterProvider, get_meter_provider  # noqa: PLC0415 - an extra

    provider = get_meter_provider()
    return not isinstance(provider, NoOpMeterProvider) and not type(provider).__name__.startswith("_Proxy")


class MessagingMetrics:
    """The metrics of the semantic conventions for messaging, 1.45 ("Messaging client metrics").

    Args:
        otel: the OpenTelemetry meter to register with; default: the global provider's.

    Raises:
        ConfigurationError: the extra ``otel`` is not installed.
    """

    def __init__(self, otel: OtelMeter | None = None) -> None:
        target = _api().get_meter("eip") if otel is None else otel
        buckets: dict[str, Any] = {"unit": "s", "explicit_bucket_boundaries_advisory": list(SECONDS)}
        self._processing = target.create_histogram("messaging.process.duration", **buckets)
        self._sending = target.create_histogram("messaging.client.operation.duration", **buckets)
        self._consumed = target.create_counter("messaging.client.consumed.messages", unit="{message}")
        self._sent = target.create_counter("messaging.client.sent.messages", unit="{message}")

    def processed(self, receiver: Receiver, seconds: float, error: BaseException | None) -> None:
        """Record an attempt to handle a message."""
        attributes = _attributes_of(receiver, "process", error)
        self._processing.record(seconds, attributes)
        self._consumed.add(1, attributes)

    def sent(self, sender: Sender, messages: int, seconds: float, error: BaseException | None) -> None:
        """Record a call of `eip.Sender.send`."""
        attributes = _attributes_of(sender, "send", error)
        self._sending.record(seconds, {**attributes, "messaging.operation.type": "send"})
        self._sent.add(messages, attributes)


def _attributes_of(channel: Sender | Receiver, operation: str, error: BaseException | None) -> dict[str, str]:
    attributes = {
        "messaging.system": channel.system,
        "messaging.destination.name": channel.name,
        "messaging.operation.name": operation,
    }
    return attributes if error is None else {**attributes, "error.type": type(error).__name__}


def _observing(family: Family) -> Callable[[CallbackOptions], Iterator[Observation]]:
    observation = _api().Observation

    def observe(_: CallbackOptions) -> Iterator[Observation]:
        for labels, value in family.read():
            yield observation(value, _renamed(labels))

    return observe


def _renamed(labels: Labels) -> dict[str, str]:
    return {_ATTRIBUTES.get(name, f"eip.{name}"): text for name, text in labels.items()}


def _api() -> Any:
    try:
        from opentelemetry import metrics  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError("metrics need the extra: pip install aioeip[otel]") from error
    return metrics
