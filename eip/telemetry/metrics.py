"""Exports a meter's counts as OpenTelemetry metrics (extra ``otel``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from eip.errors import ConfigurationError
from eip.telemetry.meter import Call, UsageMeter

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Observation
    from opentelemetry.metrics import Meter as OtelMeter

__all__ = ["export_metrics"]

_METRICS: Final = {
    "calls": ("{call}", "Calls that a messaging service answered"),
    "units": ("{request}", "Requests that a messaging service bills"),
    "messages": ("{message}", "Messages carried by calls of a messaging service"),
    "size": ("By", "Payload bytes carried by calls of a messaging service"),
    "empty_receives": ("{call}", "Receives that brought no message"),
    "heartbeats": ("{lease}", "Leases of messages extended"),
}
_SYSTEMS: Final = {"sqs": "aws_sqs", "sns": "aws.sns"}
"""Names of the semantic conventions that differ from ours."""


def export_metrics(meter: UsageMeter, otel: OtelMeter | None = None) -> None:
    """Register the meter's counts as observable counters, ``eip.transport.calls`` and so on.

    The counts are read when the SDK collects, so handling a message costs nothing more.

    Args:
        meter: whose counts.
        otel: the OpenTelemetry meter to register with; default: the global provider's.

    Raises:
        ConfigurationError: the extra ``otel`` is not installed.
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
