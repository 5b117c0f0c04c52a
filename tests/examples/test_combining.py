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
