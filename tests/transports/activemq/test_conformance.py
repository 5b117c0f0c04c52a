"""Queues and topics of a real broker, put through the conformance suite."""

from __future__ import annotations

import pytest

from eip.testing.conformance import Conformance, Guarantees

pytestmark = pytest.mark.activemq


class TestActiveMQ(Conformance):
    guarantees = Guarantees(
        topic=True,
        order=True,
        groups=True,
        sticky_groups=True,
        receive_count=True,
        nack_delay=True,
        send_delay=True,
        dead_letters=True,
        filters=True,
        foreign=True,
        largest=900_000,
    )
