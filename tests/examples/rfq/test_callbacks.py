"""Callback URLs: which may be called, what they are called with, and that each call arrives whatever fails."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest

from eip import Backoff, Message
from eip.console import Console
from eip.console._jobs import ended
from eip.console._selection import Selection
from eip.stores import MemoryStore
from eip.transports.memory import MemoryTransport
from examples.rfq.booking import RideBooking
from examples.rfq.callbacks import CallbackOptions, load_secret
from examples.rfq.channels import MemoryChannels
from examples.rfq.model import RideRequest
from examples.rfq.store import Rfq, States
from examples.rfq.webhooks import Answer, UrlRefused, UrlRules, WebhookFailed, post, secret_of
from tests.examples.rfq.service import ROOT, running
from tests.examples.rfq.test_access import _start
from tests.examples.rfq.test_booking import present, quote
from tests.support.certificates import Authority

SECRET = bytes(range(32))
QUICK = Backoff(base=0.02, cap=0.05, max_attempts=10)


class Receiver:
    """A customer's server: answers as it is told, in turn, then 204; keeps the calls."""

    def __init__(self, *answers: int, headers: dict[str, str] | None = None, tls: Path | None = None) -> None:
        self.calls: list[tuple[str, dict[str, str], bytes]] = []
        outer, left = self, list(answers)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.calls.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(left.pop(0) if left else 204)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self.url = f"{'https' if tls else 'http'}://localhost:{self.port}/done?order=7"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def verified(call: tuple[str, dict[str, str], bytes], customer: str = "C") -> dict[str, Any]:
    """What was sent, where the signature is the service's and of now; as a customer checks it."""
    _, headers, body = call
    assert abs(time.time() - int(headers["webhook-timestamp"])) < 60
    text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = base64.b64encode(hmac.new(secret_of(SECRET, customer), text, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{digest}"
    assert headers["content-type"] == "application/json"
    whole: dict[str, Any] = json.loads(body)
    return whole


@asynccontextmanager
async def booked(rules: UrlRules | None = None):
    """A booking service that calls loopback, and the channels to play unicorn on."""
    async with MemoryTransport() as transport:
        channels = MemoryChannels(transport)
        await channels.prepare()
        states = States(MemoryStore(), MemoryStore(), MemoryStore())
        options = CallbackOptions(rules or UrlRules(loopback=True), SECRET, QUICK)
        booking = RideBooking(channels, states, callbacks=options)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(booking.run())
            await booking.ready.wait()
            try:
                yield booking, channels
            finally:
                await booking.stop()


async def asked(booking: RideBooking, channels: MemoryChannels, url: str) -> Rfq:
    """An RFQ with a callback, complete."""
    await present(booking, channels, "u1")
    ride = {"from": "A", "to": "B", "customer": "C", "callback": url}
    rfq = await booking.request(RideRequest.model_validate(ride), base="https://rydes.example/")
    await channels.replies.send(quote(rfq, "u1"))
    return rfq


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_receiver_that_fails_first_is_called_until_it_has_answered():
    """500, 503 and a redirect are failures; each attempt is signed with its own time and the same id."""
    with Receiver(500, 503, 302, headers={"Location": "http://localhost:1/elsewhere"}) as receiver:
        async with booked() as (booking, channels):
            rfq = await asked(booking, channels, receiver.url)
            await eventually(lambda: len(receiver.calls) == 4)
            await asyncio.sleep(0.3)
            assert len(receiver.calls) == 4
            for call in receiver.calls:
                whole = verified(call)
                assert (whole["type"], whole["data"]["customer"]) == ("rfq.complete", "C")
                assert [each["unicorn"] for each in whole["data"]["quotes"]] == ["u1"]
                assert whole["data"]["links"]["result"] == f"https://rydes.example/rfqs/{rfq.id}/result"
                assert (call[0], call[1]["webhook-id"]) == ("/done?order=7", rfq.id)
                assert call[1]["host"] == f"localhost:{receiver.port}"


@pytest.mark.parametrize(("answers", "reason"), [([500] * 10, "answered 500"), ([410], "wants no calls any more")])
async def test_what_is_given_up_is_a_dead_letter_that_can_be_redriven(answers, reason):
    with Receiver(*answers) as receiver:
        async with booked() as (booking, channels):
            await asked(booking, channels, receiver.url)
            dead = channels.transport.queue("rfq-callbacks-dead")
            await eventually(lambda: len(dead) == 1)
            assert len(receiver.calls) == len(answers)
            console = Console(booking.subject())
            (letter,) = (await console.view.letters.look("rfq-callbacks-dead")).letters
            assert reason in letter.reason
            job = await console.operations.redrive("rfq-callbacks-dead", Selection(), by="ada")
            assert (await ended(job, within=30)).moved == 1
            await eventually(lambda: len(receiver.calls) == len(answers) + 1)


async def test_over_https_the_certificate_must_be_of_the_host(tmp_path):
    authority = Authority(tmp_path)
    with Receiver(tls=authority.issue("localhost")) as receiver:
        trusting = UrlRules(loopback=True, tls=ssl.create_default_context(cafile=authority.certificate))
        async with booked(trusting) as (booking, channels):
            await asked(booking, channels, receiver.url)
            await eventually(lambda: receiver.calls)
            verified(receiver.calls[0])
        with pytest.raises(WebhookFailed, match="certificate verify failed"):
            await _post(receiver.url, UrlRules(loopback=True))


async def _post(url: str, rules: UrlRules) -> Answer:
    return await post(rules.check(url), b"{}", {}, rules)


async def test_only_rfqs_with_a_callback_are_announced():
    async with booked() as (booking, channels):
        await present(booking, channels, "u1")
        rfq = await booking.request(RideRequest.model_validate({"from": "A", "to": "B", "customer": "C"}))
        await channels.replies.send(quote(rfq, "u1"))
        async with asyncio.timeout(20):
            while await booking._quotes.open_requests():
                await asyncio.sleep(0.02)
        assert await booking._callbacks.of(rfq.id) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://partner.example/",
        "https://other.example/",
        "https://partner.example.other.example/",
        "https://partner.example:8443/",
        "https://user@partner.example/",
        "https://user:secret@partner.example/",
        "https://partner.example/#there",
        "https://partner.example\\@other.example/",
        "https://partner.example\r\nHost: other/",
        "https://partner.example/a b",
        "https://pärtner.example/",
        "https://partner.example:x/",
        "https://partner.example:99999/",
        "https:///path",
        "https://[::1",
        "https://127.0.0.1/",
        "https://localhost/",
        "//partner.example/",
        "file:///etc/passwd",
        "ftp://partner.example/",
        "partner.example",
        "https://partner.example/" + "x" * 2000,
        "",
    ],
)
def test_urls_that_may_not_be_called(url):
    with pytest.raises(UrlRefused):
        UrlRules(["partner.example", "second.example:8443"]).check(url)


def test_urls_that_may_be_called():
    rules = UrlRules(["Partner.example", "second.example:8443"])
    assert rules.check("https://PARTNER.example").path == "/"
    assert rules.check("https://partner.example:443/a?b=c").path == "/a?b=c"
    assert rules.check("https://partner.example./").authority == "partner.example"
    assert rules.check("https://second.example:8443/").authority == "second.example:8443"
    assert UrlRules(loopback=True).check("http://[::1]:8000/").authority == "[::1]:8000"


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "::"),
        *("::1", "fe80::1%eth0", "fc00::1", "ff02::1", "224.0.0.1", "255.255.255.255", "192.0.2.1", "240.0.0.1"),
        *("::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a00:1", "2002:a00:1::", "::ffff:127.0.0.1"),
    ],
)
async def test_addresses_that_are_not_public_are_not_called(address, monkeypatch):
    """Whatever the name resolves to, and where one of several is not public."""
    rules = UrlRules(["partner.example"])

    async def resolved(*_: Any, **__: Any) -> list[Any]:
        return [(0, 0, 0, "", (each, 443)) for each in ("93.184.216.34", address)]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolved)
    with pytest.raises(WebhookFailed, match="not public"):
        await _post("https://partner.example/", rules)
    assert not rules.allows(address)
    assert rules.allows("93.184.216.34")
    assert rules.allows("2606:2800:220:1::1")


async def test_loopback_is_no_way_to_other_private_addresses(monkeypatch):
    rules = UrlRules(loopback=True)
    assert rules.allows("127.0.0.1")
    assert not rules.allows("10.0.0.1")
    assert not rules.allows("::ffff:10.0.0.1")


@contextmanager
def raw(answer: bytes):
    """A server that sends these bytes to whoever connects, and nothing more."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                connection.recv(65_536)
                connection.sendall(answer)
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 204",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 204 x\r\n" + b"a: b\r\n" * 9999,
    ],
    ids=["nothing", "nonsense", "cut", "informational", "endless"],
)
async def test_an_answer_that_is_none_is_a_failure(answer):
    with raw(answer) as url, pytest.raises(WebhookFailed):
        await _post(url, UrlRules(loopback=True))


async def test_nobody_keeps_a_call_waiting_for_long(monkeypatch):
    monkeypatch.setattr("examples.rfq.webhooks._WITHIN", 0.1)
    silent = pytest.raises(WebhookFailed, match=r"no answer within 0\.1 s")
    with socket.create_server(("127.0.0.1", 0)) as listening, silent:
        await _post(f"http://127.0.0.1:{listening.getsockname()[1]}/", UrlRules(loopback=True))
    with pytest.raises(WebhookFailed):
        await _post("http://127.0.0.1:1/", UrlRules(loopback=True))


async def test_the_receiver_may_say_when_to_come_back():
    with Receiver(503, headers={"Retry-After": "1"}) as receiver:
        async with booked() as (booking, channels):
            begun = time.monotonic()
            await asked(booking, channels, receiver.url)
            await eventually(lambda: len(receiver.calls) == 2)
            assert time.monotonic() - begun > 0.9


async def test_a_message_of_an_unknown_rfq_is_a_dead_letter():
    async with booked() as (_, channels):
        await channels.callbacks.send(Message({"rfq": "0" * 32}))
        dead = channels.transport.queue("rfq-callbacks-dead")
        await eventually(lambda: len(dead) == 1)


# From outside.


def test_a_call_survives_the_process_that_completed_the_rfq(tmp_path):
    """kill -9 after the RFQ was accepted: the next process completes it and calls."""
    secret, state = tmp_path / "secret", tmp_path / "rfq.sqlite"
    line = [sys.executable, "-m", "examples.rfq.callbacks", str(secret), "C"]
    key = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=True).stdout.strip()
    assert base64.b64decode(key.removeprefix("whsec_")) == secret_of(load_secret(secret), "C")
    assert secret.stat().st_mode & 0o077 == 0
    options = ["--callback-secret", str(secret), "--callback-loopback", "--unicorns", "0"]
    ride = {"from": "A", "to": "B", "customer": "C", "duration": 1}
    with Receiver() as receiver:
        with running(state, *options) as service:
            asked = service.client.post("/rfqs", json={**ride, "callback": receiver.url})
            assert asked.status_code == 202
            refused = service.client.post("/rfqs", json={**ride, "callback": "https://other.example/"})
            assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "callback")
            service.kill()
        with running(state, *options):
            deadline = time.monotonic() + 20
            while not receiver.calls:
                assert time.monotonic() < deadline
                time.sleep(0.05)
    _, headers, body = receiver.calls[0]
    digest = hmac.new(
        base64.b64decode(key.removeprefix("whsec_")),
        f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body,
        hashlib.sha256,
    ).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"


def test_options_that_are_wrong_are_told(tmp_path):
    assert _start("--callback-host", "partner.example").returncode == 2
    (tmp_path / "secret").write_text("short")
    assert "no secret file" in _start("--callback-secret", str(tmp_path / "secret")).stderr
    with running(tmp_path / "rfq.sqlite", "--unicorns", "0") as service:
        ride = {"from": "A", "to": "B", "customer": "C", "callback": "https://partner.example/"}
        assert service.client.post("/rfqs", json=ride).status_code == 422
