"""The ways to carry a flow, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Alternative", "Item", "Packing"]

Packing: TypeAlias = Literal["", "packed", "packed, zstd"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One position of a month's cost."""

    what: str
    quantity: float
    """In the rate's own measure: millions of requests, hours, gigabytes."""
    rate: str
    dollars: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """One way to carry the flow."""

    name: str
    items: tuple[Item, ...]
    received: float
    """Messages that consumers get in a month, wanted or not: what their computing is paid for."""
    unfit: tuple[str, ...] = ()
    """Why it cannot carry the flow as described."""
    limits: tuple[str, ...] = ()
    """Quotas that it meets; they can be raised, or worked around."""
    lost: tuple[str, ...] = ()
    """Abilities of other ways that this one lacks."""

    @property
    def monthly(self) -> float:
        """US dollars a month."""
        return sum(item.dollars for item in self.items)

    @property
    def fits(self) -> bool:
        """Whether it does what the profile asks for."""
        return not self.unfit
