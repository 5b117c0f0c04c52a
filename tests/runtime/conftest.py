"""Everything here runs in virtual time, save signals."""

from __future__ import annotations

import asyncio
import random

import pytest

from eip.testing import VirtualTimeLoop


def pytest_asyncio_loop_factories(config, item):
    if item.module.__name__.endswith("test_service"):
        return {"real": asyncio.SelectorEventLoop}
    return {"virtual": VirtualTimeLoop}


@pytest.fixture(autouse=True)
def _same_jitter():
    """In virtual time the same jitter is the same run."""
    random.seed(0)
