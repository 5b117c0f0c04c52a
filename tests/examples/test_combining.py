"""The combinations of buses, topics and queues run as they are, and are in the docs."""

from __future__ import annotations

import pytest

from tests.examples.test_patterns import ROOT, check_output

EXAMPLES = sorted((ROOT / "examples" / "combining").glob("[a-z]*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_what_it_says(example):
    check_output(example)


def test_every_example_is_in_the_docs():
    page = (ROOT / "docs" / "eventbridge.md").read_text()
    assert [each.name for each in EXAMPLES if f"(../examples/combining/{each.name})" not in page] == []


@pytest.mark.aws
def test_a_bus_feeds_a_queue_on_aws_as_in_memory(moto_server):
    example = next(each for each in EXAMPLES if each.stem == "bus_to_queue")
    warnings = "error,ignore:datetime.datetime.utcnow:DeprecationWarning"
    variables = {"AWS_ENDPOINT_URL": moto_server.url, "AWS_REGION": moto_server.region, "PYTHONWARNINGS": warnings}
    check_output(example, "--aws", **variables)
