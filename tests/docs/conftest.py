"""The driver of a page is tested in virtual time."""

from __future__ import annotations

from typing import Any

from eip.testing import VirtualTimeLoop


def pytest_asyncio_loop_factories(config: Any, item: Any) -> dict[str, type[VirtualTimeLoop]]:
    del config, item
    return {"virtual": VirtualTimeLoop}
