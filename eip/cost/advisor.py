"""Ways to carry a flow of messages: what each costs a month, which limits it meets, and what is lost with it.

Every way is one that this library offers, used as it uses it: calls in batches, long polls, filters pushed down to the
service, packs of `eip.patterns.Packer`. What runs beside the services (computing, checkpoints, data transfer)
is the same for all, or nearly, and not counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from eip.cost._carried import packings
from eip.cost._functions import with_functions
from eip.cost._notes import notes
from eip.cost._ways import Ways
from eip.cost.alternatives import Alternative
from eip.cost.prices import MILLION, Prices
from eip.cost.profile import Profile

__all__ = ["Advice", "advise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The alternatives, those that fit first, the cheapest first; and what to make of them."""

    profile: Profile
    prices: Prices
    alternatives: tuple[Alternative, ...]
    notes: tuple[str, ...]

    @property
    def best(self) -> Alternative | None:
        """The cheapest that fits."""
        return next((each for each in self.alternatives if each.fits), None)

    def named(self, name: str) -> Alternative:
        """The alternative of a name; raises `KeyError`."""
        for each in self.alternatives:
            if each.name == name:
                return each
        raise KeyError(name)

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "prices": {"region": self.prices.region, "date": self.prices.date.isoformat(), "currency": "USD"},
            "messages_per_month": self.profile.messages,
            "alternatives": [
                {
                    "name": each.name,
                    "fits": each.fits,
                    "monthly": each.monthly,
                    "per_million": each.monthly * MILLION / self.profile.messages,
                    "received": each.received,
                    "unfit": list(each.unfit),
                    "limits": list(each.limits),
                    "lost": list(each.lost),
                    "items": [
                        {"what": item.what, "quantity": item.quantity, "rate": item.rate, "dollars": item.dollars}
                        for item in each.items
                    ],
                }
                for each in self.alternatives
            ],
            "notes": list(self.notes),
        }


def advise(profile: Profile, prices: Prices) -> Advice:
    """The ways to carry the flow, compared.

    Raises `ConfigurationError` where the price list lacks a rate that is needed.
    """
    found = [with_functions(each, profile, prices) for each in _alternatives(Ways(profile, prices))]
    ranked = sorted(found, key=lambda each: (not each.fits, each.monthly))
    return Advice(profile=profile, prices=prices, alternatives=tuple(ranked), notes=tuple(notes(profile, found)))


def _alternatives(way: Ways) -> Iterator[Alternative]:
    """Each way plain, and packed where a pack would hold more than the way carries otherwise."""
    filters = (True, False) if any(share < 1 for share in way.profile.shares) else (False,)
    if way.profile.consumers == 1:
        for fifo in (False, True):
            for packing in packings(way.profile, "sqs", fifo=fifo):
                yield way.queue(packing, fifo=fifo)
    for filtered in filters:
        for fifo in (False, True):
            for packing in packings(way.profile, "sns", fifo=fifo):
                yield way.topic(packing, fifo=fifo, filtered=filtered)
        for packing in packings(way.profile, "eventbridge", fifo=False):
            yield way.bus(packing, filtered=filtered)
    yield way.topic("", fifo=False, filtered=filters[0], one_by_one=True)
    yield from _streams_and_brokers(way)


def _streams_and_brokers(way: Ways) -> Iterator[Alternative]:
    for packing in packings(way.profile, "kinesis", fifo=way.profile.ordered):
        yield way.stream(packing)
    if "kinesis.stream.hour" in way.prices:
        yield way.stream_on_demand()
    if "mq.m5.large.hour" in way.prices:
        yield way.broker()
