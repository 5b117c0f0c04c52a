"""Everything here runs in virtual time, save signals and blocked loops."""

from __future__ import annotations

import asyncio

from eip.testing import VirtualTimeLoop
from tests.support.jitter import same_jitter

__all__ = ["same_jitter"]


def pytest_asyncio_loop_factories(config, item):
    if item.module.__name__.endswith(("test_service", "test_watchdog")):
        return {"real": asyncio.SelectorEventLoop}
    return {"virtual": VirtualTimeLoop}
