"""The console runs in virtual time, save where it serves HTTP."""

from __future__ import annotations

import asyncio

from eip.testing import VirtualTimeLoop

REAL = ("test_page", "test_page_races", "test_server", "test_access", "test_transports")


def pytest_asyncio_loop_factories(config, item):
    if item.module.__name__.endswith(REAL):
        return {"real": asyncio.SelectorEventLoop}
    return {"virtual": VirtualTimeLoop}
