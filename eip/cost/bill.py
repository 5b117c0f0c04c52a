"""From metered calls to money: each call of the meter at its rate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from eip.cost.prices import GB, MILLION, Prices
from eip.telemetry.meter import Call, Usage

__all__ = ["Bill", "Line", "bill"]

_FREE: Final = frozenset(("memory", "activemq", "sts"))
"""Not billed by the call: what runs here, on one's own broker, or for nothing."""
_PUBLISHES: Final = frozenset(("Publish", "PublishBatch"))
_PUTS: Final = frozenset(("PutRecord", "PutRecords"))


class Line(NamedTuple):
    """One item of a bill."""

    call: Call
    rate: str
    quantity: float
    """In the rate's own measure: millions of requests, gigabytes."""
    dollars: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """The cost of metered calls, without the hours of shards and brokers, which no call reports."""

    lines: tuple[Line, ...]
    prices: Prices
    unpriced: tuple[Call, ...] = ()
    """Calls of services whose prices are not known here."""

    @property
    def total(self) -> float:
        """US dollars."""
        return sum(line.dollars for line in self.lines)

    def per_million(self, handled: int) -> float:
        """Dollars per million messages, where so many were handled; 0 before the first."""
        return self.total * MILLION / handled if handled else 0.0

    def by_channel(self) -> dict[tuple[str, str], float]:
        """Dollars by service and channel, the dearest first."""
        found: dict[tuple[str, str], float] = {}
        for line in self.lines:
            key = line.call.service, line.call.channel
            found[key] = found.get(key, 0.0) + line.dollars
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "total": self.total,
            "currency": "USD",
            "region": self.prices.region,
            "date": self.prices.date.isoformat(),
            "lines": [
                {**each.call._asdict(), "rate": each.rate, "quantity": each.quantity, "dollars": each.dollars}
                for each in self.lines
            ],
            "unpriced": [call._asdict() for call in self.unpriced],
        }


def bill(usage: Mapping[Call, Usage], prices: Prices) -> Bill:
    """The cost of the calls at these prices, e.g. ``bill(meter.usage(), prices("us-east-1"))``."""
    lines: list[Line] = []
    unpriced: list[Call] = []
    for call, counts in usage.items():
        found = _rates(call, counts)
        if found is None:
            unpriced.append(call)
            continue
        for rate, quantity in found:
            lines.append(Line(call, rate, quantity, quantity * prices[rate]))
    return Bill(lines=tuple(lines), prices=prices, unpriced=tuple(unpriced))


def _rates(call: Call, counts: Usage) -> list[tuple[str, float]] | None:
    """The rates of a call and how much of each; None for a service that is not known."""
    match call.service:
        case "sqs" | "sns":
            return list(_by_request(call, counts))
        case "eventbridge":
            return [("eventbridge.million", counts.units / MILLION)] if call.operation == "PutEvents" else []
        case "kinesis":
            return [("kinesis.put_unit.million", counts.units / MILLION)] if call.operation in _PUTS else []
        case free if free in _FREE:
            return []
    return None


def _by_request(call: Call, counts: Usage) -> Iterator[tuple[str, float]]:
    """SQS and SNS bill every call; SNS also bills the bytes of a FIFO topic."""
    kind = "fifo" if call.channel.endswith(".fifo") else "standard"
    yield f"{call.service}.{kind}.million", counts.units / MILLION
    if call.service == "sns" and kind == "fifo" and call.operation in _PUBLISHES:
        yield "sns.fifo.gb", counts.size / GB
