"""Functions by the gigabyte-second, workflows of both kinds, and brokers."""

from __future__ import annotations

from typing import Any

import pytest

from eip.cost import Profile, advise, facts, function_cost, prices, workflow_cost
from eip.cost.profile import SECONDS
from eip.errors import ConfigurationError

BY_100_MS = prices(on="2020-11-30")
"""What the article's table is made of: Lambda billed by 100 ms until December 2020."""
TODAY = prices()


@pytest.mark.parametrize(
    ("memory", "dollars"), [(128, 2.28), (512, 8.54), (1024, 16.87), (1536, 25.21), (2048, 33.54), (3008, 49.17)]
)
def test_a_million_invocations_of_a_second(memory, dollars):
    found = function_cost(BY_100_MS, invocations=1_000_000, seconds=1, memory=memory)
    assert round(found, 6) == dollars
    assert function_cost(TODAY, invocations=1_000_000, seconds=1, memory=memory) == pytest.approx(dollars, abs=0.02)


def test_durations_are_rounded_up():
    def cost(found, seconds):
        return function_cost(found, invocations=1_000_000, seconds=seconds, memory=128)

    assert cost(BY_100_MS, 0.001) == cost(BY_100_MS, 0.1) < cost(BY_100_MS, 0.101) == cost(BY_100_MS, 0.2)
    assert cost(TODAY, 0.0001) == cost(TODAY, 0.001) < cost(TODAY, 0.0011)
    assert cost(TODAY, 0.3) == pytest.approx(0.2 + 1e6 * 0.3 / 8 * 0.0000166667), "0.3 is no 301 ms"
    assert cost(TODAY, 0) == 0.20


def test_standard_workflows_cost_by_the_transition_and_express_ones_by_the_time():
    found = workflow_cost(TODAY, executions=1_000_000, transitions=5, seconds=2)
    assert found.standard == 125.0
    assert found.express == pytest.approx(1.0 + 1e6 * 2 / 16 * 0.00001667)
    long = workflow_cost(TODAY, executions=1000, transitions=5, seconds=300, memory=65)
    assert long.express == pytest.approx(0.001 + 1000 * 300 / 8 * 0.00001667), "65 MB are two chunks"


def test_express_workflows_are_cheaper_by_the_gigabyte_second_the_more_there_are():
    hours = 3600.0  # GB-seconds of a GB-hour
    found = workflow_cost(TODAY, executions=1, transitions=1, seconds=6000 * hours, memory=1024).express
    assert found == pytest.approx(hours * (1000 * 0.00001667 + 4000 * 0.00000833 + 1000 * 0.00000456), rel=1e-4)


@pytest.mark.parametrize(
    "wrong", [{"invocations": -1}, {"seconds": float("nan")}, {"memory": 64}, {"memory": 20_000}], ids=str
)
def test_a_function_that_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        function_cost(TODAY, **{"invocations": 1, "seconds": 1, "memory": 128, **wrong})


@pytest.mark.parametrize(
    "wrong", [{"executions": -1}, {"transitions": float("inf")}, {"seconds": -1}, {"memory": 0}], ids=str
)
def test_a_workflow_that_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        workflow_cost(TODAY, **{"executions": 1, "transitions": 1, "seconds": 1, **wrong})


def test_a_filter_saves_invocations_in_dollars():
    """A consumer of a quarter saves three quarters of the function's cost, and says how much that is."""
    profile = Profile(rate=1_000_000 / SECONDS, size=1000, shares=(0.25,), function_seconds=1, function_memory=512)
    found = advise(profile, BY_100_MS)
    plain, filtered = found.named("SNS + SQS"), found.named("SNS + SQS, filtered")

    def functions(alternative):
        return sum(each.dollars for each in alternative.items if each.rate.startswith("lambda"))

    assert functions(plain) == pytest.approx(8.54)
    assert functions(filtered) == pytest.approx(8.54 / 4)
    saved = plain.monthly - filtered.monthly
    assert any(f"save 75% of what consumers are woken for, and ${saved:,.2f} of" in note for note in found.notes)


def test_batches_of_a_function_are_fewer_invocations():
    profile: dict[str, Any] = {"rate": 1_000_000 / SECONDS, "size": 1000, "function_seconds": 1.0}
    one, ten = (advise(Profile(**profile, function_batch=each), TODAY).named("SQS").monthly for each in (1, 10))
    assert one - ten == pytest.approx(0.9 * (0.2 + 1e6 / 8 * 0.0000166667))
    with pytest.raises(ConfigurationError, match="function_batch"):
        Profile(**profile, function_batch=0)


def test_brokers_cost_by_the_hour_and_carry_what_one_carries():
    quiet = advise(Profile(rate=1.0, size=1000), TODAY).named("Amazon MQ, active/standby")
    assert quiet.fits
    assert quiet.monthly == pytest.approx(2 * 730 * 0.288, rel=0.001)
    busy = advise(Profile(rate=10_000.0, size=200_000), TODAY).named("Amazon MQ, active/standby")
    assert not busy.fits
    assert any("assumed to carry 5,000" in each for each in busy.unfit)
    assert any("network" in each for each in busy.unfit)
    assert not any("MQ" in each.name for each in advise(Profile(rate=1.0, size=1), BY_100_MS).alternatives)


def test_the_services_are_compared_in_what_the_article_asks():
    assert {"retention", "size", "targets", "retries", "ordering", "SLA", "cross-account", "archive"} <= set(facts())
    assert facts()["SLA"]["EventBridge"].startswith("99.99")
