"""Kinesis, put through the conformance suite against the kinesis-local emulator."""

from __future__ import annotations

import pytest

from eip.testing.conformance import Conformance, Guarantees

pytestmark = pytest.mark.kinesis


class TestKinesis(Conformance):
    guarantees = Guarantees(queue=False, stream=True)

    @pytest.fixture
    def harness(self, harness):
        return harness
