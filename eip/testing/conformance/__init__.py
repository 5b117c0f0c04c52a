"""The conformance suite: what every transport must do, to be put through by any, yours included.

    class TestMyTransport(Conformance):
        guarantees = Guarantees(topic=True, leases=True)

        @pytest.fixture
        async def harness(self):
            async with MyTransport(...) as transport:
                yield Harness(transport, lease=3.0)

A case that needs a guarantee which is not declared is skipped, and says so. It needs the extra
``testing`` (pytest and pytest-asyncio), and ``asyncio_mode = "auto"`` in pytest's configuration.
"""

from __future__ import annotations

from eip.testing.conformance.groups import DeadLetterCases, GroupCases
from eip.testing.conformance.harness import Guarantees, Harness
from eip.testing.conformance.publishing import BusCases, StreamCases, TopicCases
from eip.testing.conformance.queues import LeaseCases, QueueCases
from eip.testing.conformance.running import RunCases

__all__ = ["Conformance", "Guarantees", "Harness"]


class Conformance(QueueCases, LeaseCases, GroupCases, DeadLetterCases, TopicCases, BusCases, StreamCases, RunCases):
    """All cases; subclass it, declare the `Guarantees`, and give it a fixture ``harness``."""
