"""Applications run in virtual time, save those that serve HTTP or start processes."""

from __future__ import annotations

import asyncio

from eip.testing import VirtualTimeLoop

REAL = ("test_web", "test_health_server", "test_health_services", "test_run")


def pytest_asyncio_loop_factories(config, item):
    if item.module.__name__.endswith(REAL):
        return {"real": asyncio.SelectorEventLoop}
    return {"virtual": VirtualTimeLoop}
