"""Unicorn management over HTTP: who may do what, both kinds of push, and a herd that is a client like any other."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from eip import Backoff
from examples.rfq.herd import Herd
from examples.rfq.model import RideRequest
from examples.rfq.rate_limit import RateLimit
from examples.rfq.tokens import Tokens
from examples.rfq.unicorn_api import unicorn_app
from examples.rfq.unicorn_client import RemoteEntrance
from examples.rfq.unicorns import Unicorns
from tests.examples.rfq.service import ROOT
from tests.examples.rfq.serving import frames, served
from tests.examples.rfq.test_booking import booked, complete, there

HOME = {"x": 0.34, "y": 0.5}
RIDE = RideRequest.model_validate({"from": "A", "to": "B", "customer": "C", "from-position": HOME, "duration": 60})


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


class Rydes:
    """Unicorn management as a service of its own, with ride booking behind the channels."""

    def __init__(self, booking, unicorns, serving, client):
        self.booking, self.unicorns, self.serving, self.client = booking, unicorns, serving, client

    def unicorn(self, token=None):
        """A client with a token of its own."""
        token = token or secrets.token_urlsafe(32)
        return httpx.AsyncClient(base_url=self.serving.url, headers=bearer(token), trust_env=False, timeout=10)

    async def ask(self, **more):
        return (await self.booking.request(RIDE.model_copy(update=more))).id


@asynccontextmanager
async def rydes(**options):
    async with booked() as (booking, channels), asyncio.TaskGroup() as tasks:
        unicorns = Unicorns(channels)
        tasks.create_task(unicorns.run())
        application = unicorn_app(unicorns, [unicorns], **options)
        async with served(application) as serving, httpx.AsyncClient(base_url=serving.url, trust_env=False) as client:
            try:
                yield Rydes(booking, unicorns, serving, client)
            finally:
                await unicorns.stop()


async def events_until(unicorn, wanted, **headers):
    """The server-sent events until there is one of a question in that state."""
    found = []
    async with unicorn.stream("GET", "/unicorn/events", headers=headers) as stream:
        block: dict[str, str] = {}
        async for line in stream.aiter_lines():
            if line:
                name, _, value = line.partition(": ")
                block[name] = value
                continue
            found.append((block["id"], block["event"], json.loads(block["data"])))
            if found[-1][2].get("state") == wanted:
                return found
    raise AssertionError(found)


async def test_a_unicorn_signs_in_is_asked_answers_and_leaves():
    async with rydes() as it, it.unicorn() as luna:
        assert (await luna.get("/unicorn/self")).status_code == 404
        place = {"name": "Luna", "position": HOME}
        signed_in = await luna.put("/unicorn/self", json=place)
        assert signed_in.status_code == 200
        shown = signed_in.json()
        assert (shown["name"], shown["zone"], shown["x"], shown["y"]) == ("Luna", "1-1", 0.34, 0.5)
        assert set(shown["links"]) == {"self", "events", "socket", "answers"}
        await there(it.booking, 1)
        rfq = await it.ask()
        events = await events_until(luna, "open")
        assert [event for _, event, _ in events][0 :: len(events) - 1] == ["place", "rfq"]
        offer = {"rfq": rfq, "price": 12.5, "minutes": 4}
        for _ in range(2):
            assert (await luna.post("/unicorn/answers", json=offer)).status_code == 200
        changed = await luna.post("/unicorn/answers", json={**offer, "price": 1})
        assert (changed.status_code, changed.json()["title"]) == (409, "Answered already")
        again = await events_until(luna, "quoted", **{"Last-Event-ID": events[-1][0]})
        assert [(event, data["rfq"], data["price"]) for _, event, data in again] == [("rfq", rfq, 12.5)]
        done = await it.booking.get(rfq)
        assert done is not None
        while not done.completed_at:
            done = await it.booking.get(rfq)
        assert [(each.unicorn, each.name, each.price) for each in done.quotes] == [(shown["unicorn"], "Luna", 12.5)]
        for _ in range(2):
            assert (await luna.delete("/unicorn/self")).status_code == 204
        assert (await luna.post("/unicorn/answers", json=offer)).status_code == 404
        await there(it.booking, 0)


async def test_streams_that_clients_left_make_room_for_others():
    async with rydes() as it, it.unicorn() as luna, AsyncExitStack() as stack:
        await luna.put("/unicorn/self", json={"position": HOME})
        await there(it.booking, 1)
        await it.ask()
        for _ in range(10):
            await events_until(luna, "open")
        session = next(iter(it.unicorns._sessions.values()))
        while session._streams:
            await asyncio.sleep(0.01)
        for _ in range(4):
            stream = await stack.enter_async_context(luna.stream("GET", "/unicorn/events"))
            assert stream.status_code == 200
        while session._streams < 4:
            await asyncio.sleep(0.01)
        assert (await luna.get("/unicorn/events")).status_code == 429
        token = luna.headers["authorization"].removeprefix("Bearer ")
        async with it.serving.socket("/unicorn/socket", token) as socket:
            refused = json.loads(await socket.recv())
            assert (refused["event"], refused["data"]["status"]) == ("refused", 429)


async def test_an_answer_that_is_late_is_told_so():
    async with rydes() as it, it.unicorn() as luna:
        await luna.put("/unicorn/self", json={"position": HOME})
        await there(it.booking, 1)
        rfq = await it.ask(duration=1.0)
        await events_until(luna, "over")
        late = await luna.post("/unicorn/answers", json={"rfq": rfq, "declined": "too tired"})
        assert (late.status_code, late.json()["title"]) == (410, "Too late")
        unknown = await luna.post("/unicorn/answers", json={"rfq": "x", "declined": "too tired"})
        assert unknown.status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("self", {"name": "Luna"}, "position or place"),
        ("self", {"position": HOME, "place": "A"}, "position or place"),
        ("self", {"position": {"x": 1, "y": 0}}, "position.x"),
        ("self", {"name": "x" * 61, "place": "A"}, "name"),
        ("self", {"place": "A", "unicorn": "another"}, "unicorn"),
        ("answers", {"rfq": "r", "price": 1}, "price and minutes"),
        ("answers", {"rfq": "r"}, "price and minutes"),
        ("answers", {"rfq": "r", "price": 1, "minutes": 1, "declined": "no"}, "price and minutes"),
        ("answers", {"rfq": "r", "price": -1, "minutes": 1}, "price"),
        ("answers", {"rfq": "r", "price": 1, "minutes": 1, "unicorn": "another"}, "unicorn"),
    ],
)
async def test_bad_input_is_refused_the_same_by_both_ways(path, body, says):
    async with rydes() as it, it.unicorn() as luna:
        await luna.put("/unicorn/self", json={"position": HOME})
        answer = await luna.request("PUT" if path == "self" else "POST", f"/unicorn/{path}", json=body)
        assert (answer.status_code, says in answer.json()["detail"]) == (422, True)
        token = luna.headers["authorization"].removeprefix("Bearer ")
        async with it.serving.socket("/unicorn/socket", token) as socket:
            await socket.send(json.dumps({"place" if path == "self" else "answer": body}))
            while (frame := json.loads(await socket.recv()))["event"] != "refused":
                continue
            assert (frame["data"]["status"], says in frame["data"]["detail"]) == (422, True)


async def test_frames_that_are_no_commands_are_refused_and_the_socket_stays():
    async with rydes() as it, it.serving.socket("/unicorn/socket", secrets.token_urlsafe(32)) as socket:
        for frame in ("{", "[]", "{}", '{"fly": 1}', '{"leave": false}', '{"place": null}', "[" * 16_000):
            await socket.send(frame)
            refused = json.loads(await socket.recv())
            assert (refused["event"], refused["data"]["status"] in (400, 422)) == ("refused", True)
        await socket.send('{"leave": true}')
        assert json.loads(await socket.recv()) == {"event": "done", "data": {}}
        await socket.send(json.dumps({"place": {"position": HOME}}))
        assert {json.loads(await socket.recv())["event"] for _ in range(2)} <= {"done", "place"}


async def test_a_unicorn_can_only_be_itself():
    """Its token says who it is: on any process, and whatever it sends."""
    async with rydes() as it, it.unicorn() as luna, it.unicorn() as binky:
        one = (await luna.put("/unicorn/self", json={"position": HOME})).json()["unicorn"]
        other = (await binky.put("/unicorn/self", json={"position": HOME})).json()["unicorn"]
        assert one != other
        await there(it.booking, 2)
        rfq = await it.ask()
        await events_until(luna, "open")
        await events_until(binky, "open")
        await luna.post("/unicorn/answers", json={"rfq": rfq, "declined": "no"})
        await binky.post("/unicorn/answers", json={"rfq": rfq, "price": 1, "minutes": 1})
        done = await complete(it.booking, await it.booking.get(rfq))
        assert [each.unicorn for each in done.quotes] == [other]
        refused: list[dict[str, str]] = [{}, bearer("short"), {"Authorization": "Basic " + "x" * 43}]
        for headers in refused:
            for verb, path in [
                ("PUT", "self"),
                ("GET", "self"),
                ("GET", "events"),
                ("GET", "socket"),
                ("POST", "answers"),
            ]:
                answer = await it.client.request(verb, f"/unicorn/{path}", headers=headers, json={})
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_with_a_token_file_only_unicorns_of_it_sign_in_under_their_names():
    tokens = Tokens()
    luna, strange = tokens.grant("luna", "unicorn"), tokens.grant("Lúna / *", "unicorn")
    customer = tokens.grant("Ada")
    async with rydes(tokens=tokens) as it:
        for token, status, ids in [(luna, 200, "luna"), (strange, 200, "n-"), (customer, 403, ""), ("x" * 43, 401, "")]:
            async with it.unicorn(token) as unicorn:
                answer = await unicorn.put("/unicorn/self", json={"position": HOME})
                assert answer.status_code == status
                assert answer.json().get("unicorn", "").startswith(ids)
        with pytest.raises(InvalidStatus) as refused:
            await it.serving.socket("/unicorn/socket", customer)
        assert refused.value.response.status_code == 403
        assert (await it.client.get("/unicorn")).status_code == 200


async def test_a_flood_of_commands_over_a_web_socket_is_limited_as_calls_are():
    async with (
        rydes(limit=RateLimit(0.01)) as it,
        it.serving.socket("/unicorn/socket", secrets.token_urlsafe(32)) as socket,
    ):
        for _ in range(10):
            await socket.send('{"leave": true}')
        answers = [json.loads(await socket.recv()) for _ in range(10)]
        assert [answer["data"]["status"] for answer in answers] == [429] * 10  # opening it was the one call


async def test_a_herd_over_http_is_a_client_like_any_other():
    async with rydes() as it:
        herd = Herd(RemoteEntrance(it.serving.url), size=5, seed=1, patience=1.0)
        for unicorn in herd.unicorns:
            unicorn.reliability = 2.0
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(herd.run())
            while await herd.missing():
                await asyncio.sleep(0.02)
            await there(it.booking, 5)
            done = await complete(it.booking, await it.booking.get(await it.ask(radius=1.0, duration=30.0)))
            assert done.expected == 5
            assert done.responses >= 3
            await herd.stop()
        await there(it.booking, 0)


async def test_a_herd_over_http_comes_back_once_unicorn_management_does(monkeypatch):
    monkeypatch.setattr("examples.rfq.herd._RETRY_BACKOFF", Backoff(base=0.05, cap=0.1))
    async with rydes() as it:
        herd = Herd(RemoteEntrance(it.serving.url), size=2, seed=1)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(herd.run())
            while await herd.missing():
                await asyncio.sleep(0.02)
            for unicorn in list(it.unicorns._sessions.values()):
                await unicorn.leave()
            while len(it.unicorns) < 2:
                await asyncio.sleep(0.05)
            await herd.stop()


async def test_the_command_runs_a_herd_with_the_tokens_that_it_is_given(tmp_path):
    tokens = Tokens()
    file = tmp_path / "tokens"
    file.write_text("\n".join(tokens.grant(f"star-{number}", "unicorn") for number in range(2)))

    async def command(unicorns):
        line = (sys.executable, "-m", "examples.rfq.herd", it.serving.url, "--unicorns", unicorns, "--tokens", file)
        return await asyncio.create_subprocess_exec(*line, cwd=ROOT, stderr=asyncio.subprocess.PIPE)

    async with rydes(tokens=tokens) as it:
        herd, refused = await asyncio.gather(command("2"), command("3"))
        await there(it.booking, 2)
        assert sorted(await it.booking.unicorns()) == ["star-0", "star-1"]
        herd.terminate()
        assert await herd.wait() == 0
        await there(it.booking, 0)
        assert await refused.wait() == 2
        assert b"as many as there are --tokens" in await refused.stderr.read()


async def test_stopping_ends_every_stream_at_once():
    async with rydes() as it, it.unicorn() as luna:
        await luna.put("/unicorn/self", json={"position": HOME})
        token = luna.headers["authorization"].removeprefix("Bearer ")
        async with (
            luna.stream("GET", "/unicorn/events") as stream,
            it.serving.socket("/unicorn/socket", token) as socket,
        ):
            await asyncio.gather(it.unicorns.stop(), it.serving.server.stop())
            async with asyncio.timeout(20):
                await it.serving.task
                text = "".join([part async for part in stream.aiter_text()])
                with suppress(ConnectionClosed):
                    await frames(socket)
                assert socket.close_code in (1000, 1012)
        assert '"reason": "stopping"' in text


async def test_its_health_and_its_documents_are_those_of_its_own():
    async with rydes() as it:
        assert (await it.client.get("/healthz")).json() == {"status": "ok", "unicorns": 0}
        assert (await it.client.get("/readyz")).json() == {"status": "ready"}
        assert (await it.client.get("/")).headers["location"] == "/unicorn"
        page = await it.client.get("/unicorn")
        assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert 'href="/operations/"' not in page.text
        paths = (await it.client.get("/openapi.json")).json()["paths"]
        assert "/unicorn/self" in paths
        assert "/rfqs" not in paths
