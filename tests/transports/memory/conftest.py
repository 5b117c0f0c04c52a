"""The embedded transport is tested in virtual time."""

from __future__ import annotations

from eip.testing import VirtualTimeLoop


def pytest_asyncio_loop_factories(config, item):
    return {"virtual": VirtualTimeLoop}
