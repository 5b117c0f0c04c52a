"""SQS, SNS, EventBridge and Kinesis, put through the conformance suite against moto's server, and ministack."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eip.testing.conformance import Conformance, Guarantees

pytestmark = pytest.mark.aws


class TestAws(Conformance):
    guarantees = Guarantees(
        topic=True,
        bus=True,
        stream=True,
        archives=True,
        groups=True,
        deduplication=True,
        fifo_topics=True,
        leases=True,
        receive_count=True,
        nack_delay=True,
        send_delay=True,
        dead_letters=True,
        filters=True,
        foreign=True,
        largest=1_000_000,
    )


class TestAwsOnMinistack(Conformance):
    """The same on the second emulator, which takes messages of up to 256 KiB."""

    guarantees = replace(TestAws.guarantees, stream=False, archives=False, largest=250_000)

    @pytest.fixture
    def harness(self, second_harness):
        return second_harness
