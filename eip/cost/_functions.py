"""Adds to an alternative what its consumers cost, where they are functions."""

from __future__ import annotations

from dataclasses import replace

from eip.cost.alternatives import Alternative, Item
from eip.cost.computing import function_cost
from eip.cost.prices import MILLION, Prices
from eip.cost.profile import Profile

__all__ = ["with_functions"]


def with_functions(alternative: Alternative, profile: Profile, prices: Prices) -> Alternative:
    """The alternative with the invocations that its received messages cause; as it is, where nothing is a function."""
    seconds = profile.function_seconds
    if seconds is None:
        return alternative
    invocations = alternative.received / profile.function_batch
    total = function_cost(prices, invocations=invocations, seconds=seconds, memory=profile.function_memory)
    requests = invocations / MILLION * prices["lambda.million"]
    time = invocations * seconds * profile.function_memory / 1024
    items = (
        Item(what="invocations", quantity=invocations / MILLION, rate="lambda.million", dollars=requests),
        Item(what="function time", quantity=time, rate="lambda.gb_second", dollars=total - requests),
    )
    return replace(alternative, items=(*alternative.items, *items))
