"""The service holds many objects that are in no cycles: it looks at them rarely."""

from __future__ import annotations

import asyncio
import gc

import pytest

from examples.lifecycle import Application
from examples.rfq.__main__ import _serve
from examples.rfq.wiring import GARBAGE

pytestmark = pytest.mark.usefixtures("nothing_frozen")


class Part:
    """Ends once what exists is left out of collections."""

    def __init__(self):
        self.frozen = self.threshold = 0

    async def run(self):
        async with asyncio.timeout(10):
            while not gc.get_freeze_count():
                await asyncio.sleep(0.01)
        self.frozen, self.threshold = gc.get_freeze_count(), gc.get_threshold()[0]

    async def stop(self):
        """It ends by itself."""


async def test_the_service_freezes_what_it_starts_with_and_collects_rarely():
    before, part, greeted = gc.get_threshold(), Part(), []

    async def connect(stack):
        assert gc.get_freeze_count() == 0  # what is connected to is frozen as well
        return [part]

    application = Application(connect, lambda: greeted.append(application.ready.is_set()))
    assert await _serve(lambda: application) == 0
    assert part.frozen > 10_000
    assert part.threshold == GARBAGE.threshold
    assert greeted == [True]
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
