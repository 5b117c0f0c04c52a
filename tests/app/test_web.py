"""The lifespan of FastAPI and Starlette in one line."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import fastapi
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from eip import App, Message
from eip.transports.memory import MemoryTransport


@asynccontextmanager
async def serving(web: Any):
    """Drive the ASGI protocol as a server does: the lifespan's state is in each request's scope."""
    state: dict[str, Any] = {}
    inbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    outbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    life = asyncio.create_task(web({"type": "lifespan", "state": state}, inbox.get, outbox.put))
    await inbox.put({"type": "lifespan.startup"})
    assert (await outbox.get())["type"] == "lifespan.startup.complete"

    async def with_state(scope: Any, receive: Any, send: Any) -> None:
        await web({**scope, "state": dict(state)}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(with_state), base_url="http://shop") as client:
        yield client
    await inbox.put({"type": "lifespan.shutdown"})
    assert (await outbox.get())["type"] == "lifespan.shutdown.complete"
    await life


async def until_seen(seen: list[int]) -> None:
    async with asyncio.timeout(10):
        while not seen:
            await asyncio.sleep(0.01)


def make_app(seen: list[int]) -> App:
    app = App(MemoryTransport())

    @app.consumer("orders")
    async def bill(message: Message) -> None:
        seen.append(message.body)

    return app


@pytest.mark.parametrize("times", [1, 2])
async def test_fastapi_starts_and_drains_it(times):
    seen: list[int] = []
    for _ in range(times):
        app = make_app(seen)
        web = fastapi.FastAPI(lifespan=app.lifespan)
        orders = app.sender("orders")

        @web.post("/orders/{number}", status_code=202)
        async def place(number: int) -> bool:
            await orders.send(Message(number))  # noqa: B023 - called before the next round
            return app.health().ok  # noqa: B023

        async with serving(web) as client:
            assert (await client.post("/orders/7")).json() is True
            await until_seen(seen)
        assert seen == [7]
        seen.clear()


async def test_starlette_routes_find_it_in_the_request_s_state():
    seen: list[int] = []

    async def place(request: Request) -> JSONResponse:
        await request.state.eip.sender("orders").send(Message(1))
        return JSONResponse(request.state.eip.health().ok)

    web = Starlette(routes=[Route("/", place)], lifespan=make_app(seen).lifespan)
    async with serving(web) as client:
        assert (await client.get("/")).json() is True
        await until_seen(seen)
    assert seen == [1]
