"""SIGTERM to the service in every state: it ends within its grace; and it starts as soon as what it needs is there."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from tests.examples.rfq.service import ROOT, running
from tests.examples.rfq.sharing import ask
from tests.support.aws import MotoServer
from tests.support.processes import free_port

GRACE = 25
"""Seconds: what orchestrators give is 30."""
UNICORNS = ("--unicorns", "4")
TRANSPORTS = [
    pytest.param("memory"),
    pytest.param("aws", marks=pytest.mark.aws),
    pytest.param("activemq", marks=pytest.mark.activemq),
]
REMOTE = TRANSPORTS[1:]


@pytest.fixture
def server(request, transport, tmp_path):
    """A service of the test's own, to be paused or killed; None for the embedded transport."""
    if transport == "memory":
        yield None
    elif transport == "activemq":
        yield request.getfixturevalue("start_activemq")()
    else:
        moto = MotoServer(tmp_path)
        moto.start()
        yield moto
        moto.kill()


def options(transport, server, tmp_path):
    state = "dynamodb:rfq" if transport == "aws" else str(tmp_path / "rfq.sqlite")
    endpoint = ("--endpoint-url", server.url) if server else ()
    return state, ("--transport", transport, *endpoint, *UNICORNS, "--rfq-seconds", "60")


def ended(process, within=GRACE):
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code = process.wait(timeout=within + 20)
    assert time.monotonic() - begun < within
    return code


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_it_ends_at_once(transport, server, tmp_path):
    """Fault 41: RFQs under way do not hold it up."""
    where, more = options(transport, server, tmp_path)
    with running(where, *more) as service:
        for _ in range(5):
            ask(service)
        assert ended(service.process, within=10) == 0


@pytest.mark.parametrize("transport", REMOTE)
@pytest.mark.parametrize("state", ["is killed", "accepts and never answers"])
def test_it_ends_within_its_grace_where_its_service(transport, server, state, tmp_path):
    """Fault 41: what it would like to say on leaving cannot be said."""
    where, more = options(transport, server, tmp_path)
    with running(where, *more) as service:
        ask(service)
        if state == "is killed":
            server.kill()
        else:
            server.pause()
        time.sleep(1)  # so that some calls are under way, others have failed
        assert ended(service.process) == 0
        server.kill()


@pytest.mark.parametrize("transport", REMOTE)
def test_a_second_signal_ends_it_at_once(transport, server, tmp_path):
    """Fault 41: nothing is waited for any more."""
    where, more = options(transport, server, tmp_path)
    with running(where, *more) as service:
        server.pause()
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        ended(service.process, within=12)
        server.kill()


@contextmanager
def swallowing():
    """An address whose connections are accepted, by the kernel, and never answered."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@contextmanager
def started(transport, url, tmp_path):
    """The service against an address where nothing is, or nothing answers; with what it writes to stderr."""
    state = "dynamodb:rfq" if transport == "aws" else str(tmp_path / "rfq.sqlite")
    line = [sys.executable, "-m", "examples.rfq", "--port", "0", "--state", state, "--transport", transport]
    process = subprocess.Popen(
        [*line, "--endpoint-url", url, *UNICORNS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def waiting_line(process):
    """The first line of its own on stderr: what its transport logs comes before."""
    return next(line for line in iter(process.stderr.readline, "") if line.startswith("Waiting for"))


@pytest.mark.parametrize("transport", REMOTE)
@pytest.mark.parametrize("state", ["refuses", "swallows"])
def test_it_says_what_it_waits_for_and_can_be_ended_meanwhile(transport, state, tmp_path):
    """Fault 41e: within ten seconds, with the address and without the password."""
    with swallowing() as swallows:
        port = swallows if state == "swallows" else free_port()
        url = f"http://127.0.0.1:{port}" if transport == "aws" else f"stomp://u:secret@127.0.0.1:{port}"
        with started(transport, url, tmp_path) as it:
            begun = time.monotonic()
            line = waiting_line(it)
            assert time.monotonic() - begun < 15  # the interpreter's start included
            assert "127.0.0.1:" in line
            assert "secret" not in line
            assert ended(it, within=10) == 0
            assert "Traceback" not in it.stderr.read()


@pytest.mark.parametrize("transport", REMOTE)
def test_it_starts_as_soon_as_the_service_does(transport, tmp_path, request):
    """Fault 41e."""
    if transport == "activemq":
        late = request.getfixturevalue("start_activemq")()
        late.kill()
    else:
        late = MotoServer(tmp_path)
    with started(transport, late.url, tmp_path) as it:
        assert waiting_line(it)
        drained = threading.Thread(target=it.stderr.read)
        drained.start()
        late.start()
        assert re.search("http://127", it.stdout.readline())
        assert ended(it) == 0
        drained.join()
    late.kill()
