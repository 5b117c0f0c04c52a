"""The HTTP server against clients that send half, drip, do not read, or leave; as a process, at a small limit."""

from __future__ import annotations

import resource
import socket
import time
from collections import Counter
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from tests.examples.rfq.service import running
from tests.support.timing import within

RIDE = {"from": "Alexanderplatz", "to": "Tempelhofer Feld", "customer": "Ada"}
DESCRIPTORS = 160


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The service with few file descriptors."""
    folder = tmp_path_factory.mktemp("small")
    limits = (resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    with (folder / "log").open("w+") as log:
        options = ("--unicorns", "20", "--rfq-seconds", "3")
        with running(
            folder / "rfq.sqlite", *options, stderr=log, preexec_fn=lambda: resource.setrlimit(*limits)
        ) as service:
            yield service, folder / "log"
            assert service.end() == 0


def connected(service, *sent):
    made = socket.create_connection((service.client.base_url.host, service.client.base_url.port), timeout=20)
    for each in sent:
        made.sendall(each)
    return made


def stream_of(service, *, duration=3):
    """The path of a new RFQ's events, and the request for them."""
    path = urlsplit(service.client.post("/rfqs", json={**RIDE, "duration": duration}).json()["links"]["events"]).path
    return path, f"GET {path} HTTP/1.1\r\nHost: {service.client.base_url.netloc.decode()}\r\n\r\n".encode()


def status_of(client):
    try:
        return client.recv(12)[9:]
    except ConnectionResetError:  # refused before it had read our request
        return b""


def test_half_sent_requests_keep_nobody_from_being_served(small):
    """Fault 47: more of them than there are descriptors; the log stays short."""
    service, log = small
    before = log.stat().st_size
    with ExitStack() as stack:
        halves = [
            b"POST /rfqs HTTP/1.1\r\nHost: x\r\n",
            b"",
            b"G",
            b"POST /rfqs HTTP/1.1\r\nContent-Length: 9\r\n\r\n{",
        ]
        for number in range(2 * DESCRIPTORS):
            stack.enter_context(connected(service, halves[number % len(halves)]))
            if number % 40 == 0:
                with within(5):
                    assert service.client.get("/healthz", headers={"connection": "close"}).status_code == 200
        asked = service.client.post("/rfqs", json={**RIDE, "duration": 1})
        assert asked.status_code == 202
        assert service.follow(asked.json()["links"]["self"])["status"] == "complete"
    assert log.stat().st_size - before < 5000, log.read_text()


DRIPS = {
    "nothing": (b"", b""),
    "header": (b"GET / HTTP/1.1\r\n", b"x"),
    "body": (b"POST /rfqs HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9000\r\n\r\n", b" "),
    "body that nobody reads": (b"GET /healthz HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9000\r\n\r\n", b" "),
}


def test_requests_that_drip_in_are_ended(small):
    """Fault 47: a byte now and then prolongs nothing."""
    service, _ = small
    with ExitStack() as stack:
        slow = {
            name: stack.enter_context(connected(service, begun.replace(b"{host}", service.client.base_url.netloc)))
            for name, (begun, _) in DRIPS.items()
        }
        deadline = time.monotonic() + 60
        while slow:
            assert time.monotonic() < deadline, f"still open: {', '.join(slow)}"
            time.sleep(0.3)
            slow = {name: client for name, client in slow.items() if is_open(client, DRIPS[name][1])}


def is_open(client, drip):
    client.setblocking(False)
    try:
        client.sendall(drip)
        return client.recv(4096) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def test_at_the_limit_of_answers_a_new_client_is_refused_and_later_served(small):
    """Fault 47: every connection is a customer's event stream."""
    service, _ = small
    _, request = stream_of(service, duration=60)
    with ExitStack() as stack:
        streams = [stack.enter_context(connected(service, request)) for _ in range(DESCRIPTORS)]
        statuses = Counter(status_of(each) for each in streams)
        assert statuses[b"200"] == DESCRIPTORS * 3 // 4
        assert statuses[b"503"] > 0
    deadline = time.monotonic() + 30
    while service.client.get("/healthz", headers={"connection": "close"}).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_clients_that_leave_their_event_stream_leave_no_line(small):
    """Fault 48: silence, whether they say goodbye or not."""
    service, log = small
    before = log.read_text()
    path, request = stream_of(service)
    for number in range(60):
        with connected(service, request) as stream:
            stream.recv(100)
            if number % 2:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
    assert service.follow(path.removesuffix("/events"))["status"] == "complete"
    assert "Traceback" not in log.read_text()
    assert "RuntimeError" not in log.read_text()[len(before) :]


OPENS = b"Host: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
KEY = b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
SOCKET = b"GET /rfqs/x/socket HTTP/1.1\r\n" + OPENS + KEY


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /rfqs HTTP/1.1\r\n" + OPENS + KEY + b"Content-Length: 2\r\n\r\n{}",
        SOCKET + b"Content-Length: 100\r\n\r\n",
        SOCKET + b"Transfer-Encoding: chunked\r\n\r\n",
        SOCKET + b"X: " + b"a" * 9000 + b"\r\n\r\n",
        SOCKET + b"".join(b"X%d: a\r\n" % number for number in range(300)) + b"\r\n",
        SOCKET.replace(b"/socket", b"/socket?" + b"a" * 9000) + b"\r\n",
    ],
)
def test_a_web_socket_that_cannot_be_opened_holds_no_connection(small, request_):
    """Fault 47: it was neither answered nor ended, and kept its place at the limit for ever."""
    service, _ = small
    with within(10), connected(service, request_.replace(b"{host}", service.client.base_url.netloc)) as client:
        answer = b"".join(iter(lambda: client.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 400 ")


def test_odd_requests_and_bodies_that_do_not_arrive_leave_no_line(small):
    """Fault 48: a stranger's request is worth no stack trace."""
    service, log = small
    before, host = log.stat().st_size, service.client.base_url.netloc
    for origin in ("http://[", "http://]x", "null", "//", "\xff"):
        answer = service.client.post("/rfqs", json=RIDE, headers={"Origin": origin.encode("latin-1")})
        assert answer.status_code == 403
        with connected(
            service, SOCKET.replace(b"{host}", host) + f"Origin: {origin}\r\n\r\n".encode("latin-1")
        ) as client:
            assert status_of(client) == b"403"
    kind = b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    for head in (b"POST /rfqs", b"PUT /unicorn/self", b"POST /unicorn/answers"):
        connected(service, head + b" HTTP/1.1\r\nHost: " + host + b"\r\n" + kind).close()
    assert service.client.get("/healthz").status_code == 200
    assert log.stat().st_size == before, log.read_text()


@pytest.mark.parametrize("rubbish", [b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"\r\n" * 5000, b"A" * 70_000])
def test_rubbish_is_refused_in_silence(small, rubbish):
    service, log = small
    before = log.stat().st_size
    with connected(service) as client:
        try:
            client.sendall(rubbish)
            while client.recv(4096):
                continue
        except OSError:
            pass
    assert service.client.get("/healthz").status_code == 200
    assert log.stat().st_size == before
