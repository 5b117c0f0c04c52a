"""Metrics as Prometheus's text (extra ``prometheus``), beside whatever else the program counts with its client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any, Final

from typing_extensions import override

from eip._histogram import Histogram
from eip.errors import ConfigurationError
from eip.telemetry.families import Family

try:
    from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
    from prometheus_client.metrics_core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.parser import text_string_to_metric_families
    from prometheus_client.registry import Collector
except ImportError as missing:
    raise ConfigurationError("Prometheus metrics need the extra: pip install aioeip[prometheus]") from missing

__all__ = ["CONTENT_TYPE", "FamilyCollector", "merged", "metric_name", "render"]

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_UNITS: Final = {"s": "seconds", "By": "bytes", "USD": "dollars"}

_KINDS: Final[dict[str, Any]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


def metric_name(family: Family) -> str:
    """Its name in Prometheus, without a counter's ``_total``: ``eip_handler_duration_seconds``."""
    name = family.name.replace(".", "_")
    return f"{name}_{_UNITS[family.unit]}" if family.unit in _UNITS else name


class FamilyCollector(Collector):
    """Reads families when Prometheus asks; register it with a registry of your own, or use `render`.

    Args:
        families: called at each collection.
    """

    def __init__(self, families: Callable[[], Iterable[Family]]) -> None:
        self._families = families

    @override
    def collect(self) -> Iterator[Metric]:
        """The metrics as of now."""
        for family in self._families():
            yield _metric(family)


def render(families: Callable[[], Iterable[Family]]) -> bytes:
    """The families, then what the program registered with the client's own registry, as Prometheus's text.

    Args:
        families: called once.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FamilyCollector(families))
    return generate_latest(registry) + generate_latest(REGISTRY)


def merged(texts: Mapping[str, str], *, label: str) -> bytes:
    """Texts of several processes as one, where each value has a label for its process.

    Args:
        texts: Prometheus's text by process.
        label: what the label is called.
    """
    found: dict[str, Metric] = {}
    for process, text in texts.items():
        for metric in text_string_to_metric_families(text):
            known = found.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
            known.samples += [each._replace(labels={**each.labels, label: process}) for each in metric.samples]
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(list(found.values())))
    return generate_latest(registry)


class _Collected(Collector):
    """Metrics that were read already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    @override
    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _metric(family: Family) -> Metric:
    name, samples = metric_name(family), list(family.read())
    labels = list(samples[0].labels) if samples else []
    metric: Metric = _KINDS[family.kind](name, family.description, labels=labels)
    for each in samples:
        texts = [each.labels[label] for label in labels]
        if isinstance(metric, HistogramMetricFamily):
            assert isinstance(each.value, Histogram)
            metric.add_metric(texts, *_cumulative(each.value))
        elif isinstance(metric, (CounterMetricFamily, GaugeMetricFamily)):
            assert not isinstance(each.value, Histogram)
            metric.add_metric(texts, each.value)
    return metric


def _cumulative(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """A histogram as Prometheus has it: how many values were at most each bound, and their sum."""
    bounds = [*map(repr, map(float, histogram.bounds)), "+Inf"]
    return list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True)), histogram.total
