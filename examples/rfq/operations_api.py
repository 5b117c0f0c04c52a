"""The operations view's resources: what goes on, what failed and why, what it cost, and how to start it anew."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from eip.cost import bill, prices
from eip.telemetry.meter import Usage, UsageMeter
from examples.rfq.bodies import read
from examples.rfq.booking import RideBooking
from examples.rfq.model import Text
from examples.rfq.operations import DeadLetter
from examples.rfq.problems import Problem

__all__ = ["Redrive", "operations_routes"]

_CHANNELS: Final = 6
"""Channels whose usage is shown: the dearest, and then the busiest."""


class Redrive(BaseModel):
    """What is to be handled anew."""

    model_config = ConfigDict(extra="forbid")

    queue: Text
    only: Annotated[list[Text], Field(min_length=1, max_length=100)] | None = None
    """Ids of messages; default: all that failed on the queue."""


def operations_routes(booking: RideBooking, meter: UsageMeter) -> list[BaseRoute]:
    """The routes; the meter is that of the booking service's transport."""
    api = _Operations(booking, meter)
    return [
        Route("/operations/state", api.state),
        Route("/operations/dead-letters", api.dead_letters),
        Route("/operations/dead-letters/redrive", api.redrive, methods=["POST"]),
    ]


class _Operations:
    def __init__(self, booking: RideBooking, meter: UsageMeter) -> None:
        self._booking, self._meter = booking, meter
        self._one_at_a_time = asyncio.Lock()
        """A look at dead letters holds them for a moment; a redrive at that moment would miss them."""

    async def state(self, _: Request) -> Response:
        now = await self._booking.operations()
        body = {
            "in-flight": now.in_flight,
            "responses-per-second": now.responses_per_second,
            "late": now.late,
            "refused": now.refused,
            "unicorns": len(await self._booking.unicorns()),
            "queues": [
                {"queue": each.queue, "messages": each.messages, "dead-letters": each.dead_letters}
                for each in now.queues
            ],
            "cost": _cost(self._meter),
        }
        return JSONResponse(body)

    async def dead_letters(self, _: Request) -> Response:
        async with self._one_at_a_time:
            found = await self._booking.dead_letters()
        return JSONResponse({"dead-letters": [_letter(each) for each in found]})

    async def redrive(self, request: Request) -> Response:
        wanted = await read(request, Redrive)
        try:
            async with self._one_at_a_time:
                done = await self._booking.redrive(wanted.queue, only=wanted.only)
        except LookupError:
            raise Problem(404, "No such queue", "the service reads no queue of that name") from None
        return JSONResponse({"moved": done.moved, "left": done.left, "failed": done.failed})


def _letter(letter: DeadLetter) -> dict[str, Any]:
    return {
        "queue": letter.queue,
        "id": letter.id,
        "type": letter.type,
        "correlation-id": letter.correlation_id,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "failed-on": letter.failed_on,
        "body": letter.body,
    }


def _cost(meter: UsageMeter) -> dict[str, Any]:
    """What the calls so far cost, at the newest prices known here; nothing, on a transport of one's own."""
    counted = bill(meter.usage(), prices())
    dollars = counted.by_channel()
    channels: dict[tuple[str, str], Usage] = {}
    for call, usage in meter.usage().items():
        key = call.service, call.channel
        channels[key] = channels.get(key, Usage()) + usage
    first = sorted(channels, key=lambda key: (-dollars.get(key, 0.0), -channels[key].calls))[:_CHANNELS]
    total = meter.total()
    return {
        "total": counted.total,
        "region": counted.prices.region,
        "date": counted.prices.date.isoformat(),
        "calls": total.calls,
        "messages": total.messages,
        "channels-used": len(channels),
        "channels": [
            {
                "service": service,
                "channel": channel,
                "messages": channels[service, channel].messages,
                "requests": channels[service, channel].units,
                "dollars": dollars.get((service, channel), 0.0),
            }
            for service, channel in first
        ],
    }
