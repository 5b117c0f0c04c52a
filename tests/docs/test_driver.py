"""The driver of docs/how-to/driver.md: it passes the conformance suite, and the page's program runs on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eip.testing.conformance import Conformance, Guarantees, Harness
from tests.docs.test_pages import BLOCK

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "driver.md"
DRIVER, PROGRAM, _ = BLOCK.findall(PAGE.read_text())
NAMES: dict[str, Any] = {"__name__": "tiny"}
exec(DRIVER, NAMES)


class TestTiny(Conformance):
    guarantees = Guarantees(receive_count=True)

    @pytest.fixture
    async def harness(self):
        async with NAMES["TinyTransport"]() as transport:
            yield Harness(transport)


def test_it_is_used_like_any_other(capsys):
    exec(PROGRAM, dict(NAMES))
    assert capsys.readouterr().out == "{'id': 7} OrderPlaced\n"
