"""SIGTERM to the application in every state, and a start before what it needs is there."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from tests.examples.rfq.service import ROOT
from tests.support.aws import MotoServer
from tests.support.processes import free_port

GRACE = 25
REMOTE = [pytest.param("aws", marks=pytest.mark.aws), pytest.param("activemq", marks=pytest.mark.activemq)]


@contextmanager
def started(tmp_path, *options):
    line = [sys.executable, "-m", "examples.job_events", "run", "--state", str(tmp_path / "app"), "--view", "off"]
    log = tmp_path / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen([*line, *options], stderr=stderr, cwd=ROOT)
    try:
        yield process, log
    finally:
        process.kill()
        process.wait()


def wait_for(text, log):
    deadline = time.monotonic() + 60
    while text not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def ended(process, within=GRACE):
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code = process.wait(timeout=within + 20)
    assert time.monotonic() - begun < within
    return code


@pytest.mark.parametrize("rate", ["1", "200"], ids=["idle", "busy"])
def test_it_ends_at_once(rate, tmp_path):
    """Fault 41."""
    with started(tmp_path, "--rate", rate) as (process, log):
        wait_for("ready", log)
        assert ended(process, within=10) == 0


@pytest.mark.parametrize("transport", REMOTE)
@pytest.mark.parametrize("state", ["is killed", "accepts and never answers"])
def test_it_ends_within_its_grace_where_its_service(transport, state, tmp_path, request):
    """Fault 41: in the middle of publishing."""
    server = MotoServer(tmp_path) if transport == "aws" else request.getfixturevalue("start_activemq")()
    server.start()
    try:
        with started(tmp_path, "--transport", transport, "--endpoint-url", server.url) as (process, log):
            wait_for("ready", log)
            if state == "is killed":
                server.kill()
            else:
                server.pause()
            time.sleep(1)  # so that some calls are under way, others have failed
            assert ended(process) == 0
    finally:
        server.kill()


@pytest.mark.parametrize("transport", REMOTE)
@pytest.mark.parametrize("state", ["refuses", "swallows"])
def test_it_says_what_it_waits_for_and_can_be_ended_meanwhile(transport, state, tmp_path):
    """Fault 41e: with the address and without the password."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1] if state == "swallows" else free_port()
        url = f"http://127.0.0.1:{port}" if transport == "aws" else f"stomp://u:secret@127.0.0.1:{port}"
        with started(tmp_path, "--transport", transport, "--endpoint-url", url) as (process, log):
            wait_for("Waiting for", log)
            assert f"127.0.0.1:{port}" in log.read_text()
            assert "secret" not in log.read_text()
            assert ended(process, within=10) == 0
            assert "Traceback" not in log.read_text()
