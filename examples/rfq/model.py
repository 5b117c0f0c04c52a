"""The messages between customers, the ride booking service and unicorns."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from examples.rfq.vicinity import Position, located, zones_near

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]

SHORTEST, LONGEST = 1.0, 3600.0
"""Bounds of a request's own duration, in seconds."""
PRESENT = 30.0
"""Seconds that a unicorn counts as present after each announcement of its place."""


class Ride(BaseModel):
    """From where to where, and for whom."""

    model_config = ConfigDict(populate_by_name=True)

    start: Text = Field(alias="from")
    to: Text
    customer: Text


class RideRequest(Ride):
    """What a customer asks for."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    start_position: Position | None = Field(default=None, alias="from-position")
    """Where the start is; default: where its name is."""
    to_position: Position | None = Field(default=None, alias="to-position")
    radius: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False, strict=True)
    """How far from the start zones may begin whose unicorns are asked too; the city is 1 wide."""
    duration: float | None = Field(default=None, ge=SHORTEST, le=LONGEST, allow_inf_nan=False, strict=True)
    """Seconds that quotes are gathered for; default: the service's."""

    callback: str | None = None
    """The URL that is called with the result once the RFQ is complete."""

    @property
    def origin(self) -> Position:
        """Where the ride starts."""
        return self.start_position or located(self.start)

    @property
    def destination(self) -> Position:
        """Where it ends."""
        return self.to_position or located(self.to)


class Choice(BaseModel):
    """Whose offer a customer takes."""

    model_config = ConfigDict(extra="forbid")

    unicorn: Text


class QuoteRequest(BaseModel):
    """What unicorns are asked."""

    ride: Ride
    start: Position
    to: Position
    radius: float = 0.0

    @property
    def zones(self) -> list[str]:
        """The zones whose unicorns are asked."""
        return zones_near(self.start, self.radius)


class Quote(BaseModel):
    """What a unicorn answers."""

    unicorn: str
    name: str
    price: float
    """In unicoins."""
    minutes: float
    """Until it is there."""


class UnicornAnswer(BaseModel):
    """What a unicorn's app answers: a price and the minutes until it is there, or why it declines."""

    model_config = ConfigDict(extra="forbid")

    rfq: Text
    price: float | None = Field(default=None, ge=0, le=1_000_000, allow_inf_nan=False)
    """In unicoins."""
    minutes: float | None = Field(default=None, ge=0, le=10_000, allow_inf_nan=False)
    declined: Text | None = None

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        offers = self.price is not None and self.minutes is not None
        if offers == (self.declined is not None) or (self.price is None) != (self.minutes is None):
            raise ValueError("give either price and minutes, or declined")
        return self


class UnicornPlace(BaseModel):
    """Where a unicorn's app signs it in, or moves it to."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=60)] | None = None
    """For people; default: the one that it has, at first its id."""
    position: Position | None = None
    place: Text | None = None
    """The name of a place instead."""

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        if (self.position is None) == (self.place is None):
            raise ValueError("give either position or place")
        return self

    @property
    def where(self) -> Position:
        """The position that was given, or that of the place."""
        return self.position or located(self.place or "")


class Presence(BaseModel):
    """Where a unicorn is: sent when it comes, now and then while it is there, and when it goes (zone None)."""

    unicorn: str
    name: str = ""
    zone: str | None
    left: str | None = None
    """The zone that it was in before."""
    position: Position


def as_json(model: BaseModel) -> dict[str, Any]:
    """The model as plain JSON values, under its public names."""
    return model.model_dump(mode="json", by_alias=True)
