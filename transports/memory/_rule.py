"""A rule of the embedded bus."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from eip.matching import EventPattern, InputTransformer, as_predicate
from eip.topology import RuleSpec, TargetSpec
from eip.topology.targets import TargetKind

__all__ = ["ACCOUNT", "REGION", "Rule", "RuleTarget"]

ACCOUNT: Final = "000000000000"
REGION: Final = "memory"
"""Account and region in the events of this transport."""


class RuleTarget(NamedTuple):
    """A target with what is compiled of it."""

    declared: TargetSpec
    kind: TargetKind
    channel: str
    """The name of the channel of that kind."""
    transformer: InputTransformer | None
    """What makes its input; None: the event as it is."""

    @property
    def is_plain(self) -> bool:
        """Whether it is a queue that gets the event as it is."""
        return self.kind == "queue" and self.transformer is None and self.declared.group_id is None


class Rule:
    """A rule with its targets."""

    __slots__ = ("declared", "predicate", "targets")

    def __init__(self, declared: RuleSpec, targets: Collection[TargetSpec]) -> None:
        self.declared = declared
        arn = f"arn:memory:events:{REGION}:{ACCOUNT}:rule/{declared.bus}/{declared.name}"
        self.targets = {
            each.id: RuleTarget(each, each.kind, each.name, each.transformer(rule_name=declared.name, rule_arn=arn))
            for each in targets
        }
        indexed = declared.pattern is None or isinstance(declared.pattern, EventPattern)
        self.predicate = None if indexed or declared.pattern is None else as_predicate(declared.pattern)
        """For patterns that no index can hold: a predicate, or a policy on attributes."""

    @property
    def declared_targets(self) -> dict[str, TargetSpec]:
        """By id."""
        return {id: each.declared for id, each in self.targets.items()}  # noqa: A001 - the target's own term
