"""Patterns are tested in virtual time."""

from __future__ import annotations

import random

import pytest

from eip.testing import VirtualTimeLoop


def pytest_asyncio_loop_factories(config, item):
    return {"virtual": VirtualTimeLoop}


@pytest.fixture(autouse=True)
def _same_jitter():
    """In virtual time the same jitter is the same run."""
    random.seed(0)
