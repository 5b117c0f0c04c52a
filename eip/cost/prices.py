"""Price lists: data with a region and a date, in the package's ``prices.json`` or a file of the user's own.

A list is JSON: ``{"region": …, "date": "2026-06-01", "source": …, "rates": {NAME: US dollars}}``; a file holds one, or
an array of them. A rate's name ends in what it is paid for: ``million`` (billed requests), ``gb`` (10**9 bytes),
``hour``, ``gb_month``, ``gb_second``. List prices before free tiers, volume discounts and taxes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from eip.codec import load_json
from eip.errors import ConfigurationError

__all__ = ["GB", "MILLION", "Prices", "price_lists", "prices"]

MILLION = 1_000_000
GB = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """The prices of a region's services on a date."""

    region: str
    date: date
    source: str
    rates: Mapping[str, float]
    """US dollars by rate."""

    def __getitem__(self, rate: str) -> float:
        """Dollars; raises `ConfigurationError` where the list lacks the rate."""
        try:
            return self.rates[rate]
        except KeyError:
            raise ConfigurationError(f"the prices of {self.region} of {self.date} lack {rate!r}") from None

    def __contains__(self, rate: str) -> bool:
        return rate in self.rates

    def with_rates(self, rates: Mapping[str, float]) -> Prices:
        """The same list with some rates of one's own, e.g. those of a private pricing agreement."""
        unknown = sorted(rates.keys() - _known_rates())
        if unknown:
            raise ConfigurationError(
                f"no such rate: {', '.join(unknown)}; there are {', '.join(sorted(_known_rates()))}"
            )
        return replace(self, rates=MappingProxyType({**self.rates, **rates}))

    def __str__(self) -> str:
        return f"{self.region}, {self.date}"


def prices(region: str = "us-east-1", *, on: date | str | None = None, file: Path | None = None) -> Prices:
    """The latest price list of the region that was in force on a date (default: today).

    Args:
        region: as AWS names it.
        on: a date, or its ISO form.
        file: lists to look through instead of the package's.

    Raises:
        ConfigurationError: there is none, or the file is no price list.
    """
    when = date.fromisoformat(on) if isinstance(on, str) else on or datetime.now(UTC).date()
    known = price_lists(file)
    found = [each for each in known if each.region == region and each.date <= when]
    if not found:
        have = ", ".join(str(each) for each in known)
        raise ConfigurationError(f"no prices of {region} on {when}; there are: {have}. Give a file of your own")
    return max(found, key=lambda each: each.date)


def price_lists(file: Path | None = None) -> tuple[Prices, ...]:
    """All lists of a file, or of the package."""
    return _shipped() if file is None else _parsed(file.read_bytes(), str(file))


@cache
def _shipped() -> tuple[Prices, ...]:
    return _parsed(files("eip.cost").joinpath("prices.json").read_bytes(), "prices.json")


@cache
def _known_rates() -> frozenset[str]:
    return frozenset(rate for each in _shipped() for rate in each.rates)


def _parsed(raw: bytes, name: str) -> tuple[Prices, ...]:
    found = load_json(raw)
    return tuple(_price_list(each, name) for each in (found if isinstance(found, list) else [found]))


def _price_list(value: Any, name: str) -> Prices:
    match value:
        case {"region": str(region), "date": str(when), "rates": dict(rates)} if all(map(_is_price, rates.values())):
            return Prices(
                region=region,
                date=date.fromisoformat(when),
                source=str(value.get("source", name)),
                rates=MappingProxyType({str(rate): float(price) for rate, price in rates.items()}),
            )
    raise ConfigurationError(f"{name} is not a price list: it must have region, date and rates in dollars")


def _is_price(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
