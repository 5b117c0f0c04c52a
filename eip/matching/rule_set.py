"""Many event patterns at once: an index finds the few that an event can match at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from eip.matching._grammar import compile_pattern, pattern_text
from eip.matching._match import Flat, Matcher, flatten, matches_flat
from eip.matching._operators import Field
from eip.matching._values import Opaque, leaf, parse_event
from eip.matching._work import MAX_SET_WORK, MAX_WORK, Exhausted, Work

__all__ = ["RuleSet"]

_MAX_KEY_LENGTH: Final = 32
"""Characters of a prefix or suffix that are indexed."""
_MAX_FIRST_WORK: Final = 200
"""Units that a sub-rule may take at once; one that needs more waits until the others have been evaluated."""


class _Rule:
    """One sub-rule of a named pattern."""

    __slots__ = ("fields", "matcher", "name", "places")

    def __init__(self, name: str, fields: list[tuple[str, Field]]) -> None:
        self.name = name
        self.fields = fields
        self.places: list[_Bucket] = []
        """The buckets that it is in."""


_Bucket = dict[_Rule, None]


class _PathIndex:
    """The sub-rules that are found by a leaf of one path."""

    __slots__ = ("any", "prefixes", "suffixes", "values")

    def __init__(self) -> None:
        self.values: dict[object, _Bucket] = {}
        """By exact value."""
        self.prefixes: dict[int, dict[str, _Bucket]] = {}
        """By length, then by text."""
        self.suffixes: dict[int, dict[str, _Bucket]] = {}
        self.any: _Bucket = {}
        """What any leaf may match."""

    def candidates(self, value: Any) -> Iterator[_Bucket]:
        """The buckets that a leaf speaks for."""
        bucket = self.values.get(_value_key(value))
        if bucket:
            yield bucket
        if value.__class__ is str:
            for length, texts in self.prefixes.items():
                if bucket := texts.get(value[:length]):
                    yield bucket
            for length, texts in self.suffixes.items():
                if bucket := texts.get(value[-length:]):
                    yield bucket
        if self.any:
            yield self.any


def _value_key(value: Any) -> object:
    """Equal only for leaves that are equal: 1 is not True."""
    kind = value.__class__
    if kind is str or value is None:
        return value
    return (kind, value) if kind is bool else ("number", leaf(value))


class RuleSet:
    """Named event patterns, matched together.

    Each sub-rule is indexed by one of its paths, the one with the fewest rules behind it, so an event costs about the
    number of its leaves plus the rules it nearly matches, and not the number of rules. Patterns are compiled once at
    `add`; a rule takes a few kilobytes (`benchmarks/matching.py` reports how many).
    """

    def __init__(self) -> None:
        self._paths: dict[str, _PathIndex] = {}
        self._prefixes: set[str] = set()
        """The paths of rules, and those above them; kept when rules go, like their indexes."""
        self._always: _Bucket = {}
        """Sub-rules without a path that needs a leaf."""
        self._rules: dict[str, list[_Rule]] = {}

    def __len__(self) -> int:
        return len(self._rules)

    def __contains__(self, name: object) -> bool:
        return name in self._rules

    def add(self, name: str, pattern: Any) -> None:
        """Add a pattern (dict, or JSON as str or bytes), in place of one of that name; raises `InvalidPattern`."""
        compiled = Matcher(compile_pattern(pattern_text(pattern)))
        self.remove(name)
        self._prefixes |= compiled.paths
        rules = [_Rule(name, fields) for fields in compiled.rules]
        for rule in rules:
            for bucket in self._buckets(rule.fields):
                bucket[rule] = None
                rule.places.append(bucket)
        self._rules[name] = rules

    def remove(self, name: str) -> None:
        """Remove the pattern of that name, if there is one."""
        for rule in self._rules.pop(name, ()):
            for bucket in rule.places:
                del bucket[rule]

    def match(self, event: Any) -> set[str]:
        """The names of the patterns that an event (dict, or JSON as str or bytes) matches.

        The work is bounded, for each sub-rule and for all together. Sub-rules that take little come first; those that
        are left when the common bound is reached do not match, as a pattern beyond its own bound does not.
        """
        tree = parse_event(event)
        if not isinstance(tree, dict):
            return set()
        evaluation = _Evaluation(flatten(tree, self._prefixes))
        looked_at: set[int] = set()
        for bucket in self._spoken_for(evaluation.flat):
            if id(bucket) not in looked_at:
                looked_at.add(id(bucket))
                evaluation.add(bucket)
        return evaluation.names()

    def _spoken_for(self, flat: Flat) -> Iterator[_Bucket]:
        if self._always:
            yield self._always
        paths = self._paths
        for path, leaves in flat.items():
            index = paths.get(path)
            if index is not None:
                for value, _ in leaves:
                    yield from index.candidates(value)

    def _buckets(self, fields: list[tuple[str, Field]]) -> list[_Bucket]:
        """Where a sub-rule is found: the buckets of its most selective path."""
        best: list[_Bucket] | None = None
        fewest = 0.0
        for path, field in fields:
            if field.absent:
                continue
            buckets = list(_places(self._paths.setdefault(path, _PathIndex()), field))
            crowd = sum(map(len, buckets)) + (0.5 if field.exact else 1.0) * len(buckets)
            if best is None or crowd < fewest:
                best, fewest = buckets, crowd
        return [self._always] if best is None else best


class _Evaluation:
    """Evaluates sub-rules against one event, within a common bound."""

    __slots__ = ("_costly", "_left", "_names", "flat")

    def __init__(self, flat: Flat) -> None:
        self.flat = flat
        self._left = MAX_SET_WORK
        self._names: set[str] = set()
        self._costly: list[_Rule] = []

    def add(self, rules: Iterable[_Rule]) -> None:
        """Evaluate those that take little, and put the others off."""
        for rule in rules:
            if rule.name not in self._names and not self._evaluate(rule, _MAX_FIRST_WORK):
                self._costly.append(rule)

    def names(self) -> set[str]:
        """The names of the rules that match."""
        for rule in self._costly:
            if self._left <= 0:
                break
            if rule.name not in self._names:
                self._evaluate(rule, MAX_WORK)
        return self._names

    def _evaluate(self, rule: _Rule, limit: int) -> bool:
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


def _places(index: _PathIndex, field: Field) -> Iterator[_Bucket]:
    """The buckets by which every leaf that passes the field is found."""
    if field.present or any(key is None for key in field.keys):
        yield index.any
        return
    for key in _exact_keys(field):
        yield index.values.setdefault(key, {})
    for key in field.keys:
        if key is not None:
            kind, text = key
            length = min(len(text), _MAX_KEY_LENGTH)
            if not length:
                yield index.any
            elif kind == "prefix":
                yield index.prefixes.setdefault(length, {}).setdefault(text[:length], {})
            else:
                yield index.suffixes.setdefault(length, {}).setdefault(text[-length:], {})


def _exact_keys(field: Field) -> Iterable[object]:
    yield from field.strings
    yield from (("number", number) for number in field.numbers)
    yield from (("number", Opaque(text)) for text in field.texts)
    yield from (_value_key(literal) for literal in field.literals)
