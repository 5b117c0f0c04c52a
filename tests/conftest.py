"""For every test: services on request, repeatable property tests, an environment without surprises."""

from __future__ import annotations

import gc
import importlib
import os
from contextlib import suppress
from pathlib import Path

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


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session):
    """Collect without the garbage collector; what was made stays, and is not looked through again.

    Of several workers each first imports another share of the modules: what it rewrites for its assertions and
    compiles, the others then find in the cache.
    """
    gc.disable()
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1 and session.config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        worker = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
        root = Path(__file__).parent
        for each in sorted(root.rglob("test_*.py"))[worker::workers]:
            with suppress(Exception, pytest.skip.Exception):  # collecting it shows why
                importlib.import_module(".".join(each.relative_to(root.parent).with_suffix("").parts))
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture
def nothing_frozen():
    """Let a test count what is frozen: what collection left is, until it is thawed."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _logs_go_where_they_went():
    """Undo a test's `structlog.configure`, `capture_logs` included: later tests look for records of `logging`."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
