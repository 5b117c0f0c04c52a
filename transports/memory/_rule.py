"""A rule of the embedded bus."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from eip.matching import EventPattern, InputTransformer, as_predicate
from eip.topology import RuleSpec, TargetSpec

__all__ = ["ACCOUNT", "REGION", "Rule"]

ACCOUNT: Final = "000000000000"
REGION: Final = "memory"
"""Account and region in the events of this transport."""


class Rule:
    """A rule with its targets, and what is compiled of them."""

    __slots__ = ("channels", "declared", "predicate", "targets", "transformers")

    def __init__(self, declared: RuleSpec, targets: Collection[TargetSpec]) -> None:
        self.declared = declared
        self.targets = {each.id: each for each in targets}
        self.channels = {each.id: (each.kind, each.name) for each in targets}
        """By target, the kind and name of its channel."""
        arn = f"arn:memory:events:{REGION}:{ACCOUNT}:rule/{declared.bus}/{declared.name}"
        self.transformers: dict[str, InputTransformer | None] = {
            each.id: each.transformer(rule_name=declared.name, rule_arn=arn) for each in targets
        }
        """By target, what makes its input; None: the event as it is."""
        indexed = declared.pattern is None or isinstance(declared.pattern, EventPattern)
        self.predicate = None if indexed or declared.pattern is None else as_predicate(declared.pattern)
        """For patterns that no index can hold: a predicate, or a policy on attributes."""
