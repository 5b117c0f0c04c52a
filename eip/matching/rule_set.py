"""Many event patterns at once: an index finds the few that an event can match at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from eip.matching._grammar import compile_pattern, pattern_text
from eip.matching._match import Flat, Matcher, flatten, matches_flat
from eip.matching._rule_index import Group, Rule, RuleIndex
from eip.matching._values import parse_event
from eip.matching._work import MAX_SET_WORK, MAX_WORK, Exhausted, Work

__all__ = ["RuleSet"]

_MAX_FEW: Final = MAX_SET_WORK // MAX_WORK
"""Patterns that may be evaluated one by one: so many stay within the common bound, whatever they cost."""
_MAX_FIRST_WORK: Final = 200
"""Units that a sub-rule may take at once; one that needs more waits until the others have been evaluated."""


class RuleSet:
    """Named event patterns, matched together.

    Each sub-rule is indexed by one of its paths, the one with the fewest rules behind it, and by more where many share
    what that path wants. So an event costs about the number of its leaves plus the rules it nearly matches, and not the
    number of rules. Patterns are compiled once at `add`; a rule takes a few kilobytes (`benchmarks/matching.py` reports
    how many).
    """

    def __init__(self) -> None:
        self._index = RuleIndex()
        self._prefixes: set[str] = set()
        """The paths of rules, and those above them; kept when rules go, like their indexes."""
        self._rules: dict[str, list[Rule]] = {}
        self._few: dict[str, Matcher] | None = {}
        """All patterns, while there are so few that each by itself is faster; None once there were more."""

    def __len__(self) -> int:
        return len(self._rules)

    def __contains__(self, name: object) -> bool:
        return name in self._rules

    def add(self, name: str, pattern: Any) -> None:
        """Add a pattern (dict, or JSON as str or bytes), in place of one of that name; raises `InvalidPattern`."""
        self.add_compiled(name, Matcher(compile_pattern(pattern_text(pattern))))

    def add_compiled(self, name: str, compiled: Matcher) -> None:
        """Add what is compiled already: `EventPattern.matcher`, `FilterPolicy.matcher`."""
        self.remove(name)
        self._prefixes |= compiled.paths
        if self._few is not None:
            self._few[name] = compiled
            if len(self._few) > _MAX_FEW:
                self._few = None
        rules = [Rule(name, fields) for fields in compiled.rules]
        for rule in rules:
            self._index.add(rule)
        self._rules[name] = rules

    def remove(self, name: str) -> None:
        """Remove the pattern of that name, if there is one."""
        if self._few is not None:
            self._few.pop(name, None)
        for rule in self._rules.pop(name, ()):
            for place in rule.places:
                place.remove(rule)

    def match(self, event: Any) -> set[str]:
        """The names of the patterns that an event (mapping, or JSON as str or bytes) matches.

        Of a mapping, only the fields that patterns name are asked for. The work is bounded, for each pattern and for
        all together. Sub-rules that take little come first; those that are left when the common bound is reached do
        not match, as a pattern beyond its own bound does not.
        """
        tree = parse_event(event)
        if tree.__class__ is not dict and not isinstance(tree, Mapping):
            return set()
        if self._few is not None:
            return {name for name, matcher in self._few.items() if matcher.matches(tree)}
        evaluation = _Evaluation(flatten(tree, self._prefixes))
        evaluation.search(self._index)
        return evaluation.names()


class _Evaluation:
    """Evaluates sub-rules against one event, within a common bound."""

    __slots__ = ("_costly", "_left", "_names", "_seen", "flat")

    def __init__(self, flat: Flat) -> None:
        self.flat = flat
        self._left = MAX_SET_WORK
        self._names: set[str] = set()
        self._costly: list[Rule] = []
        self._seen: set[Rule] = set()

    def search(self, index: RuleIndex) -> None:
        """Evaluate what the index finds."""
        flat, paths = self.flat, index.paths
        for rules in index.always.values():
            self.add(rules)
        for path in paths if len(paths) < len(flat) else flat:
            found, leaves = paths.get(path), flat.get(path)
            if found is None or leaves is None:
                continue
            if len(leaves) == 1 and found.is_exact:  # the usual case: one look
                self.add(found.equal_to(leaves[0][0]))
            else:
                self.add_once(found.candidates([value for value, _ in leaves]))

    def add(self, rules: Iterable[Rule]) -> None:
        """Evaluate those that take little, each once, and put the others off."""
        if isinstance(rules, Group) and rules.divided is not None:
            self._left -= len(self.flat)
            if self._left > 0:
                self.search(rules.divided)
            return
        for rule in rules:
            if rule not in self._seen:
                self._seen.add(rule)
                if rule.name not in self._names and not self._evaluate(rule, _MAX_FIRST_WORK):
                    self._costly.append(rule)

    def add_once(self, candidates: Iterable[Iterable[Rule]]) -> None:
        """Add them all; the elements of an array may lead to the same rules."""
        looked_at: set[int] = set()
        for rules in candidates:
            if not isinstance(rules, dict):
                self.add(rules)
            elif id(rules) not in looked_at:
                looked_at.add(id(rules))
                self.add(rules)

    def names(self) -> set[str]:
        """The names of the rules that match."""
        for rule in self._costly:
            if self._left <= 0:
                break
            if rule.name not in self._names:
                self._evaluate(rule, MAX_WORK)
        return self._names

    def _evaluate(self, rule: Rule, limit: int) -> bool:
        """Whether the work sufficed; notes the name of a rule that matches."""
        limit = min(limit, self._left)
        work = Work(limit)
        try:
            if matches_flat(rule.fields, self.flat, work):
                self._names.add(rule.name)
        except Exhausted:
            return False
        finally:
            self._left -= limit - work.left
        return True
