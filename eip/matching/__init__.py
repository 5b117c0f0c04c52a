"""Filter policies and event patterns, evaluated here with the services' own semantics, and pushed down to them."""

from eip.matching.event_pattern import EventPattern as EventPattern
from eip.matching.filter_policy import FilterPolicy as FilterPolicy
from eip.matching.input_transformer import InputTransformer as InputTransformer
from eip.matching.predicate import as_event as as_event
from eip.matching.predicate import as_predicate as as_predicate
from eip.matching.pushdown import PushDown as PushDown
from eip.matching.pushdown import push_down as push_down
from eip.matching.rule_set import RuleSet as RuleSet

__all__ = [
    "EventPattern",
    "FilterPolicy",
    "InputTransformer",
    "PushDown",
    "RuleSet",
    "as_event",
    "as_predicate",
    "push_down",
]
