"""The geometry of the city: where a place is, which zone that is in, and which zones are near it."""

from __future__ import annotations

import hashlib
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ZONES", "Position", "all_zones", "located", "zones_near"]

ZONES: Final = 3
"""The city is a square of so many zones a side; each has a topic."""


class Position(BaseModel):
    """A place in the city: both from 0 (south, west) to below 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    x: float = Field(ge=0, lt=1, allow_inf_nan=False)
    y: float = Field(ge=0, lt=1, allow_inf_nan=False)

    @property
    def zone(self) -> str:
        """The zone that the place is in, e.g. ``"1-2"``."""
        return f"{int(self.x * ZONES)}-{int(self.y * ZONES)}"

    def distance(self, other: Position) -> float:
        """As the unicorn flies."""
        return float(((self.x - other.x) ** 2 + (self.y - other.y) ** 2) ** 0.5)


def located(place: str) -> Position:
    """Where a place is; the same name is always the same place."""
    digest = hashlib.sha256(place.casefold().encode()).digest()
    return Position(x=int.from_bytes(digest[:4], "big") / 2**32, y=int.from_bytes(digest[4:8], "big") / 2**32)


def all_zones() -> list[str]:
    """The zones of the city."""
    return [f"{x}-{y}" for x in range(ZONES) for y in range(ZONES)]


def zones_near(position: Position, radius: float) -> list[str]:
    """The zones that a ride from there is offered to: its own first, then each that begins within the radius."""
    others = (zone for zone in all_zones() if zone != position.zone and _distance(zone, position) < radius)
    return [position.zone, *others]


def _distance(zone: str, position: Position) -> float:
    """From the position to the nearest point of the zone."""
    west, south = (int(each) / ZONES for each in zone.split("-"))
    side = 1 / ZONES
    dx = max(west - position.x, 0.0, position.x - west - side)
    dy = max(south - position.y, 0.0, position.y - south - side)
    return float((dx**2 + dy**2) ** 0.5)
