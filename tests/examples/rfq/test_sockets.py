"""Web sockets beside server-sent events: the same events, for the same callers, within the same limits."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from websockets.exceptions import ConnectionClosed, InvalidStatus

from eip import _connections
from examples.rfq import api, questions
from examples.rfq.api import app
from examples.rfq.push import Event, push_over_socket
from examples.rfq.rate_limit import RateLimit
from examples.rfq.tokens import Tokens
from tests.examples.rfq.serving import decoded, frames, served
from tests.examples.rfq.test_booking import booked, present, quote
from tests.examples.rfq.test_ride import rydes

RIDE = {"from": "A", "to": "B", "customer": "Ada"}


@asynccontextmanager
async def serving(**options):
    """The service over HTTP, the booking behind it, channels to play unicorn on, and a client."""
    async with (
        booked() as (booking, channels),
        served(app(booking, **options)) as it,
        httpx.AsyncClient(base_url=it.url, trust_env=False) as client,
    ):
        yield it, booking, channels, client


def path_of(answer, name="socket"):
    return httpx.URL(answer.json()["links"][name]).path


async def test_a_web_socket_and_server_sent_events_tell_the_same():
    async with serving() as (it, booking, channels, client):
        await present(booking, channels, "u1", "u2")
        asked = await client.post("/rfqs", json=RIDE)
        rfq = await booking.get(asked.json()["links"]["self"].rsplit("/", 1)[1])
        assert rfq is not None
        async with it.socket(path_of(asked)) as socket:
            assert socket.subprotocol == "rfq"
            first = json.loads(await socket.recv())
            assert first["event"] == "asked"
            await channels.replies.send(quote(rfq, "u1"))
            heard = [(first["event"], first["data"])]
            async for frame in decoded(socket):
                heard.append((frame["event"], frame["data"]))
                if frame["event"] == "quote":
                    await channels.replies.send(quote(rfq, "u2", type="Declined"))
            assert socket.close_code == 1000
        blocks = (await client.get(path_of(asked, "events"))).text.strip().split("\n\n")
        lines = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]
        pushed = [(line["event"], json.loads(line["data"])) for line in lines]
        last = heard[-1]
        assert [kind for kind, _ in heard if kind != "progress"] == ["asked", "quote", "declined", "complete"]
        assert pushed[0] == heard[0]
        assert pushed[-1] == last
        assert last[1]["links"]["self"] == asked.headers["location"]


async def test_only_the_customer_may_listen(capsys):
    """Not without a token, nor with another's, nor from another site's page, nor under a forged name."""
    tokens = Tokens()
    ada, bert = tokens.grant("Ada"), tokens.grant("Bert")
    async with serving(tokens=tokens) as (it, _, _, client):
        asked = await client.post("/rfqs", json={**RIDE, "duration": 1}, headers={"Authorization": f"Bearer {ada}"})
        path = path_of(asked)
        refusals: list[tuple[int, str | None, dict[str, Any]]] = [
            (401, None, {}),
            (401, "wrong", {}),
            (404, bert, {}),
            (403, ada, {"origin": "http://evil.example"}),
            (421, ada, {"name": "evil.example", "origin": None}),
        ]
        for status, token, options in refusals:
            with pytest.raises(InvalidStatus) as refused:
                await it.socket(path, token, **options)
            assert refused.value.response.status_code == status
            assert refused.value.response.headers["content-type"] == "application/problem+json"
        async with it.socket(path, ada) as socket:
            assert (await frames(socket))[-1][0] == "complete"
        assert capsys.readouterr().err == ""
        by_header = {"Authorization": f"Bearer {ada}"}
        async with it.socket(path, None, additional_headers=by_header, subprotocols=None) as socket:
            assert (await frames(socket))[-1][0] == "complete"


async def test_what_is_open_ends_with_its_token(monkeypatch):
    """A web socket takes no command of a unicorn whose token was taken away, and pushes nothing more to anybody."""
    monkeypatch.setattr(questions, "SILENCE_S", 0.05)
    monkeypatch.setattr(api, "SILENCE_S", 0.05)
    tokens = Tokens()
    ada, luna = tokens.grant("Ada"), tokens.grant("luna", "unicorn")
    async with (
        rydes(tokens=tokens) as service,
        service.served() as it,
        asyncio.timeout(20),
        httpx.AsyncClient(base_url=it.url, trust_env=False) as client,
        it.socket("/unicorn/socket", luna) as unicorn,
    ):
        await unicorn.send(json.dumps({"place": {"name": "Luna", "place": "Mitte"}}))
        while json.loads(await unicorn.recv())["event"] != "done":
            continue
        asked = await client.post("/rfqs", json=RIDE, headers={"Authorization": f"Bearer {ada}"})
        async with it.socket(path_of(asked), ada) as customer:
            await customer.recv()
            tokens.unicorns.clear()
            tokens.customers.clear()
            await unicorn.send(json.dumps({"place": {"name": "Luna", "place": "Kreuzberg"}}))
            left = await frames(unicorn)
            assert [data["status"] for kind, data in left if kind == "refused"] in ([401], [])
            assert "done" not in dict(left)
            assert "complete" not in dict(await frames(customer))


async def test_opening_web_sockets_counts_as_calls():
    async with serving(limit=RateLimit(0.01)) as (it, _, _, _):
        with pytest.raises(InvalidStatus) as first:
            await it.socket("/rfqs/unknown/socket")
        with pytest.raises(InvalidStatus) as second:
            await it.socket("/rfqs/unknown/socket")
        assert [each.value.response.status_code for each in (first, second)] == [404, 429]


def endless(size=1, pause=0.1):
    """An application that pushes events of a size for ever; what it has sent, and whether that has ended."""
    sent: list[None] = []
    ended = asyncio.Event()

    async def events():
        try:
            while True:
                sent.append(None)
                yield Event("much", {"text": "x" * size})
                await asyncio.sleep(pause)
        finally:
            ended.set()

    async def much(socket):
        await push_over_socket(socket, events())

    return Starlette(routes=[WebSocketRoute("/", much)]), sent, ended


async def test_a_web_socket_without_news_shows_that_it_is_there():
    async def events():
        yield Event("first", {"n": 1}, "1")
        yield None  # a silence

    async def quiet(socket):
        await push_over_socket(socket, events())

    async with served(Starlette(routes=[WebSocketRoute("/", quiet)])) as it, it.socket("/") as socket:
        assert await frames(socket) == [("first", {"n": 1}), ("quiet", {})]


async def test_a_client_that_does_not_read_is_ended_and_costs_no_memory_meanwhile(monkeypatch):
    monkeypatch.setattr(_connections, "_READ_WITHIN", 0.3)
    application, sent, ended = endless(100_000, pause=0)
    async with served(application) as it:
        _, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(it.url).port, limit=1000)
        key = b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + key)
        async with asyncio.timeout(10):
            await ended.wait()
        assert len(sent) < 200  # what the buffers of two sockets hold
        writer.close()


async def test_frames_that_are_too_large_or_nobody_asked_for_do_no_harm():
    async with serving() as (it, booking, channels, client):
        await present(booking, channels, "u1")
        asked = await client.post("/rfqs", json=RIDE)
        async with it.socket(path_of(asked)) as socket:
            await socket.send("x" * 20_000)
            with pytest.raises(ConnectionClosed):
                await frames(socket)
            assert socket.close_code == 1009
        async with it.socket(path_of(asked)) as socket:
            for _ in range(100):
                await socket.send("{")
            rfq = await booking.get(asked.json()["links"]["self"].rsplit("/", 1)[1])
            assert rfq is not None
            await channels.replies.send(quote(rfq, "u1"))
            assert (await frames(socket))[-1][0] == "complete"


async def test_open_web_sockets_hold_their_place_and_give_it_back():
    """At the limit a web socket is a connection that is being answered: not ended for a new one."""
    application, _, _ = endless()
    async with served(application, connections=1) as it:
        async with it.socket("/") as socket:
            await asyncio.sleep(1.1)  # older than a connection that may be ended for another
            with pytest.raises(InvalidStatus) as refused:
                await it.socket("/")
            assert refused.value.response.status_code == 503
            await socket.recv()
        async with asyncio.timeout(20), it.socket("/") as socket:
            await socket.recv()


async def test_stopping_ends_web_sockets_at_once_and_says_that_one_may_come_back():
    async with serving() as (it, booking, channels, client):
        await present(booking, channels, "u1")
        asked = await client.post("/rfqs", json=RIDE)
        async with it.socket(path_of(asked)) as socket:
            await socket.recv()
            await it.server.stop()
            async with asyncio.timeout(20):
                await it.task
            with pytest.raises(ConnectionClosed):
                await frames(socket)
            assert socket.close_code == 1012
