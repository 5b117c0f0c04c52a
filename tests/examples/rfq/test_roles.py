"""Ride booking and unicorn management as two services that have nothing in common but messages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from tests.examples.rfq.service import ROOT, running
from tests.examples.rfq.sharing import ask
from tests.support.environment import ENVIRONMENT


@contextmanager
def unicorns(herd, seed, *options):
    """A process of unicorn management and its address; it has no state.

    The seed decides where its unicorns stand: of two herds placed by chance, one time in twenty none was at the start.
    """
    line = [sys.executable, "-m", "examples.rfq", "--role", "unicorns", "--port", "0", "--herd", herd]
    line += ["--unicorns", "12", "--seed", str(seed), *options]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **ENVIRONMENT})
    assert process.stdout is not None
    try:
        greeting = process.stdout.readline()
        assert f"12 unicorns of {herd} listen" in greeting
        found = re.search("http://[^/]+", greeting)
        assert found is not None
        yield process, found.group()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.activemq
def test_each_service_scales_and_dies_alone(tmp_path, activemq_broker):
    """Three of booking, two of unicorns; one of each kind is killed (-9) while RFQs are under way: none is lost."""
    options = ("--transport", "activemq", "--endpoint-url", activemq_broker.url)
    with ExitStack() as stack:
        first, second, third = (
            stack.enter_context(running(tmp_path / "rfq.sqlite", "--role", "booking", *options)) for _ in range(3)
        )
        assert first.client.get("/readyz").status_code in (200, 503)
        doomed, _ = stack.enter_context(unicorns("r1", 1, *options))
        _, url = stack.enter_context(unicorns("r2", 2, *options))
        assert httpx.get(f"{url}/healthz", trust_env=False).json() == {"status": "ok", "unicorns": 12}
        assert httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
        for service in (first, second, third):
            service.everyone_there(24)
            assert service.client.get("/readyz").status_code == 200
        paths = [ask(service, duration=4) for service in (first, second, third) for _ in range(3)]
        first.kill()
        doomed.kill()
        quotes = [second.follow(path)["quotes"] for path in paths]
        assert any(quotes)
        assert [third.follow(path)["quotes"] for path in paths] == quotes
        assert second.end() == 0


@pytest.mark.parametrize("role", ["booking", "unicorns"])
def test_a_role_alone_needs_channels_between_processes(role):
    line = [sys.executable, "-m", "examples.rfq", "--role", role]
    refused = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=False)
    assert refused.returncode == 2
    assert "--transport aws or activemq" in refused.stderr
