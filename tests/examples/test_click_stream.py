"""The click stream runs as it is, and prints what its docstring says."""

from __future__ import annotations

from tests.examples.test_patterns import ROOT, check_output


def test_it_prints_what_it_says():
    check_output(ROOT / "examples" / "click_stream.py")
