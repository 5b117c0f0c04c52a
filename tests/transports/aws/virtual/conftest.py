"""These tests run in virtual time: timers are due as soon as nothing else is left to do."""

from eip.testing import VirtualTimeLoop
from tests.support.jitter import same_jitter

__all__ = ["same_jitter"]


def pytest_asyncio_loop_factories(config, item):
    return {"virtual": VirtualTimeLoop}
