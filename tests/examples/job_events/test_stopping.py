"""SIGTERM to the application in every state, and a start before what it needs is there."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from tests.examples.rfq.service import ROOT
from tests.examples.stopping import ended, side_by_side, swallowing
from tests.support.aws import MotoServer
from tests.support.processes import free_port

REMOTE = [
    pytest.param("aws", marks=pytest.mark.aws),
    # test_stopping.py of the RFQ service has the same on ActiveMQ, by the same eip code and examples/lifecycle.py.
    pytest.param("activemq", marks=[pytest.mark.activemq, pytest.mark.soak]),
]


@contextmanager
def started(folder, *options):
    line = [sys.executable, "-m", "examples.job_events", "run", "--state", str(folder / "app"), "--view", "off"]
    log = folder / "log"
    folder.mkdir()
    with log.open("w") as stderr:
        process = subprocess.Popen([*line, "--grace", "1", *options], stderr=stderr, cwd=ROOT, text=True)
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


def ends_at_once(folder, *options):
    """Fault 41."""
    with started(folder, *options) as (process, log):
        wait_for("ready", log)
        assert ended(process, within=10) == 0


def ends_without(fail, folder, *options):
    """Fault 41: in the middle of publishing."""
    with started(folder, *options) as (process, log):
        wait_for("ready", log)
        fail()
        time.sleep(1)  # so that some calls are under way, others have failed
        assert ended(process) == 0


def says_what_it_waits_for(transport, port, folder):
    """Fault 41e: with the address and without the password."""
    url = f"http://127.0.0.1:{port}" if transport == "aws" else f"stomp://u:secret@127.0.0.1:{port}"
    with started(folder, "--transport", transport, "--endpoint-url", url) as (process, log):
        wait_for("Waiting for", log)
        assert f"127.0.0.1:{port}" in log.read_text()
        assert "secret" not in log.read_text()
        assert ended(process, within=10) == 0
        assert "Traceback" not in log.read_text()


def test_it_ends_at_once(tmp_path):
    """Fault 41: idle and busy."""
    side_by_side(
        idle=lambda: ends_at_once(tmp_path / "idle", "--rate", "1"),
        busy=lambda: ends_at_once(tmp_path / "busy", "--rate", "200"),
    )


@pytest.mark.parametrize("transport", REMOTE)
def test_it_ends_within_its_grace_whatever_its_service_does(transport, tmp_path, request):
    """Fault 41: killed, silent, and not there at the start (41e)."""
    servers = []
    for name in ("killed", "silent"):
        (tmp_path / name).mkdir()
        aws = transport == "aws"
        servers.append(MotoServer(tmp_path / name) if aws else request.getfixturevalue("start_activemq")())
        servers[-1].start()
    killed, silent = servers

    def at(server):
        return "--transport", transport, "--endpoint-url", server.url

    try:
        with swallowing() as swallows:
            side_by_side(
                killed=lambda: ends_without(killed.kill, tmp_path / "1", *at(killed)),
                silent=lambda: ends_without(silent.pause, tmp_path / "2", *at(silent)),
                refused=lambda: says_what_it_waits_for(transport, free_port(), tmp_path / "3"),
                swallowed=lambda: says_what_it_waits_for(transport, swallows, tmp_path / "4"),
            )
    finally:
        for server in servers:
            server.kill()
