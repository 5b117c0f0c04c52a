"""Rule sets for tests of the index, which a few rules alone would not use."""

from __future__ import annotations

from eip.matching import RuleSet

__all__ = ["indexed_rules"]


def indexed_rules() -> RuleSet:
    """An empty rule set that uses its index from the first rule on."""
    rules = RuleSet()
    rules._few = None
    return rules
