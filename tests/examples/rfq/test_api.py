"""The API in this process, in virtual time: what takes long, and what rarely happens."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import httpx

from examples.rfq.api import app
from tests.examples.rfq.test_booking import booked, present

RIDE = {"from": "A", "to": "B", "customer": "C"}


@asynccontextmanager
async def api(**options):
    """A client of the API, the booking service behind it, and the channels to play unicorn on."""
    async with booked(seconds=300) as (booking, channels):
        transport = httpx.ASGITransport(app(booking, **options), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://rfq") as client:
            yield client, booking, channels


async def test_a_body_that_does_not_come_is_given_up():
    async def slowly():
        yield b"{"
        await asyncio.sleep(60)
        yield b"}"

    async with api() as (client, _, _):
        answer = await client.post("/rfqs", content=slowly())
        assert answer.status_code == 408
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_failure_inside_is_a_problem_that_says_nothing_of_the_inside():
    async with api() as (client, booking, _):

        def broken(_):
            raise RuntimeError("the secret of the store")

        booking.get = broken
        answer = await client.get("/rfqs/x")
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert "secret" not in answer.text


async def test_a_quiet_stream_of_events_is_kept_alive():
    """Proxies close what is silent for a minute; an RFQ may be silent for five."""
    async with api() as (client, booking, channels):
        await present(booking, channels, "u1")
        asked = (await client.post("/rfqs", json=RIDE)).json()
        events = (await client.get(asked["links"]["events"])).text
        assert events.count(": \n\n") >= 300 / 15 - 2
        assert events.strip().split("\n")[-2] == "event: complete"
