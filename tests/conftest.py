"""For every test: services on request, repeatable property tests, an environment without surprises."""

from __future__ import annotations

import os

import hypothesis
import pytest
import structlog

from tests.support.environment import ENVIRONMENT, is_account_run

pytest_plugins = [
    "tests.support.aws",
    "tests.support.activemq",
    "tests.support.chromium",
    "tests.support.fault_proxy",
    "tests.support.jms",
    "tests.support.kinesis",
    "tests.support.postgres",
    "tests.support.redis",
]

hypothesis.settings.register_profile("default", deadline=None, derandomize=True, max_examples=60, print_blob=True)
# `HYPOTHESIS_PROFILE=soak`: look for new examples, and for long.
hypothesis.settings.register_profile("soak", deadline=None, max_examples=3000, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

if not is_account_run() or "EIP_TEST_AWS_ENDPOINT" in os.environ:
    os.environ.update(ENVIRONMENT)
    os.environ.pop("AWS_PROFILE", None)
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"


@pytest.fixture(autouse=True)
def _logs_go_where_they_went():
    """Undo a test's `structlog.configure`, `capture_logs` included: later tests look for records of `logging`."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
