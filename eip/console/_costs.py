"""The cost of a transport's calls, so far and per day."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from eip import clock
from eip.channels import Transport
from eip.cost import bill, prices
from eip.errors import EipError, error_text
from eip.telemetry.meter import Usage, UsageMeter

__all__ = ["Costs"]

_MAX_CHANNELS: Final = 50
"""Shown: the dearest, and then the busiest."""
_DAY_S: Final = 86_400.0
_SAMPLE_EVERY_S: Final = 60.0
_WINDOW_S: Final = 3600.0
"""The period that the daily rate is measured over."""
_LEAST_WINDOW_S: Final = 30.0


class Costs:
    """Prices the usage that a transport's meter counts, in this process.

    Args:
        transport: whose `UsageMeter`.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._samples: deque[tuple[float, float]] = deque()
        """Times and totals of the last hour, at most one a minute."""

    @property
    def _meter(self) -> UsageMeter | None:
        meter = getattr(self._transport, "meter", None)
        return meter if isinstance(meter, UsageMeter) else None

    def sample(self) -> None:
        """Note what it cost so far, at most once a minute."""
        now = clock.now()
        if self._meter is None or (self._samples and now - self._samples[-1][0] < _SAMPLE_EVERY_S):
            return
        try:
            self._samples.append((now, self._bill(self._meter).total))
        except EipError:
            return
        while len(self._samples) > 1 and self._samples[0][0] < now - _WINDOW_S:
            self._samples.popleft()

    def as_dict(self) -> dict[str, Any]:
        """Dollars so far and a day, calls and messages, and the channels that cost most."""
        meter = self._meter
        if meter is None:
            return {"metered": False}
        try:
            counted = self._bill(meter)
        except EipError as error:
            return {"metered": True, "error": error_text(error)}
        total = meter.total()
        return {
            "metered": True,
            "total": counted.total,
            "per_day": self._per_day(counted.total),
            "region": counted.prices.region,
            "date": counted.prices.date.isoformat(),
            "calls": total.calls,
            "messages": total.messages,
            "unpriced": sorted({call.service for call in counted.unpriced}),
            "channels": self._channels(meter, counted.by_channel()),
        }

    def _per_day(self, total: float) -> float | None:
        """The cost of a day at the pace of the last hour; None: not measured for long enough."""
        if not self._samples:
            return None
        then, before = self._samples[0]
        passed = clock.now() - then
        return None if passed < _LEAST_WINDOW_S else (total - before) / passed * _DAY_S

    def _bill(self, meter: UsageMeter) -> Any:
        return bill(meter.usage(), prices(getattr(self._transport, "region", None) or "us-east-1"))

    @staticmethod
    def _channels(meter: UsageMeter, dollars: dict[tuple[str, str], float]) -> list[dict[str, Any]]:
        used: dict[tuple[str, str], Usage] = {}
        for call, usage in meter.usage().items():
            key = call.service, call.channel
            used[key] = used.get(key, Usage()) + usage
        first = sorted(used, key=lambda key: (-dollars.get(key, 0.0), -used[key].calls))[:_MAX_CHANNELS]
        return [
            {
                "service": service,
                "channel": channel,
                "messages": used[service, channel].messages,
                "calls": used[service, channel].calls,
                "requests": used[service, channel].units,
                "empty_receives": used[service, channel].empty_receives,
                "dollars": dollars.get((service, channel), 0.0),
            }
            for service, channel in first
        ]
