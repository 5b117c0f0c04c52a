"""SIGTERM to the service in every state: it ends within its grace; and it starts as soon as what it needs is there."""

from __future__ import annotations

import json
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.examples.rfq.service import ROOT, running
from tests.examples.rfq.sharing import ask
from tests.examples.rfq.unicorn_app import unicorn_app
from tests.examples.stopping import ended, side_by_side, swallowing
from tests.support.aws import MotoServer
from tests.support.processes import free_port
from tests.support.timing import waited_s

UNICORNS = ("--unicorns", "4")
REMOTE = [pytest.param("aws", marks=pytest.mark.aws), pytest.param("activemq", marks=pytest.mark.activemq)]


@pytest.fixture
def server(request, transport, tmp_path):
    """Makes services of the test's own, to be paused or killed."""
    made = []

    def make(name, *, start=True):
        if transport == "activemq":
            made.append(request.getfixturevalue("start_activemq")())
            if not start:
                made[-1].kill()
        else:
            (tmp_path / name).mkdir()
            made.append(MotoServer(tmp_path / name))
            if start:
                made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.kill()


def options(transport, server, state, *more):
    where = "dynamodb:rfq" if transport == "aws" else str(state)
    return where, ("--transport", transport, "--endpoint-url", server.url, *UNICORNS, "--grace", "1", *more)


def ends_at_once(where, *more):
    """Fault 41: RFQs under way do not hold it up, nor do those who follow them: customers and unicorns."""
    with running(where, "--rfq-seconds", "60", *more) as service, ExitStack() as stack:
        luna = stack.enter_context(unicorn_app(service.url, secrets.token_urlsafe(32)))
        path = [ask(service) for _ in range(5)][-1]
        stream = stack.enter_context(service.client.stream("GET", f"{path}/events"))
        address = service.url.replace("http", "ws", 1) + path + "/socket"
        socket = stack.enter_context(connect(address, proxy=None))
        luna.until(lambda event, _: event == "rfq")
        assert json.loads(socket.recv())["event"] == "asked"
        assert ended(service.process, within=10) == 0
        assert "event: asked" in stream.read().decode()
        with suppress(ConnectionClosed):
            for _ in socket:
                continue
        assert socket.close_code == 1012


def ends_without(fail, where, more):
    """Fault 41: what it would like to say on leaving cannot be said."""
    with running(where, *more) as service:
        if "unicorns" not in more:
            ask(service)
        fail()
        time.sleep(1)  # so that some calls are under way, others have failed
        assert ended(service.process) == 0


def ends_at_the_second_signal(fail, where, more):
    """Fault 41: nothing is waited for any more."""
    with running(where, *more, stderr=subprocess.PIPE) as service:
        fail()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.stderr is not None
        with service.process.stderr as lines:
            assert any("signal_received" in line for line in lines)  # or the next one is taken for the same
            assert ended(service.process, within=10) == 128 + signal.SIGTERM


@contextmanager
def started(transport, url, state):
    """The service against an address where nothing is, or nothing answers; with what it writes to stderr."""
    where = "dynamodb:rfq" if transport == "aws" else str(state)
    line = [sys.executable, "-m", "examples.rfq", "--port", "0", "--state", where, "--transport", transport]
    with subprocess.Popen(
        [*line, "--endpoint-url", url, *UNICORNS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def waiting_line(process):
    """The first line of its own on stderr: what its transport logs comes before."""
    return next(line for line in iter(process.stderr.readline, "") if line.startswith("Waiting for"))


def says_what_it_waits_for(transport, port, state):
    """Fault 41e: within ten seconds, with the address and without the password."""
    url = f"http://127.0.0.1:{port}" if transport == "aws" else f"stomp://u:secret@127.0.0.1:{port}"
    with started(transport, url, state) as it:
        begun = time.monotonic()
        line = waiting_line(it)
        assert time.monotonic() - begun - waited_s(it.pid) < 20  # the interpreter's start included
        assert "127.0.0.1:" in line
        assert "secret" not in line
        assert ended(it, within=10) == 0
        assert "Traceback" not in it.stderr.read()


def starts_as_soon_as_the_service_does(transport, start, url, state):
    """Fault 41e."""
    with started(transport, url, state) as it:
        assert waiting_line(it)
        drained = threading.Thread(target=it.stderr.read)
        drained.start()
        start()
        assert re.search("http://127", it.stdout.readline())
        assert ended(it, within=25) == 0
        drained.join()


def test_it_ends_at_once(tmp_path):
    """Fault 41."""
    ends_at_once(tmp_path / "rfq.sqlite", *UNICORNS)


@pytest.mark.parametrize("transport", REMOTE)
def test_it_ends_within_its_grace_whatever_its_service_does(transport, server, tmp_path):
    """Fault 41: idle, killed, accepting and never answering; and at a second signal."""
    healthy, killed, silent = server("healthy"), server("killed"), server("silent")
    all_there = threading.Barrier(3, action=silent.pause)

    def pause():
        all_there.wait(timeout=60)

    side_by_side(
        busy=lambda: ends_at_once(*flat(options(transport, healthy, tmp_path / "1"))),
        killed=lambda: ends_without(killed.kill, *options(transport, killed, tmp_path / "2")),
        silent=lambda: ends_without(pause, *options(transport, silent, tmp_path / "3")),
        unicorns=lambda: ends_without(pause, *options(transport, silent, tmp_path / "3", "--role", "unicorns")),
        twice=lambda: ends_at_the_second_signal(pause, *options(transport, silent, tmp_path / "3")),
    )


def flat(where_and_more):
    where, more = where_and_more
    return where, *more


@pytest.mark.parametrize("transport", REMOTE)
def test_it_starts_once_its_service_is_there_and_can_be_ended_before(transport, server, tmp_path):
    """Fault 41e: where it is refused, where it is not answered, and where the service comes later."""
    late = server("late", start=False)
    with swallowing() as swallows:
        side_by_side(
            refused=lambda: says_what_it_waits_for(transport, free_port(), tmp_path / "1"),
            swallowed=lambda: says_what_it_waits_for(transport, swallows, tmp_path / "2"),
            late=lambda: starts_as_soon_as_the_service_does(transport, late.start, late.url, tmp_path / "3"),
        )
