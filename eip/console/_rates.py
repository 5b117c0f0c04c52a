"""Rates per second, of counters that only grow: what changed within the last seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from eip._histogram import Histogram
from eip.telemetry.families import Family, Labels

__all__ = ["Rates"]

_WINDOW_S: Final = 10.0
_Key: TypeAlias = tuple[str, str]
_KeyOf: TypeAlias = Callable[[Labels], _Key]
_QUANTILE: Final = 0.95


class Rates:
    """Counts by what was counted and where, sampled now and then; keeps those of the last ten seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, dict[_Key, float], dict[str, tuple[int, ...]]]] = deque()
        self._bounds: tuple[float, ...] = ()

    def sample(self, families: Iterable[Family], now: float) -> None:
        """Read the metrics once more, at a time of a monotonic clock."""
        counts: dict[_Key, float] = {}
        durations: dict[str, tuple[int, ...]] = {}
        for family in families:
            match family.name:
                case "eip.sent.messages":
                    _add(counts, family, lambda labels: ("sent", labels["channel"]))
                case "eip.consumer.messages":
                    _add(counts, family, lambda labels: (labels["outcome"], labels["consumer"]))
                case "eip.consumer.in_flight":
                    _add(counts, family, lambda labels: ("in_flight", labels["consumer"]))
                case "eip.handler.duration":
                    self._add_durations(durations, family)
        self._samples.append((now, counts, durations))
        while len(self._samples) > 2 and self._samples[1][0] <= now - _WINDOW_S:
            self._samples.popleft()

    def total(self, what: str, where: str) -> float | None:
        """The count of the last sample; None: nothing of that is counted."""
        return self._samples[-1][1].get((what, where)) if self._samples else None

    def per_second(self, what: str, where: str) -> float | None:
        """The mean of the last seconds; None before the second sample, or where nothing of that is counted."""
        if len(self._samples) < 2 or (what, where) not in self._samples[-1][1]:
            return None
        (then, before, _), (now, after, _) = self._samples[0], self._samples[-1]
        return max(0.0, after[what, where] - before.get((what, where), 0.0)) / max(now - then, 1e-9)

    def duration(self, consumer: str) -> float | None:
        """The upper bound that 95 of 100 attempts within the last seconds kept, in seconds; None: there were none.

        Infinite where more than five took longer than the histogram's last bound.
        """
        if not self._samples or consumer not in self._samples[-1][2]:
            return None
        after, before = self._samples[-1][2][consumer], self._samples[0][2].get(consumer)
        within = after if before is None or len(self._samples) < 2 else tuple(map(int.__sub__, after, before))
        left = sum(within) * _QUANTILE
        if not left:
            return None
        for bound, count in zip((*self._bounds, float("inf")), within, strict=True):
            left -= count
            if left <= 0:
                return bound
        return float("inf")

    def _add_durations(self, durations: dict[str, tuple[int, ...]], family: Family) -> None:
        for labels, value in family.read():
            if isinstance(value, Histogram):
                self._bounds = tuple(value.bounds)
                known = durations.get(labels["consumer"], (0,) * len(value.counts))
                durations[labels["consumer"]] = tuple(map(int.__add__, known, value.counts))


def _add(counts: dict[_Key, float], family: Family, key: _KeyOf) -> None:
    for labels, value in family.read():
        if isinstance(value, (int, float)):
            counts[key(labels)] = counts.get(key(labels), 0.0) + value
