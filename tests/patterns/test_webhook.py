"""Webhooks: a request is answered once its message is stored, whatever callers send and whatever the channel does."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from eip import Message
from eip.channels import Sender
from eip.clock import now
from eip.errors import ConfigurationError, ConnectionLost, InvalidMessage, StoreError, Throttled
from eip.patterns import HmacSignature, Webhook
from eip.stores import MemoryStore
from eip.testing import run
from eip.transports.memory import MemoryTransport

SECRET = "0123456789abcdef"


class Channel(Sender):
    """Keeps what it is sent, and fails as it is told."""

    name = address = "channel"

    def __init__(self, *errors: Exception | None) -> None:
        self.sent: list[Message] = []
        self._errors = list(errors)
        self.gate: asyncio.Event | None = None

    async def send(self, *messages: Message[Any]) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self._errors and (error := self._errors.pop(0)) is not None:
            raise error
        self.sent += messages


def client(app: Any) -> httpx.AsyncClient:
    mounted = Starlette(routes=[Route("/hook", app)])
    return httpx.AsyncClient(transport=httpx.ASGITransport(mounted), base_url="http://hooks")


async def post(app: Any, body: Any = b'{"n": 1}', **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client(app) as http:
        return await http.post("/hook", content=body, headers={"content-type": "application/json", **named})


async def test_a_request_is_answered_once_its_message_is_stored():
    channel = Channel()
    channel.gate = asyncio.Event()
    waiting = asyncio.create_task(post(Webhook(channel, authenticate=None, type="OrderPlaced", source="shop")))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done(), "answered before the message is stored"
    channel.gate.set()
    answer = await waiting
    (message,) = channel.sent
    assert (answer.status_code, answer.json()) == (202, {"id": message.id})
    assert (message.body, message.type, message.source, message.encode()) == (
        {"n": 1},
        "OrderPlaced",
        "shop",
        b'{"n": 1}',
    )


@pytest.mark.parametrize("kind", ["queue", "topic", "bus", "stream"])
async def test_it_feeds_every_kind_of_channel(kind):
    async with MemoryTransport() as memory:
        to: Sender = getattr(memory, kind)("orders")
        assert (await post(Webhook(to, authenticate=None, type="T", source="s"))).status_code == 202


@pytest.mark.parametrize(
    ("content_type", "body", "read"),
    [
        ("application/json", b'[1, "\xc3\xbc"]', [1, "ü"]),
        ("application/vnd.acme+json", b"7", 7),
        ("text/plain; charset=utf-8", "grüß".encode(), "grüß"),
        ("application/x-www-form-urlencoded", b"a=1&b=2", "a=1&b=2"),
        ("image/png", b"\x89PNG", b"\x89PNG"),
    ],
)
async def test_a_body_is_read_by_its_content_type_and_stays_the_bytes_that_came(content_type, body, read):
    channel = Channel()
    assert (await post(Webhook(channel, authenticate=None), body, content_type=content_type)).status_code == 202
    assert (channel.sent[0].body, channel.sent[0].encode()) == (read, body)


async def test_a_body_that_is_not_what_its_type_says_is_refused_with_a_reason():
    channel = Channel()
    answer = await post(Webhook(channel, authenticate=None), b"no json")
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert channel.sent == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_only_posts_are_messages(method):
    async with client(Webhook(Channel(), authenticate=None)) as http:
        answer = await http.request(method, "/hook")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_a_body_over_the_limit_is_refused_before_it_is_read():
    channel = Channel()
    app = Webhook(channel, authenticate=None, max_body_bytes=100)
    assert (await post(app, b'"' + b"x" * 100 + b'"')).status_code == 413

    pulled = 0

    async def endless() -> Any:
        nonlocal pulled
        while True:
            pulled += 1
            yield b"x" * 60

    assert (await post(app, endless())).status_code == 413
    assert (pulled, channel.sent) == (2, [])
    assert (await post(app, b'"x"', content_length="9" * 30)).status_code in (202, 413), "a length that is none"


def test_a_body_that_does_not_arrive_in_time_is_given_up():
    async def check() -> None:
        async def slow() -> Any:
            yield b'{"n":'
            await asyncio.sleep(60)
            yield b"1}"

        channel = Channel()
        begun = now()
        assert (await post(Webhook(channel, authenticate=None, timeout=5), slow())).status_code == 408
        assert (now() - begun, channel.sent) == (5, [])

    run(check())


async def raw(app: Any, events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One request by ASGI's own events; returns what was answered."""
    waiting, answered = list(events), list[dict[str, Any]]()

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    async def send(event: Any) -> None:
        answered.append(event)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-type", b"application/json")]}
    await app(scope, receive, send)
    return answered


async def test_of_a_caller_that_goes_away_nothing_is_stored():
    channel = Channel()
    events: list[dict[str, Any]] = [
        {"type": "http.request", "body": b'{"n":', "more_body": True},
        {"type": "http.disconnect"},
    ]
    answered = await raw(Webhook(channel, authenticate=None), events)
    assert (answered[0]["status"], channel.sent) == (400, [])


async def test_too_many_at_once_are_sent_away_before_their_body_is_read():
    channel = Channel()
    channel.gate = asyncio.Event()
    app = Webhook(channel, authenticate=None, max_requests=2)
    waiting = [asyncio.create_task(post(app)) for _ in range(2)]
    for _ in range(20):
        await asyncio.sleep(0)
    refused = await raw(app, [])
    assert refused[0]["status"] == 503
    assert (b"retry-after", b"5") in refused[0]["headers"]
    channel.gate.set()
    assert [each.status_code for each in await asyncio.gather(*waiting)] == [202, 202]
    assert (await post(app)).status_code == 202, "the places are free again"


@pytest.mark.parametrize("error", [ConnectionLost("away"), Throttled("slow down"), StoreError("full")])
async def test_while_the_channel_fails_the_caller_is_asked_to_come_again(error):
    channel = Channel(error)
    app = Webhook(channel, authenticate=None)
    answer = await post(app)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "away" not in answer.text
    assert (await post(app)).status_code == 202


def test_a_channel_that_does_not_answer_is_given_up():
    async def check() -> None:
        channel = Channel()
        channel.gate = asyncio.Event()
        assert (await post(Webhook(channel, authenticate=None, timeout=5))).status_code == 503

    run(check())


async def test_what_the_channel_can_never_carry_is_the_callers_fault():
    assert (await post(Webhook(Channel(InvalidMessage("no object")), authenticate=None))).status_code == 400
    async with MemoryTransport() as memory:
        app = Webhook(memory.queue("q"), authenticate=None, max_body_bytes=2**21)
        assert (await post(app, json.dumps("x" * 2**20).encode())).status_code in (202, 413)


async def test_the_message_can_be_made_by_hand():
    def ride(request: Any, body: bytes) -> Message:
        if not body:
            raise ValueError("an empty body is no ride")
        return Message(json.loads(body), type=request.headers["x-event"], group_id="g")

    channel = Channel()
    app = Webhook(channel, authenticate=None, message=ride)
    assert (await post(app, x_event="RideBooked")).status_code == 202
    assert (channel.sent[0].type, channel.sent[0].group_id) == ("RideBooked", "g")
    answer = await post(app, b"", x_event="RideBooked")
    assert (answer.status_code, answer.json()["detail"]) == (400, "an empty body is no ride")


@pytest.mark.parametrize("make", [lambda *_: json.loads("{}")["order"], lambda *_: None, lambda *_: json.loads("5").x])
async def test_a_message_that_cannot_be_made_is_a_problem_document_and_is_logged(make, caplog):
    channel = Channel()
    answer = await post(Webhook(channel, authenticate=None, message=make))
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "message_not_made" in caplog.text
    assert channel.sent == []


# Idempotency.


async def test_the_same_key_is_stored_once_and_answered_as_before():
    channel = Channel()
    app = Webhook(channel, authenticate=None, store=MemoryStore())
    first, again = [await post(app, idempotency_key="k1") for _ in range(2)]
    assert first.json() == again.json() == {"id": channel.sent[0].id}
    assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
    assert len(channel.sent) == 1
    assert channel.sent[0].deduplication_id == "k1"
    assert (await post(app, idempotency_key="k2")).json() != first.json()
    assert (await post(app)).status_code == 202
    assert len(channel.sent) == 3


async def test_the_same_key_with_another_body_is_refused():
    channel = Channel()
    app = Webhook(channel, authenticate=None, store=MemoryStore())
    assert (await post(app, idempotency_key="k")).status_code == 202
    assert (await post(app, b'{"n": 2}', idempotency_key="k")).status_code == 422
    assert len(channel.sent) == 1


async def test_a_key_that_is_being_stored_is_refused_for_now_and_one_that_failed_can_be_sent_again():
    channel = Channel(ConnectionLost("away"))
    app = Webhook(channel, authenticate=None, store=MemoryStore())
    assert (await post(app, idempotency_key="k")).status_code == 503
    channel.gate = asyncio.Event()
    waiting = asyncio.create_task(post(app, idempotency_key="k"))
    for _ in range(30):
        await asyncio.sleep(0)
    meanwhile = await post(app, idempotency_key="k")
    assert (meanwhile.status_code, int(meanwhile.headers["retry-after"]) > 0) == (409, True)
    channel.gate.set()
    assert (await waiting).status_code == 202
    assert len(channel.sent) == 1


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_key_that_is_none_is_refused(key):
    assert (await post(Webhook(Channel(), authenticate=None), idempotency_key=key)).status_code == 400


# Who calls.


async def test_a_signature_is_that_of_the_body_by_any_of_the_secrets():
    signature = HmacSignature([SECRET, "another secret of it"])
    channel = Channel()
    app = Webhook(channel, authenticate=signature)
    body = b'{"n": 1}'
    by_hand = "sha256=" + hmac.new(b"another secret of it", body, hashlib.sha256).hexdigest()
    assert (await post(app, body, x_hub_signature_256=by_hand)).status_code == 202
    assert (await post(app, body, **signature.sign(body))).status_code == 202
    for wrong in (b'{"n": 2}', b""):
        assert (await post(app, wrong, x_hub_signature_256=by_hand)).status_code == 401
    for forged in (
        "",
        "sha256=",
        "sha256=" + "0" * 64,
        by_hand.removeprefix("sha256="),
        "ü".encode().decode("latin-1"),
    ):
        async with client(app) as http:
            headers = {b"content-type": b"application/json", b"x-hub-signature-256": forged.encode("latin-1")}
            assert (await http.post("/hook", content=body, headers=headers)).status_code == 401
    assert (await post(app, body)).status_code == 401
    assert len(channel.sent) == 2


def test_a_signed_time_keeps_a_request_from_being_replayed():
    signature = HmacSignature(SECRET, header="x-signature", prefix="", timestamp_header="x-time", tolerance=300)

    async def check() -> None:
        headers = signature.sign(b"body")
        assert signature.verify(headers, b"body")
        assert not signature.verify({**headers, "x-time": str(int(headers["x-time"]) + 1)}, b"body")
        assert not signature.verify({**headers, "x-time": "soon"}, b"body")
        assert not signature.verify({"x-signature": headers["x-signature"]}, b"body")
        await asyncio.sleep(299)
        assert signature.verify(headers, b"body")
        await asyncio.sleep(2)
        assert not signature.verify(headers, b"body")

    run(check())


async def test_callers_are_told_nothing_while_they_cannot_be_checked():
    async def broken(request: Any, body: bytes) -> bool:
        raise ConnectionError("ldap://secret is away")

    async def truthy(request: Any, body: bytes) -> Any:
        return "yes"

    channel = Channel()
    answer = await post(Webhook(channel, authenticate=broken))
    assert (answer.status_code, "ldap" in answer.text) == (503, False)
    assert (await post(Webhook(channel, authenticate=truthy))).status_code == 401, "True is what lets a caller in"
    assert channel.sent == []


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: HmacSignature("short"), "at least 16 bytes"),
        (lambda: HmacSignature([]), "one or more"),
        (lambda: HmacSignature(SECRET, digest="md5"), "digest must be"),  # type: ignore[arg-type]
        (lambda: HmacSignature(SECRET, tolerance=0), "tolerance must be"),
        (lambda: Webhook(Channel(), authenticate=None, max_body_bytes=0), "max_body_bytes must be >= 1"),
        (lambda: Webhook(Channel(), authenticate=None, max_requests=0), "max_requests must be >= 1"),
        (lambda: Webhook(Channel(), authenticate=None, timeout=0), "timeout must be"),
        (lambda: Webhook(Channel(), authenticate=None, store=MemoryStore(), window=-1), "window must be"),
    ],
)
def test_options_that_cannot_be_are_refused(make, text):
    with pytest.raises(ConfigurationError, match=text):
        make()
    with pytest.raises(TypeError, match="to must be"):
        Webhook("orders", authenticate=None)  # type: ignore[arg-type]


def test_names_of_headers_may_have_capitals_and_values_lone_surrogates():
    """Headers come by lower-case names, and from a JSON event in any text."""
    signature = HmacSignature(SECRET, header="X-Signature", timestamp_header="X-Time")
    signed = {name.lower(): value for name, value in signature.sign(b"{}").items()}
    assert signature.verify(signed, b"{}")
    assert not signature.verify({**signed, "x-signature": "\ud800"}, b"{}")
