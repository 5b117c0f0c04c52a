"""The booking service and the API in this process are tested in virtual time; the service as a process is not."""

from __future__ import annotations

import asyncio

from eip.testing import VirtualTimeLoop


def pytest_asyncio_loop_factories(config, item):
    virtual = item.module.__name__.endswith(("test_booking", "test_api", "test_unicorns"))
    return {"virtual": VirtualTimeLoop} if virtual else {"real": asyncio.SelectorEventLoop}
