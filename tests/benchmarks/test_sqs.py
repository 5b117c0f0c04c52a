"""The benchmark of SQS measures what it says: everybody sends, handles and deletes all."""

from __future__ import annotations

import pytest

from benchmarks import sqs_stub

pytest.importorskip("kombu", reason="the group bench is not installed (make bench installs it)")
pytest.importorskip("taskiq_aio_sqs", reason="the group bench is not installed (make bench installs it)")


@pytest.mark.soak
def test_each_contender_leaves_an_empty_queue():
    from benchmarks.sqs import CONTENDERS, measure

    with sqs_stub.running() as url:
        found = measure(url, 100, 1)
    assert found.keys() == CONTENDERS.keys()
    for sent, consumed in found.values():
        assert len(sent.rates) == len(consumed.cpu) == 1
        assert min(*sent.row, *consumed.row) > 0
