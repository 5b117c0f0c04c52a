"""The replay application: hydration and load, in memory with exact figures and on an emulator."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from eip.topology.archives import ReplayState
from eip.transports.aws import AwsTransport
from eip.transports.memory import MemoryTransport
from examples.replay.hydrating import hydrate
from examples.replay.loading import load


async def test_a_test_environment_gets_the_past_and_production_sees_nothing():
    async with MemoryTransport() as memory:
        found = await hydrate(memory, 30)
    assert (found.before, found.orders, found.same) == (0, 30, True)
    assert (found.status.state, found.status.rules) == (ReplayState.COMPLETED, ("to-test",))
    assert (found.seen_by_production, found.invoices) == (0, 30)


async def test_without_the_choice_of_a_rule_production_would_see_it():
    async with MemoryTransport() as memory:
        found = await hydrate(memory, 30, rules=())
    assert (found.same, found.seen_by_production, found.invoices) == (True, found.events, 60)


async def test_a_feature_that_scores_more_at_once_keeps_up_with_more():
    """A score takes 5 ms at least."""
    async with MemoryTransport() as memory:
        one, four = await load(memory, 100, (1, 4))
    assert (one.orders, one.concurrency, four.concurrency) == (100, 1, 4)
    assert one.seconds >= 0.5
    assert 0.125 <= four.seconds < one.seconds
    assert four.rate > one.rate
    assert 50 <= one.backlog <= 100
    assert (one.seen_by_production, four.seen_by_production) == (0, 0)


@pytest.mark.aws
async def test_on_an_emulator_the_same_past_arrives(moto_server):
    """Moto replays to all rules, so production sees it there; the other bus gets replayed events and no others."""
    async with AwsTransport(region=moto_server.region, endpoint_url=moto_server.url) as aws:
        found = await hydrate(aws, 10)
    assert (found.before, found.same) == (0, True)


def test_bad_options_are_refused():
    command = [sys.executable, "-m", "examples.replay", "--orders", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})
    assert (done.returncode, "must be more than 0" in done.stderr) == (2, True)
