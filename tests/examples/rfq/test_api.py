"""The API in this process, in virtual time: what takes long, and what rarely happens."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import httpx
import pytest

from eip import clock
from eip.cost import prices
from eip.errors import StoreError
from eip.telemetry.meter import UsageMeter
from examples.rfq.api import app
from examples.rfq.hosts import Hosts
from examples.rfq.model import as_json
from examples.rfq.rate_limit import RateLimit
from examples.rfq.tokens import Tokens
from examples.rfq.vicinity import located
from tests.examples.rfq.test_booking import booked, complete, present, quote
from tests.runtime.scripted import until

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

        async def broken(_):
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


async def test_an_offer_is_chosen_once():
    async with api() as (client, booking, channels):
        await present(booking, channels, "u1", "u2", "u3")
        asked = (await client.post("/rfqs", json=RIDE)).json()
        rfq = await booking.get(asked["links"]["self"].rsplit("/", 1)[1])
        assert rfq is not None
        choice = asked["links"]["choice"]
        nothing_yet = await client.put(choice, json={"unicorn": "u1"})
        assert (nothing_yet.status_code, nothing_yet.json()["title"]) == (422, "No such offer")
        await channels.replies.send(quote(rfq, "u1"), quote(rfq, "u2"), quote(rfq, "u3", type="Declined"))
        await complete(booking, rfq)
        assert (await client.put(choice, json={"unicorn": "u3"})).status_code == 422
        for _ in range(2):
            chosen = await client.put(choice, json={"unicorn": "u2"})
            assert (chosen.status_code, chosen.json()["choice"]) == (200, "u2")
        again = await client.put(choice, json={"unicorn": "u1"})
        assert (again.status_code, again.json()["choice"]) == (409, "u2")
        result = (await client.get(asked["links"]["result"])).json()
        assert (result["choice"], result["declined"], result["unanswered"]) == ("u2", ["u3"], [])


async def test_of_customers_who_choose_at_once_one_choice_stands():
    async with api() as (client, booking, channels):
        names = [f"u{number}" for number in range(8)]
        await present(booking, channels, *names)
        asked = (await client.post("/rfqs", json=RIDE)).json()
        rfq = await booking.get(asked["links"]["self"].rsplit("/", 1)[1])
        assert rfq is not None
        await channels.replies.send(*(quote(rfq, name) for name in names))
        await complete(booking, rfq)
        answers = await asyncio.gather(
            *(client.put(asked["links"]["choice"], json={"unicorn": name}) for name in names)
        )
        assert sorted(each.status_code for each in answers) == [200, *[409] * 7]
        assert len({each.json()["choice"] for each in answers}) == 1


async def test_late_answers_are_told_and_change_nothing_else():
    async with api() as (client, booking, channels):
        await present(booking, channels, "u1", "u2", "u3")
        asked = (await client.post("/rfqs", json={**RIDE, "duration": 5})).json()
        rfq = await booking.get(asked["links"]["self"].rsplit("/", 1)[1])
        assert rfq is not None
        await channels.replies.send(quote(rfq, "u1"))
        before = await complete(booking, rfq)
        # The second of u1 was sent before the one that counts: it must not take its place.
        await channels.replies.send(quote(rfq, "u2"), quote(rfq, "u1", created_at=rfq.created_at - 1))
        await until(lambda: booking.late == 2)
        result = (await client.get(asked["links"]["result"])).json()
        assert [each["unicorn"] for each in result["quotes"]] == ["u1"]
        assert (result["late"], result["unanswered"]) == (["u2"], ["u3"])
        after = await booking.get(rfq.id)
        assert after is not None
        assert after.answers == before.answers
        assert (await client.put(asked["links"]["choice"], json={"unicorn": "u2"})).status_code == 422


async def test_events_tell_who_was_asked_and_who_declined():
    async with api() as (client, booking, channels):
        await present(booking, channels, "u1", "u2")
        asked = (await client.post("/rfqs", json=RIDE)).json()
        rfq = await booking.get(asked["links"]["self"].rsplit("/", 1)[1])
        assert rfq is not None
        await channels.replies.send(quote(rfq, "u1"))
        await channels.replies.send(quote(rfq, "u2", type="Declined", created_at=clock.now() + 1))
        blocks = (await client.get(asked["links"]["events"])).text.strip().split("\n\n")
        events = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]
        by_kind = {event["event"]: json.loads(event["data"]) for event in events}
        assert by_kind.keys() == {"asked", "quote", "declined", "progress", "complete"}
        assert [events[0]["event"], events[-1]["event"]] == ["asked", "complete"]
        start, end = located("A"), located("B")
        where = {"start": as_json(start), "destination": as_json(end), "zones": [start.zone]}
        assert by_kind["asked"] == {**RIDE, **where, "unicorns": ["u1", "u2"]}
        assert by_kind["declined"] == {"unicorn": "u2"}


async def test_an_rfq_that_nobody_can_answer_says_so_at_once():
    """Fault 43: nobody is near the start; otherwise it goes as any other."""
    async with api() as (client, _, _):
        asked = await client.post("/rfqs", json={**RIDE, "duration": 5})
        assert asked.status_code == 202
        assert "nobody was asked" in asked.json()["notice"]
        status = await client.get(asked.headers["location"])
        assert (status.status_code, status.json()["responses-received"]) == (200, 0)
        assert "nobody was asked" in status.json()["notice"]
        events = (await client.get(asked.json()["links"]["events"])).text
        assert "nobody was asked" in events
        ended = await client.get(asked.headers["location"])
        assert ended.status_code == 303
        result = (await client.get(ended.headers["location"])).json()
        assert (result["quotes"], result["expected"]) == ([], None)


async def test_it_is_ready_once_somebody_can_answer():
    """Fault 43: alive is not ready."""
    async with api() as (client, booking, channels):
        await booking._presence.ready.wait()
        assert (await client.get("/healthz")).status_code == 200
        waiting = await client.get("/readyz")
        assert waiting.status_code == 503
        assert waiting.json() == {"status": "waiting", "waiting-for": ["unicorns: none is present"]}
        await present(booking, channels, "u1")
        assert (await client.get("/readyz")).json() == {"status": "ready"}
        booking._presence._health.failed("the broker is away")
        waiting = await client.get("/readyz")
        assert waiting.json() == {"status": "waiting", "waiting-for": ["the queue rfq-presence (the broker is away)"]}
        booking._presence._health.succeeded()
        assert (await client.get("/readyz")).status_code == 200


async def test_a_store_that_fails_makes_it_unavailable_and_unready_but_alive(capsys):
    """Fault 48, the kind: what fails elsewhere is a problem document and one line, no traceback for each request."""
    async with api() as (client, booking, channels):
        await present(booking, channels, "u1")
        asked = (await client.post("/rfqs", json=RIDE)).json()

        async def broken(*_, **__):
            raise StoreError("the table is away")

        booking._quotes.get = booking._choices.of = booking._presences.near = broken
        for answer in (
            await client.get(asked["links"]["self"]),
            await client.post("/rfqs", json=RIDE),
            await client.get(asked["links"]["events"]),
        ):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert "table" not in answer.text
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/healthz")).json() == {"status": "ok", "unicorns": None}
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "host", ["evil.example", "rfq.evil.example", "rfq:8080", "rfq@evil.example", "localhost", "127.0.0.1"]
)
async def test_no_link_is_made_of_a_forged_host(host):
    """Fault 49: only known names are answered to."""
    async with api() as (client, _, _):
        for answer in (
            await client.post("/rfqs", json=RIDE, headers={"host": host}),
            await client.get("/", headers={"host": host}),
        ):
            assert answer.status_code == 421
            assert host not in answer.text
            assert "location" not in answer.headers
        assert (await client.get("/healthz", headers={"host": host})).status_code == 200


async def test_a_name_that_is_allowed_is_in_the_links():
    async with api(hosts=Hosts(["Rydes.example:8443"])) as (client, _, _):
        asked = await client.post("/rfqs", json=RIDE, headers={"host": "rydes.example:8443"})
        assert asked.headers["location"].startswith("http://rydes.example:8443/rfqs/")


async def test_the_console_without_anything_to_redrive():
    async with api() as (client, _, _):
        state = (await client.get("/operations/api/state")).json()
        assert set(state["dead_letters"]) == {"rfq-replies-dead", "rfq-presence-dead", "rfq-callbacks-dead"}
        assert (await client.get("/operations/api/requests")).json()["gatherers"][0]["requests"] == []
        done = await client.post("/operations/api/redrive", json={"queue": "rfq-replies-dead"})
        assert (done.json()["status"], done.json()["moved"]) == ("done", 0)
        unknown = await client.post("/operations/api/redrive", json={"queue": "of-another-service"})
        assert unknown.status_code == 404


async def test_each_customer_has_a_rate_of_their_own_and_so_has_who_guesses_tokens():
    tokens = Tokens()
    ada, bert = ({"Authorization": f"Bearer {tokens.grant(name)}"} for name in ("Ada", "Bert"))
    async with api(tokens=tokens, limit=RateLimit(1)) as (client, _, _):

        async def statuses(headers: dict[str, str]) -> list[int]:
            return [(await client.get("/unicorns", headers=headers)).status_code for _ in range(3)]

        assert await statuses(ada) == [200, 200, 429]
        assert await statuses({"Authorization": "Bearer guess"}) == [401, 401, 429]
        assert await statuses(bert) == [200, 200, 429]
        await asyncio.sleep(1)
        assert await statuses(ada) == [200, 429, 429]


async def test_the_console_tells_what_the_metered_calls_cost():
    async with api() as (client, _, channels):
        meter = channels.transport.meter = UsageMeter()
        for number in range(10):
            meter.record("sqs", f"inbox-{number}", "SendMessage", messages=1, units=100_000 * number)
        meter.record("memory", "busy", "send", messages=5, calls=1_000_000)
        cost = (await client.get("/operations/api/cost")).json()
        assert cost["total"] == pytest.approx(4.5 * prices()["sqs.standard.million"])
        assert (cost["calls"], cost["messages"], len(cost["channels"])) == (1_000_010, 15, 11)
        assert [each["channel"] for each in cost["channels"][:6]] == [
            f"inbox-{number}" for number in (9, 8, 7, 6, 5, 4)
        ]
        assert cost["channels"][0]["requests"] == 900_000


async def test_many_maps_look_for_the_herd_once_a_second():
    async with api() as (client, booking, channels):
        await present(booking, channels, "u1")
        looks, real = 0, booking.unicorns

        async def counted():
            nonlocal looks
            looks += 1
            return await real()

        booking.unicorns = counted
        answers = await asyncio.gather(*(client.get("/unicorns") for _ in range(20)))
        assert {each.json()["unicorns"][0]["unicorn"] for each in answers} == {"u1"}
        assert looks == 1
        await asyncio.sleep(1)
        await client.get("/unicorns")
        assert looks == 2
