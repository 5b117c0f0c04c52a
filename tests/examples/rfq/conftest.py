"""The booking service is tested in virtual time; the process, by HTTP, is not."""

from __future__ import annotations

import asyncio

from eip.testing import VirtualTimeLoop


def pytest_asyncio_loop_factories(config, item):
    virtual = item.module.__name__.endswith("test_booking")
    return {"virtual": VirtualTimeLoop} if virtual else {"real": asyncio.SelectorEventLoop}
