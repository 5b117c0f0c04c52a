"""The cost of computing beside the services: functions by the gigabyte-second, and workflows of both kinds.

Sources: the price pages of AWS Lambda and AWS Step Functions. Free tiers and volume discounts of Lambda are left out.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal
from typing import Final, NamedTuple

from eip.cost.prices import MILLION, Prices
from eip.errors import ConfigurationError

__all__ = ["MEMORY_SIZES", "WorkflowCost", "function_cost", "workflow_cost"]

MEMORY_SIZES: Final = (128, 512, 1024, 1536, 2048, 3008)
"""MB, for a table."""
_MB_PER_GB: Final = 1024
_MIN_MEMORY, _MAX_MEMORY = 128, 10_240
_WORKFLOW_CHUNK_MB: Final = 64
_WORKFLOW_STEP_S: Final = 0.1
_PRICE_STEP: Final = Decimal("1e-9")
"""Dollars: to this the price of 100 ms was rounded, while Lambda billed by them."""
_TIERS: Final = (
    ("workflow.express.gb_second", 1000 * 3600.0),
    ("workflow.express.over_1000_h.gb_second", 4000 * 3600.0),
    ("workflow.express.over_5000_h.gb_second", math.inf),
)
"""Rates of Express Workflows, and the GB-seconds of a month that each is for."""


class WorkflowCost(NamedTuple):
    """Dollars of the same executions."""

    standard: float
    """By the transition."""
    express: float
    """By the execution and its time; they take five minutes at most, and run at least once."""


def function_cost(prices: Prices, *, invocations: float, seconds: float, memory: int) -> float:
    """Dollars of a Lambda function, requests and time.

    A price list with the rate ``lambda.billed_seconds`` is of a time when durations were rounded up to that (100 ms,
    until December 2020), each at a price rounded to nine digits; otherwise they are rounded up to a millisecond.

    Args:
        prices: the list.
        invocations: how many.
        seconds: that one takes.
        memory: MB, 128 to 10,240.

    Raises:
        ConfigurationError: a value out of range, or a list without Lambda's rates.
    """
    _check("invocations", invocations)
    _check("seconds", seconds)
    if not _MIN_MEMORY <= memory <= _MAX_MEMORY:
        raise ConfigurationError(f"memory must be {_MIN_MEMORY} to {_MAX_MEMORY:,} MB, got {memory}")
    requests = invocations / MILLION * prices["lambda.million"]
    size, rate = memory / _MB_PER_GB, prices["lambda.gb_second"]
    step = prices.rates.get("lambda.billed_seconds")
    if not step:
        return requests + invocations * _rounded_up(seconds, 0.001) * size * rate
    price = (Decimal(str(rate)) * Decimal(str(size)) * Decimal(str(step))).quantize(_PRICE_STEP, ROUND_HALF_UP)
    return requests + invocations * round(_rounded_up(seconds, step) / step) * float(price)


def workflow_cost(
    prices: Prices, *, executions: float, transitions: float, seconds: float, memory: int = _WORKFLOW_CHUNK_MB
) -> WorkflowCost:
    """Dollars of a month's executions as Standard and as Express Workflows.

    Args:
        prices: the list.
        executions: of the month.
        transitions: of one execution, retries included.
        seconds: from its start to its end, rounded up to 100 ms.
        memory: MB that one takes, rounded up to 64.

    Raises:
        ConfigurationError: a value out of range, or a list without the rates.
    """
    for name, value in (("executions", executions), ("transitions", transitions), ("seconds", seconds)):
        _check(name, value)
    if memory < 1:
        raise ConfigurationError(f"memory must be at least 1 MB, got {memory}")
    size = _rounded_up(memory, _WORKFLOW_CHUNK_MB) / _MB_PER_GB
    left = executions * _rounded_up(seconds, _WORKFLOW_STEP_S) * size
    express = executions / MILLION * prices["workflow.express.million"]
    for rate, most in _TIERS:
        express += min(left, most) * prices[rate]
        left = max(left - most, 0.0)
    standard = executions * transitions / MILLION * prices["workflow.transition.million"]
    return WorkflowCost(standard=standard, express=express)


def _check(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ConfigurationError(f"{name} must be finite and not negative, got {value!r}")


def _rounded_up(value: float, step: float) -> float:
    """The next multiple of the step; what floating point adds does not count."""
    return math.ceil(round(value / step, 6)) * step
