"""The replay in memory is tested in virtual time: how fast it is depends on what it waits for, and on nothing else."""

from __future__ import annotations

import asyncio

from eip.testing import VirtualTimeLoop


def pytest_asyncio_loop_factories(config, item):
    if item.get_closest_marker("aws"):
        return {"real": asyncio.SelectorEventLoop}
    return {"virtual": VirtualTimeLoop}
