"""What is said between customers, the ride booking service and unicorns."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]

ZONES = 3
"""The city is a square of so many zones a side; each has a topic."""
SHORTEST, LONGEST = 1.0, 3600.0
"""Bounds of a request's own duration, in seconds."""
PRESENT = 30.0
"""Seconds that a unicorn counts as present after it said so."""


class Position(BaseModel):
    """A place in the city: both from 0 (south, west) to below 1."""

    model_config = ConfigDict(extra="forbid")

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


class RideRequest(BaseModel):
    """What a customer asks for."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    start: Text = Field(alias="from")
    to: Text
    customer: Text
    duration: float | None = Field(default=None, ge=SHORTEST, le=LONGEST, allow_inf_nan=False, strict=True)
    """Seconds that quotes are gathered for; default: the service's."""


class Choice(BaseModel):
    """Whose offer a customer takes."""

    model_config = ConfigDict(extra="forbid")

    unicorn: Text


class QuoteRequest(BaseModel):
    """What unicorns are asked."""

    ride: RideRequest
    start: Position
    to: Position


class Quote(BaseModel):
    """What a unicorn answers."""

    unicorn: str
    name: str
    price: float
    """In unicoins."""
    minutes: float
    """Until it is there."""


class Presence(BaseModel):
    """A unicorn says where it is: when it comes, now and then while it is there, and when it goes (zone None)."""

    unicorn: str
    name: str = ""
    zone: str | None
    left: str | None = None
    """The zone that it was in before."""
    position: Position


def all_zones() -> list[str]:
    """The zones of the city."""
    return [f"{x}-{y}" for x in range(ZONES) for y in range(ZONES)]


def as_json(model: BaseModel) -> dict[str, Any]:
    """The model as plain JSON values, under its public names."""
    return model.model_dump(mode="json", by_alias=True)
