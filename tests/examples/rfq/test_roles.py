"""Ride booking and unicorn management as two services that have nothing in common but messages."""

from __future__ import annotations

import os
import random
import re
import secrets
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from tests.examples.rfq.service import ROOT, running
from tests.examples.rfq.sharing import ask
from tests.examples.rfq.unicorn_app import unicorn_app
from tests.support.aws import MotoServer
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
    """Three of booking, two of unicorns; one of each kind is killed (-9) while RFQs are under way: none is lost.

    A unicorn's app that was connected to the killed process signs in at the other one, is asked again, and its quotes
    count.
    """
    options = ("--transport", "activemq", "--endpoint-url", activemq_broker.url)
    with ExitStack() as stack:
        first, second, third = (
            stack.enter_context(running(tmp_path / "rfq.sqlite", "--role", "booking", *options)) for _ in range(3)
        )
        assert first.client.get("/readyz").status_code in (200, 503)
        doomed, doomed_url = stack.enter_context(unicorns("r1", 1, *options))
        _, url = stack.enter_context(unicorns("r2", 2, *options))
        assert httpx.get(f"{url}/healthz", trust_env=False).json() == {"status": "ok", "unicorns": 12}
        assert httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
        token = secrets.token_urlsafe(32)
        luna = stack.enter_context(unicorn_app(doomed_url, token))
        for service in (first, second, third):
            service.everyone_there(25)
            assert service.client.get("/readyz").status_code == 200
        paths = [ask(service, duration=9) for service in (first, second, third) for _ in range(3)]
        rfqs = {path.rpartition("/")[2] for path in paths}
        luna.asked(rfqs)
        first.kill()
        doomed.kill()
        luna = stack.enter_context(unicorn_app(url, token))
        luna.asked(rfqs)
        for rfq in rfqs:
            luna.quote(rfq)
        quotes = [second.follow(path)["quotes"] for path in paths]
        assert all("Luna" in {quote["name"] for quote in each} for each in quotes)
        assert [third.follow(path)["quotes"] for path in paths] == quotes
        assert second.end() == 0


@pytest.mark.soak
@pytest.mark.activemq
def test_both_services_are_killed_again_and_again(tmp_path, start_activemq):
    options = ("--transport", "activemq", "--endpoint-url", start_activemq().url)
    _killed_again_and_again(str(tmp_path / "rfq.sqlite"), 20, *options)


@pytest.mark.soak
@pytest.mark.aws
def test_both_services_are_killed_again_and_again_on_aws(tmp_path):
    server = MotoServer(tmp_path)
    server.start()
    try:
        _killed_again_and_again("dynamodb:rfq", 10, "--transport", "aws", "--endpoint-url", server.url)
    finally:
        server.kill()


def _killed_again_and_again(state, rounds, *options):
    """Three of booking, two of unicorns, one of either kind killed at any moment: each RFQ has one result, for ever."""
    dice = random.Random(5)
    with ExitStack() as stack:
        bookings = [stack.enter_context(running(state, "--role", "booking", *options)) for _ in range(3)]
        herds = [stack.enter_context(unicorns(f"r{number}", number, *options))[0] for number in (1, 2)]
        bookings[0].everyone_there(24)
        for _ in range(rounds):
            paths = [ask(dice.choice(bookings), duration=6) for _ in range(10)]
            time.sleep(dice.uniform(0, 6))
            victim, herd = dice.randrange(3), dice.randrange(2)
            if dice.random() < 0.7:
                bookings[victim].kill()
                bookings[victim] = stack.enter_context(running(state, "--role", "booking", *options))
            if dice.random() < 0.7:
                herds[herd].kill()
                herds[herd] = stack.enter_context(unicorns(f"r{herd + 1}", herd + 1, *options))[0]
            for path in paths:
                results = [booking.follow(path)["quotes"] for booking in bookings]
                assert results[0] == results[1] == results[2]
                names = [quote["unicorn"] for quote in results[0]]
                assert len(set(names)) == len(names)


@pytest.mark.parametrize("role", ["booking", "unicorns"])
def test_a_role_alone_needs_channels_between_processes(role):
    line = [sys.executable, "-m", "examples.rfq", "--role", role]
    refused = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=False)
    assert refused.returncode == 2
    assert "--transport aws or activemq" in refused.stderr
