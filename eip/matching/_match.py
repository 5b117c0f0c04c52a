"""Sub-rules against events: a fast path for the common shape, and the full semantics of arrays behind it.

The fast path looks only at a sub-rule's own paths. Where an event has arrays of objects, duplicate keys or dotted keys
on the way, it gives up, and the event is flattened: every leaf then knows which element of which array it came from,
and the leaves that a sub-rule chooses must not come from different elements of one array.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, TypeAlias

from eip.errors import InvalidPattern
from eip.matching._grammar import SubRule
from eip.matching._operators import Field
from eip.matching._values import MultiObject, Opaque, leaf
from eip.matching._work import MAX_PATTERN_WEIGHT, Exhausted, Work

__all__ = ["Flat", "Matcher", "flatten", "matches_flat", "prefixes"]

Membership: TypeAlias = tuple[tuple[int, int], ...]
"""Of which arrays, by number, a leaf is in which element."""

_MISSING: Final[Any] = object()
_MAX_FAST: Final = 20_000
"""Units of work (`eip.matching._work`) that the fast path may take; what may need more is counted as it is done."""
_MAX_FAST_CHARACTERS: Final = 1024 * 1024
"""Of a value that the fast path looks at: the size of a large message."""
_MAX_FAST_DEPTH: Final = 16
"""Names in a path that the fast path looks for; all ways to write it with dots are spelled out beforehand."""

Check: TypeAlias = Callable[[Any], bool | None]
"""Whether an event passes at one path; None: only flattening can decide."""


class Matcher:
    """Compiled sub-rules; raises `InvalidPattern` where even the smallest event would take too much work."""

    __slots__ = ("_checks", "paths", "rules")

    def __init__(self, rules: list[SubRule]) -> None:
        if sum(field.weight for rule in rules for field in rule.values()) > MAX_PATTERN_WEIGHT:
            raise InvalidPattern(f"Rule is too complex - it gives more than {MAX_PATTERN_WEIGHT:,} tests of a value")
        self.rules = [_sorted(rule) for rule in rules]
        self.paths = prefixes(path for rule in rules for path in rule)
        self._checks = _checks(self.rules)
        """None where the fast path might take too long."""

    def matches(self, event: Any) -> bool:
        """Whether an event (a tree) matches any of the sub-rules."""
        if self._checks is not None and (event.__class__ is dict or _is_plain(event)):
            for checks in self._checks:
                for check in checks:
                    passed = check(event)
                    if not passed:
                        break
                else:
                    return True
                if passed is None:
                    return self.matches_flat(event)
            return False
        return self.matches_flat(event)

    def matches_flat(self, event: Any) -> bool:
        """The same, by way of flattening."""
        if not isinstance(event, Mapping):
            return False
        flat, work = flatten(event, self.paths), Work()
        try:
            return any(matches_flat(rule, flat, work) for rule in self.rules)
        except Exhausted:
            return False


def _is_plain(event: Any) -> bool:
    """Whether it is a mapping in which no key is twice."""
    return isinstance(event, Mapping) and not isinstance(event, MultiObject)


def prefixes(paths: Iterable[str]) -> set[str]:
    """The paths and those above them: where flattening has to look."""
    found: set[str] = set()
    for path in paths:
        upwards = path
        while upwards not in found:
            found.add(upwards)
            if "." not in upwards:
                break
            upwards = upwards.rpartition(".")[0]
    return found


def _checks(rules: list[list[tuple[str, Field]]]) -> list[list[Check]] | None:
    fields = {id(field): (path, field) for rule in rules for path, field in rule}
    most = sum(field.cost(_MAX_FAST_CHARACTERS) for rule in rules for _, field in rule)
    if most > _MAX_FAST or any(path.count(".") >= _MAX_FAST_DEPTH for path, _ in fields.values()):
        return None
    made = {key: _check(path.split("."), field) for key, (path, field) in fields.items()}
    return [[made[id(field)] for _, field in rule] for rule in rules]


def _sorted(rule: SubRule) -> list[tuple[str, Field]]:
    """By path, in the order of UTF-16 code units."""
    return sorted(rule.items(), key=lambda item: item[0].encode("utf-16-be", "surrogatepass"))


def _check(keys: list[str], field: Field) -> Check:
    if len(keys) == 1:
        return _check_top(keys[0], field)
    if len(keys) == 2:
        return _check_nested(keys[0], keys[1], field)
    return _check_deep(keys, field)


def _check_top(key: str, field: Field) -> Check:
    absent, strings = field.absent, field.strings

    def check(event: Any) -> bool | None:
        value: Any = event.get(key, _MISSING)
        if value.__class__ is str and value in strings:
            return True
        return _passes(value, field, absent=absent)

    return check


def _check_nested(first: str, second: str, field: Field) -> Check:
    absent, strings = field.absent, field.strings
    joined = f"{first}.{second}"

    def check(event: Any) -> bool | None:
        if joined in event:
            return None
        inner: Any = event.get(first, _MISSING)
        if inner.__class__ is not dict:
            return absent if inner.__class__ in _WITHOUT_MEMBERS else None
        value: Any = inner.get(second, _MISSING)
        if value.__class__ is str and value in strings:
            return True
        return _passes(value, field, absent=absent)

    return check


def _check_deep(keys: list[str], field: Field) -> Check:
    absent = field.absent
    steps = [(key, [".".join(keys[at:end]) for end in range(at + 2, len(keys) + 1)]) for at, key in enumerate(keys)]

    def check(event: Any) -> bool | None:
        value = event
        for key, joined_keys in steps:
            if value.__class__ is not dict:
                return absent if value.__class__ in _WITHOUT_MEMBERS else None
            for joined in joined_keys:
                if joined in value:
                    return None
            value = value.get(key, _MISSING)
        return _passes(value, field, absent=absent)

    return check


_SCALARS: Final[frozenset[Any]] = frozenset({str, int, float, bool, type(None), Decimal, Opaque})
_WITHOUT_MEMBERS: Final = _SCALARS | {type(_MISSING)}


def _passes(value: Any, field: Field, *, absent: bool) -> bool | None:
    if value is _MISSING:
        return absent
    kind = value.__class__
    if kind is list or kind is tuple:
        return _passes_array(value, field, absent=absent)
    if kind is dict:
        return absent
    return field.passes(value) if kind in _SCALARS else None


def _passes_array(value: Any, field: Field, *, absent: bool) -> bool | None:
    """An array of scalars passes where any of them does; others, and long ones, are for flattening."""
    if len(value) > _LONG_ARRAY:
        return None
    scalars = True
    for each in value:
        if each.__class__ not in _SCALARS:
            scalars = False
        elif field.passes(each):
            return True
    if not scalars:
        return None
    return False if value else absent


_LONG_ARRAY: Final = 100


class Flat(dict[str, list[tuple[Any, Membership]]]):
    """The leaves of an event by dotted path."""

    __slots__ = ("in_arrays",)

    in_arrays: bool
    """Whether any leaf is in an element of an array, and so restricts the choice of others."""


def flatten(event: Mapping[str, Any], wanted: Container[str]) -> Flat:
    """The leaves of the event under their dotted paths; only those of the wanted paths, and of paths below."""
    flat = Flat()
    flat.in_arrays = False
    arrays = 0
    waiting: list[tuple[str, Any, Membership]] = []
    pairs: Iterable[tuple[str, Any]] = event.pairs if isinstance(event, MultiObject) else _asked(event, wanted)
    for key, value in pairs:
        if key not in wanted:
            continue
        if value.__class__ is str and key not in flat:
            flat[key] = [(value, ())]
        else:
            waiting.append((key, value, ()))
    while waiting:
        path, value, membership = waiting.pop()
        if isinstance(value, dict):
            pairs = value.pairs if isinstance(value, MultiObject) else value.items()
            below = [(f"{path}.{key}", each, membership) for key, each in pairs]
            waiting.extend([each for each in below if each[0] in wanted])
        elif isinstance(value, (list, tuple)):
            arrays += 1
            for index, each in enumerate(value):
                if isinstance(each, (dict, list, tuple)):
                    flat.in_arrays = True
                    waiting.append((path, each, (*membership, (arrays, index))))
                else:
                    flat.setdefault(path, []).append((leaf(each), membership))
        elif path in flat:
            flat[path].append((leaf(value), membership))
        else:
            flat[path] = [(leaf(value), membership)]
    return flat


def _asked(event: Mapping[str, Any], wanted: Container[str]) -> list[tuple[str, Any]]:
    """The members that are wanted; others are not asked for, since an event may make them when someone does."""
    return [(key, event[key]) for key in event if key in wanted]


def matches_flat(rule: list[tuple[str, Field]], flat: Flat, work: Work) -> bool:
    """Whether leaves can be chosen, one per path, that pass and come from the same elements of their arrays.

    Raises `Exhausted` where that takes too much work.
    """
    for path, field in rule:
        leaves = flat.get(path)
        if leaves is None:
            if not field.absent:
                return False
            continue
        for value, _ in leaves:
            work.spend(_cost(field, value))
            if field.passes(value):
                break
        else:
            if not (field.absent and flat.in_arrays):
                return False
    return not flat.in_arrays or _choose(rule, flat, work)


def _cost(field: Field, value: Any) -> int:
    return field.cost(len(value)) if value.__class__ is str else field.weight


class _Members(dict[tuple[int, int], list[Membership]]):
    """Where leaves of one path are in arrays, by the element of the outermost array."""

    def __init__(self, memberships: Iterable[Membership]) -> None:
        super().__init__()
        self.alone: list[Membership] = []
        """In no element of an array."""
        self.arrays: dict[int, list[Membership]] = {}
        for each in dict.fromkeys(memberships):
            if each:
                self.setdefault(each[0], []).append(each)
                self.arrays.setdefault(each[0][0], []).append(each)
            else:
                self.alone.append(each)

    def consistent(self, constraint: Mapping[int, int], work: Work) -> Iterator[Membership]:
        """Those that do not come from other elements than the leaves that were chosen."""
        yield from self.alone
        for array, all_of_it in self.arrays.items():
            index = constraint.get(array)
            for each in all_of_it if index is None else self.get((array, index), ()):
                work.spend(1)
                if all(constraint.get(inner, at) == at for inner, at in each):
                    yield each


def _choose(rule: list[tuple[str, Field]], flat: Flat, work: Work) -> bool:
    """Depth first over the paths in order, without recursion."""
    steps = [_choices_of(field, flat.get(path, ()), work) for path, field in rule]
    stack: list[Iterator[dict[int, int]]] = [_choices(*steps[0], {}, work)] if rule else []
    while stack:
        work.spend(2)
        constraint = next(stack[-1], None)
        if constraint is None:
            stack.pop()
        elif len(stack) == len(rule):
            return True
        else:
            stack.append(_choices(*steps[len(stack)], constraint, work))
    return not rule


def _choices_of(field: Field, leaves: Sequence[tuple[Any, Membership]], work: Work) -> tuple[_Members, _Members | None]:
    """Where the leaves are that pass; and where absence is wanted, where all are."""
    passing: list[Membership] = []
    for value, membership in leaves:
        work.spend(_cost(field, value))
        if field.passes(value):
            passing.append(membership)
    return _Members(passing), _Members(membership for _, membership in leaves) if field.absent else None


def _choices(
    passing: _Members, present: _Members | None, constraint: dict[int, int], work: Work
) -> Iterator[dict[int, int]]:
    """The constraints after each leaf that may be chosen; a path without one passes where absence is wanted."""
    for membership in passing.consistent(constraint, work):
        work.spend(len(constraint))
        yield {**constraint, **dict(membership)}
    if present is not None and next(present.consistent(constraint, work), None) is None:
        yield constraint
