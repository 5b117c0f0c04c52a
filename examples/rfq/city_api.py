"""The map of the city: where a place is, and where the unicorns are."""

from __future__ import annotations

import asyncio
import math

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from examples.rfq.booking import RideBooking
from examples.rfq.model import Presence
from examples.rfq.problems import Problem
from examples.rfq.vicinity import ZONES, Position, located, zones_near

__all__ = ["city_routes"]


def city_routes(booking: RideBooking) -> list[BaseRoute]:
    """The routes, on a booking service that knows who is where."""
    api = _Api(booking)
    return [Route("/city", api.city), Route("/unicorns", api.unicorns)]


class _Api:
    def __init__(self, booking: RideBooking) -> None:
        self._booking = booking
        self._herd = _Herd(booking)

    async def city(self, request: Request) -> Response:
        """Where a place is, by its name or as given by x and y, and how many unicorns are near it."""
        place = request.query_params.get("place", "").strip()
        if not 0 < len(place) <= 200:
            raise Problem(422, "Invalid place", "place is 1 to 200 characters")
        position = _position(request) or located(place)
        radius = _number(request, "radius", most=1.0) or 0.0
        near = await self._booking.near(position, radius)
        where = {"place": place, "x": position.x, "y": position.y, "zone": position.zone}
        return JSONResponse({**where, "zones": zones_near(position, radius), "unicorns": len(near)})

    async def unicorns(self, _: Request) -> Response:
        """Where all unicorns are, for the map."""
        herd = [
            {"unicorn": each.unicorn, "name": each.name or each.unicorn, "x": each.position.x, "y": each.position.y}
            for each in await self._herd.seen()
        ]
        return JSONResponse({"zones": ZONES, "unicorns": herd})


class _Herd:
    """Where the unicorns are, looked up at most once a second, however many maps are watched."""

    def __init__(self, booking: RideBooking) -> None:
        self._booking = booking
        self._seen: list[Presence] = []
        self._until = 0.0
        self._looking = asyncio.Lock()

    async def seen(self) -> list[Presence]:
        """All unicorns, as they were a second ago or later."""
        async with self._looking:
            now = asyncio.get_running_loop().time()
            if now >= self._until:
                self._seen = list((await self._booking.unicorns()).values())
                self._until = now + 1.0
        return self._seen


def _position(request: Request) -> Position | None:
    """The query's x and y."""
    x, y = (_number(request, name, most=math.nextafter(1, 0)) for name in "xy")
    return None if x is None or y is None else Position(x=x, y=y)


def _number(request: Request, name: str, *, most: float) -> float | None:
    """A number of the query, from 0; None where it has none."""
    given = request.query_params.get(name)
    if given is None:
        return None
    try:
        number = float(given)
    except ValueError:
        number = math.nan
    if not 0 <= number <= most:
        raise Problem(422, "Invalid number", f"{name} is a number from 0 to {most:g}")
    return number
