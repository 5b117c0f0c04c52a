"""Delays between attempts."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from eip.errors import ConfigurationError
from eip.retry import Backoff


def test_a_delay_grows_up_to_its_cap_whatever_its_unit():
    backoff = Backoff(base=timedelta(seconds=2), factor=3, cap=timedelta(minutes=1))
    assert [backoff.ceiling(attempt) for attempt in (1, 2, 3, 4, 5)] == [2, 6, 18, 54, 60]
    assert Backoff(factor=10_000, cap=timedelta(days=1)).ceiling(10**9) == 86_400
    assert Backoff(base=0).ceiling(7) == 0


@pytest.mark.parametrize("attempt", [1, 3, 100])
def test_a_delay_is_anywhere_below_its_ceiling(attempt):
    backoff = Backoff(cap=10)
    delays = [backoff.delay(attempt) for _ in range(200)]
    assert 0 <= min(delays) < backoff.ceiling(attempt) / 4
    assert backoff.ceiling(attempt) * 3 / 4 < max(delays) <= backoff.ceiling(attempt)


ODD: dict[str, list[Any]] = {
    "base": ["1", -1, math.inf],
    "cap": [-1, math.nan, None],
    "factor": [0.5, 1e5, "2"],
    "max_attempts": [0, 1.5],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in ODD for value in ODD[name]])
def test_a_value_that_is_no_number_or_out_of_range_is_named(name, value):
    with pytest.raises((TypeError, ConfigurationError), match=f"{name} must be .*, got"):
        Backoff(**{name: value})
