"""The iterator age as a metric of OpenTelemetry (extra ``otel``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from eip.errors import ConfigurationError
from eip.streams.group import StreamGroup

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Observation
    from opentelemetry.metrics import Meter as OtelMeter

__all__ = ["export_iterator_age"]


def export_iterator_age(group: StreamGroup, otel: OtelMeter | None = None) -> None:
    """Observe, by shard held in this process, the gauge ``eip.stream.iterator_age`` in seconds.

    Its attributes are ``stream``, ``group`` and ``shard``; ``otel`` is by default the global provider's meter ``eip``.
    Raises `ConfigurationError` without the extra ``otel``.
    """
    try:
        from opentelemetry.metrics import Observation, get_meter  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError("metrics need the extra: pip install aioeip[otel]") from error

    def observe(_: CallbackOptions) -> Iterator[Observation]:
        for each in group.shards:
            where = {"stream": group.log.name, "group": group.group, "shard": each.shard}
            yield Observation(each.iterator_age, where)

    meter = get_meter("eip") if otel is None else otel
    meter.create_observable_gauge("eip.stream.iterator_age", [observe], unit="s")
