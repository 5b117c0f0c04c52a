"""The sub-rules that a leaf of one path may match, found without looking at the others.

Each kind of test has a place of its own: a dictionary for exact values and for texts by their start, end or a part of
it, a tree of intervals for ranges of numbers, a dictionary for each length of address blocks, and for anything-but the
values that it excludes. What a place returns may be more than what matches, never less.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from math import inf
from struct import pack, unpack
from typing import Any, Final, Protocol

from typing_extensions import override

from eip.matching._operators import Field, IndexKey
from eip.matching._values import Opaque, address, leaf

__all__ = ["Group", "PathIndex", "Rule", "RuleIndex"]

_MAX_GROUP: Final = 64
"""Rules of one key; where there are more, an index of their other paths divides them."""
_MAX_DIVISIONS: Final = 4
"""How often rules are divided by another path, which may be the same in all of them."""
_MAX_TEXT: Final = 32
"""Characters of a prefix or suffix that are indexed."""
_MAX_PART: Final = 4
"""Characters of a wildcard's literal part that are indexed."""
_KEY_BITS: Final = 64
_MAX_SINGLE_LEAVES: Final = 64
"""Leaves of one path that are looked at one by one where each may speak for many rules; for more, all those rules are
evaluated, each once."""


class Rule:
    """One sub-rule of a named pattern."""

    __slots__ = ("fields", "name", "places")

    def __init__(self, name: str, fields: list[tuple[str, Field]]) -> None:
        self.name = name
        self.fields = fields
        self.places: list[Place] = []
        """Where it is found."""


class Group(dict[Rule, None]):
    """The rules that one key of a path finds; if they are many, an index of their other paths."""

    __slots__ = ("divided",)

    def __init__(self) -> None:
        super().__init__()
        self.divided: RuleIndex | None = None


class Place(Protocol):
    """One way by which a rule is found."""

    def add(self, rule: Rule) -> Group | None:
        """Let it be found here; return the group that it is new in, where that can be divided."""

    def remove(self, rule: Rule) -> None:
        """Let it be found here no more."""

    def crowd(self) -> int:
        """How many rules an event may find with it, about."""
        ...


class Bucket(Place):
    """The group behind one key of a mapping; gone when its last rule is removed."""

    __slots__ = ("_key", "_rules")

    def __init__(self, rules: MutableMapping[Any, Group], key: object) -> None:
        self._rules, self._key = rules, key

    @override
    def add(self, rule: Rule) -> Group | None:
        group = self._rules.get(self._key)
        if group is None:
            group = self._rules[self._key] = Group()
        elif rule in group:  # two long texts of a rule may begin alike, and share their place
            return None
        group[rule] = None
        return group

    @override
    def remove(self, rule: Rule) -> None:
        group = self._rules.get(self._key)
        if group is None:
            return
        group.pop(rule, None)
        if not group:
            del self._rules[self._key]

    @override
    def crowd(self) -> int:
        group = self._rules.get(self._key)
        if group is None:
            return 0
        return len(group) if group.divided is None else _MAX_GROUP


class _Texts:
    """Rules by what a string starts or ends with, or has inside, each by length and then by text."""

    __slots__ = ("inside", "prefixes", "suffixes")

    def __init__(self) -> None:
        self.prefixes: dict[int, dict[str, Group]] = {}
        self.suffixes: dict[int, dict[str, Group]] = {}
        self.inside: dict[int, dict[str, Group]] = {}

    def place(self, kind: str, text: str) -> Place:
        if kind == "prefix":
            by_length, text = self.prefixes, text[:_MAX_TEXT]
        elif kind == "suffix":
            by_length, text = self.suffixes, text[-_MAX_TEXT:]
        else:
            by_length, text = self.inside, text[:_MAX_PART]
        return Bucket(by_length.setdefault(len(text), {}), text)

    def candidates(self, value: str) -> Iterator[Iterable[Rule]]:
        for length, texts in self.prefixes.items():
            if found := texts.get(value[:length]):
                yield found
        for length, texts in self.suffixes.items():
            if found := texts.get(value[-length:]):
                yield found
        for length, texts in self.inside.items():
            if len(texts) < len(value):
                yield from (found for text, found in texts.items() if text in value)
            else:
                parts = {value[at : at + length] for at in range(len(value) - length + 1)}
                yield from (texts[part] for part in parts if part in texts)


class _Node:
    """Intervals around one middle, by both of their ends."""

    __slots__ = ("by_high", "by_low", "highs", "lows")

    def __init__(self) -> None:
        self.lows: list[int] = []
        self.by_low: list[Rule] = []
        self.highs: list[int] = []
        self.by_high: list[Rule] = []


class _Interval(Place):
    """One range of numbers, in the node of the smallest power of two that holds all of it."""

    __slots__ = ("_high", "_key", "_low", "_ranges")

    def __init__(self, ranges: _Ranges, low: int, high: int) -> None:
        self._ranges, self._low, self._high = ranges, low, high
        depth = _KEY_BITS - (low ^ high).bit_length()
        self._key = (1 << depth) | (low >> (_KEY_BITS - depth))

    @override
    def add(self, rule: Rule) -> None:
        node = self._ranges.nodes.get(self._key)
        if node is None:
            node = self._ranges.nodes[self._key] = _Node()
            self._ranges.count(self._key, 1)
        for keys, rules, key in (
            (node.lows, node.by_low, self._low),
            (node.highs, node.by_high, self._high),
        ):
            at = bisect_right(keys, key)
            keys.insert(at, key)
            rules.insert(at, rule)

    @override
    def remove(self, rule: Rule) -> None:
        node = self._ranges.nodes[self._key]
        for keys, rules, key in (
            (node.lows, node.by_low, self._low),
            (node.highs, node.by_high, self._high),
        ):
            at = rules.index(rule, bisect_left(keys, key))
            del keys[at], rules[at]
        if not node.lows:
            del self._ranges.nodes[self._key]
            self._ranges.count(self._key, -1)

    @override
    def crowd(self) -> int:
        node = self._ranges.nodes.get(self._key)
        return 0 if node is None else len(node.lows)


class _Ranges:
    """Ranges of numbers: a tree over all numbers, cut in halves 64 times, of which only nodes in use exist.

    Numbers are keyed by 64 bits in their order. A node is one bit followed by the bits that the keys under it begin
    with; a number can only be in ranges of the nodes that it is under, and there in those that begin before it, or end
    behind it, up to the middle.
    """

    __slots__ = ("_depths", "nodes")

    def __init__(self) -> None:
        self.nodes: dict[int, _Node] = {}
        self._depths: dict[int, int] = {}
        """How many nodes there are, by the number of bits."""

    def place(self, low: float | None, high: float | None) -> Place:
        return _Interval(self, _order(-inf if low is None else low), _order(inf if high is None else high))

    def count(self, key: int, step: int) -> None:
        depth = key.bit_length() - 1
        self._depths[depth] = self._depths.get(depth, 0) + step
        if not self._depths[depth]:
            del self._depths[depth]

    def all(self) -> Iterator[Iterable[Rule]]:
        return (node.by_low for node in self.nodes.values())

    def candidates(self, numbers: Iterable[float]) -> Iterator[Iterable[Rule]]:
        for number in numbers:
            yield from self._around(_order(number))

    def _around(self, key: int) -> Iterator[Iterable[Rule]]:
        for depth in self._depths:
            below = _KEY_BITS - depth
            node = self.nodes.get((1 << depth) | (key >> below))
            if node is None:
                continue
            if below and not (key >> (below - 1)) & 1:
                yield node.by_low[: bisect_right(node.lows, key)]
            else:
                yield node.by_high[bisect_left(node.highs, key) :]


def _order(number: float) -> int:
    """64 bits that are in order as the numbers are."""
    bits = int(unpack(">Q", pack(">d", number + 0.0))[0])  # 0.0 for -0.0
    return bits ^ ((1 << 64) - 1 if bits >> 63 else 1 << 63)


class _Unless(Place):
    """What wants anything but the values or texts of a key."""

    __slots__ = ("_excluding", "_key")

    def __init__(self, excluding: _Excluding, key: IndexKey) -> None:
        self._excluding, self._key = excluding, key

    @override
    def add(self, rule: Rule) -> Group:
        group = self._excluding.rules_of(self._key)
        group[rule] = None
        return group

    @override
    def remove(self, rule: Rule) -> None:
        rules = self._excluding.rules_of(self._key)
        del rules[rule]
        if not rules:
            self._excluding.forget(self._key)

    @override
    def crowd(self) -> int:
        return len(self._excluding)


class _Excluding:
    """Rules that want anything but some values or texts: found by each leaf that they do not exclude."""

    __slots__ = ("_by_text", "_by_value", "_rules")

    def __init__(self) -> None:
        self._rules: dict[IndexKey, Group] = {}
        """By what is excluded."""
        self._by_value: dict[object, set[IndexKey]] = {}
        """What is excluded where a leaf has that value."""
        self._by_text: dict[tuple[str, int], dict[str, set[IndexKey]]] = {}
        """What is excluded where a string starts, or ends, with a text of that length."""

    def place(self, key: IndexKey) -> Place:
        return _Unless(self, key)

    def rules_of(self, key: IndexKey) -> Group:
        rules = self._rules.get(key)
        if rules is None:
            rules = self._rules[key] = Group()
            for keys in self._keys_of(key):
                keys.add(key)
        return rules

    def forget(self, key: IndexKey) -> None:
        del self._rules[key]
        for keys in self._keys_of(key):
            keys.discard(key)

    def _keys_of(self, key: IndexKey) -> Iterator[set[IndexKey]]:
        """Where it is noted what the key excludes."""
        kind, operands = key
        for operand in operands:
            if kind == "but":
                yield self._by_value.setdefault(operand, set())
            elif kind in _ENDS and len(operand) <= _MAX_TEXT:
                yield self._by_text.setdefault((kind, len(operand)), {}).setdefault(operand, set())

    def __len__(self) -> int:
        return len(self._rules)

    def all(self) -> Iterable[Iterable[Rule]]:
        return self._rules.values()

    def candidates(self, leaves: Iterable[Any]) -> Iterable[Iterable[Rule]]:
        """What at least one of the leaves does not exclude."""
        excluded: set[IndexKey] | None = None
        for value in leaves:
            found = self._excluded(value)
            excluded = found if excluded is None else excluded & found
        rules = self._rules
        if not excluded:
            return rules.values()
        return () if len(excluded) == len(rules) else [rules[key] for key in rules.keys() - excluded]

    def _excluded(self, value: Any) -> set[IndexKey]:
        kind = value.__class__
        if kind is not str and kind is not float:
            return set()
        excluded = self._by_value.get(value, set())
        if kind is str and self._by_text:
            excluded = excluded.copy()
            for (end, length), texts in self._by_text.items():
                excluded |= texts.get(value[:length] if end == "but prefix" else value[-length:], set())
        return excluded


_ENDS: Final = ("but prefix", "but suffix")


_NO_OTHERS: Final = (None,) * 5


class PathIndex:
    """The rules that are found by a leaf of one path."""

    __slots__ = ("_any", "_excluding", "_folded", "_networks", "_ranges", "_texts", "_values")

    def __init__(self) -> None:
        self._values: dict[object, Group] = {}
        """By exact value."""
        self._any: dict[None, Group] = {}
        """What any leaf may match."""
        # Made when a rule needs it; most paths have one kind of tests.
        self._texts: _Texts | None = None
        self._folded: _Texts | None = None
        """By the text whatever its case, as `str.casefold` makes it."""
        self._ranges: _Ranges | None = None
        self._networks: dict[tuple[int, int], dict[int, Group]] | None = None
        """By version and number of leading bits, then by those bits."""
        self._excluding: _Excluding | None = None

    def places(self, field: Field) -> Iterator[Place]:
        """The places by which every leaf that passes the field finds it."""
        if field.present or None in field.keys:
            yield Bucket(self._any, None)
            return
        for value in _exact_keys(field):
            yield Bucket(self._values, value)
        for network in field.addresses:
            yield self._network(network.version, network.max_prefixlen, int(network))
        for key in field.keys:
            if key is not None:
                yield self._place(key)

    def _place(self, key: IndexKey) -> Place:
        kind, operands = key
        if kind in ("prefix", "suffix", "inside"):
            self._texts = self._texts or _Texts()
            return self._texts.place(kind, operands[0])
        if kind.startswith("folded "):
            self._folded = self._folded or _Texts()
            return self._folded.place(kind.removeprefix("folded "), operands[0])
        if kind == "range":
            self._ranges = self._ranges or _Ranges()
            return self._ranges.place(*operands)
        if kind == "network":
            block: IPv4Network | IPv6Network = operands[0]
            bits = int(block.network_address) >> (block.max_prefixlen - block.prefixlen)
            return self._network(block.version, block.prefixlen, bits)
        self._excluding = self._excluding or _Excluding()
        return self._excluding.place(key)

    def _network(self, version: int, length: int, bits: int) -> Place:
        self._networks = {} if self._networks is None else self._networks
        return Bucket(self._networks.setdefault((version, length), {}), bits)

    @property
    def is_exact(self) -> bool:
        """Whether all of its rules want exact values."""
        others = (self._texts, self._folded, self._networks, self._ranges, self._excluding)
        return others == _NO_OTHERS and not self._any

    def equal_to(self, value: Any) -> Iterable[Rule]:
        """The rules that want exactly this leaf."""
        return self._values.get(_value_key(value), ())

    def candidates(self, leaves: Sequence[Any]) -> Iterator[Iterable[Rule]]:
        """The rules that any of the path's leaves may match, in parts; a rule may be in several."""
        for value in leaves:
            if found := self._values.get(_value_key(value)):
                yield found
            if value.__class__ is str:
                yield from self._of_text(value)
        few = len(leaves) <= _MAX_SINGLE_LEAVES
        if self._ranges is not None:
            numbers = [each for each in leaves if each.__class__ is float]
            yield from self._ranges.candidates(numbers) if few else self._ranges.all()
        if self._excluding is not None:
            yield from self._excluding.candidates(leaves) if few else self._excluding.all()
        yield from self._any.values()

    def _of_text(self, value: str) -> Iterator[Iterable[Rule]]:
        if self._texts is not None:
            yield from self._texts.candidates(value)
        if self._folded is not None:
            yield from self._folded.candidates(value.casefold())
        if self._networks is not None and (found_address := address(value)) is not None:
            bits = int(found_address)
            for (version, length), blocks in self._networks.items():
                if version == found_address.version and (
                    found := blocks.get(bits >> (found_address.max_prefixlen - length))
                ):
                    yield found


def _exact_keys(field: Field) -> Iterable[object]:
    yield from field.strings
    yield from (("number", number) for number in field.numbers)
    yield from (("number", Opaque(text)) for text in field.texts)
    yield from (_value_key(literal) for literal in field.literals)


def _value_key(value: Any) -> object:
    """Equal only for leaves that are equal: 1 is not True."""
    kind = value.__class__
    if kind is str or value is None:
        return value
    return (kind, value) if kind is bool else ("number", leaf(value))


class RuleIndex:
    """Finds rules by one path each: the one with the fewest rules behind it.

    Where a key of that path finds many rules all the same, an index of their other paths tells them apart.

    Args:
        divided_by: paths that all of the rules have been found by already.
    """

    def __init__(self, divided_by: frozenset[str] = frozenset()) -> None:
        self._divided_by = divided_by
        self.paths: dict[str, PathIndex] = {}
        self.always: dict[None, Group] = {}
        """Rules without another path that needs a leaf."""

    def add(self, rule: Rule) -> None:
        """Let the rule be found; `Rule.places` are where."""
        path, places = self._best(rule.fields)
        for place in places:
            group = place.add(rule)
            rule.places.append(place)
            if group is not None and path is not None:
                self._divide(group, rule, path)

    def _divide(self, group: Group, rule: Rule, path: str) -> None:
        if group.divided is not None:
            group.divided.add(rule)
        elif len(group) > _MAX_GROUP and len(self._divided_by) < _MAX_DIVISIONS:
            group.divided = RuleIndex(self._divided_by | {path})
            for each in group:
                group.divided.add(each)

    def _best(self, fields: list[tuple[str, Field]]) -> tuple[str | None, list[Place]]:
        """The path by which a rule is found with the fewest others, and its places there."""
        best: tuple[str, list[Place]] | None = None
        fewest = 0.0
        for path, field in fields:
            if field.absent or path in self._divided_by:
                continue
            places = list(self.paths.setdefault(path, PathIndex()).places(field))
            crowd = sum(place.crowd() for place in places) + (0.5 if field.exact else 1.0) * len(places)
            if best is None or crowd < fewest:
                best, fewest = (path, places), crowd
        return (None, [Bucket(self.always, None)]) if best is None else best
