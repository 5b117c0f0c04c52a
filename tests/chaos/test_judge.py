"""The chaos finds what it looks for."""

from __future__ import annotations

import pytest

from tests.chaos.__main__ import Outcome, _judge

ALL = [("a", 0), ("b", 1), ("a", 2), ("b", 3)]


@pytest.mark.parametrize(
    ("noted", "lost", "repeated", "out_of_order"),
    [
        pytest.param(ALL, 0, 0, 0, id="all"),
        pytest.param([*ALL[:3], ALL[0], ALL[2], ALL[3]], 0, 2, 0, id="repeated from the beginning of a group"),
        pytest.param([ALL[2], ALL[0], ALL[1], ALL[3]], 0, 0, 1, id="out of order"),
        pytest.param(ALL[:3], 1, 0, 0, id="lost"),
        pytest.param([], 4, 0, 0, id="nothing"),
    ],
)
def test_what_was_noted_is_judged(noted, lost, repeated, out_of_order):
    outcome = Outcome("path", ordered=True)
    _judge(outcome, 4, noted)
    assert (outcome.lost, outcome.repeated, outcome.out_of_order) == (lost, repeated, out_of_order)
    assert outcome.good is (lost == out_of_order == 0)


def test_a_path_without_order_is_not_blamed_for_it():
    outcome = Outcome("path", ordered=False)
    _judge(outcome, 4, ALL[::-1])
    assert outcome.good
