"""Patterns are tested in virtual time."""

from __future__ import annotations

from eip.testing import VirtualTimeLoop
from tests.support.jitter import same_jitter

__all__ = ["same_jitter"]


def pytest_asyncio_loop_factories(config, item):
    return {"virtual": VirtualTimeLoop}
