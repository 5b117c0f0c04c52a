"""Sub-rules against events: a fast path for the common shape, and the full semantics of arrays behind it.

The fast path looks only at a sub-rule's own paths. Where an event has arrays of objects, duplicate keys or dotted keys
on the way, it gives up, and the event is flattened: every leaf then knows which element of which array it came from,
and the leaves that a sub-rule chooses must not come from different elements of one array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from eip.matching._grammar import SubRule
from eip.matching._tests import Field
from eip.matching._values import MultiObject

__all__ = ["Flat", "Matcher", "flatten", "matches_flat"]

Membership: TypeAlias = tuple[tuple[int, int], ...]
"""Of which arrays, by number, a leaf is in which element."""

_MISSING: Final[Any] = object()
_STEPS: Final = 100_000
"""Choices of leaves tried for one sub-rule and event; an event that needs more does not match."""

Check: TypeAlias = Callable[[Any], bool | None]
"""Whether an event passes at one path; None: not to be told without flattening."""


class Matcher:
    """Compiled sub-rules."""

    __slots__ = ("_checks", "rules")

    def __init__(self, rules: list[SubRule]) -> None:
        self.rules = [_sorted(rule) for rule in rules]
        self._checks = [[_check(path.split("."), field) for path, field in rule] for rule in self.rules]

    def matches(self, event: Any) -> bool:
        """Whether an event (a tree) matches any of the sub-rules."""
        if event.__class__ is dict:
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
        flat = flatten(event)
        return any(matches_flat(rule, flat) for rule in self.rules)


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
    passes, absent, strings = field.passes, field.absent, field.strings

    def check(event: Any) -> bool | None:
        value: Any = event.get(key, _MISSING)
        if value.__class__ is str and value in strings:
            return True
        return _passes(value, passes, absent=absent)

    return check


def _check_nested(first: str, second: str, field: Field) -> Check:
    passes, absent, strings = field.passes, field.absent, field.strings
    joined = f"{first}.{second}"

    def check(event: Any) -> bool | None:
        if joined in event:
            return None
        inner: Any = event.get(first, _MISSING)
        if inner.__class__ is not dict:
            return None if inner.__class__ in _NOT_PLAIN else absent
        value: Any = inner.get(second, _MISSING)
        if value.__class__ is str and value in strings:
            return True
        return _passes(value, passes, absent=absent)

    return check


def _check_deep(keys: list[str], field: Field) -> Check:
    passes, absent = field.passes, field.absent
    steps = [(key, [".".join(keys[at:end]) for end in range(at + 2, len(keys) + 1)]) for at, key in enumerate(keys)]

    def check(event: Any) -> bool | None:
        value = event
        for key, joined_keys in steps:
            if value.__class__ is not dict:
                return None if value.__class__ in _NOT_PLAIN else absent
            for joined in joined_keys:
                if joined in value:
                    return None
            value = value.get(key, _MISSING)
        return _passes(value, passes, absent=absent)

    return check


_NOT_PLAIN: Final[frozenset[Any]] = frozenset({list, tuple, MultiObject})


def _passes(value: Any, passes: Callable[[Any], bool], *, absent: bool) -> bool | None:
    if value is _MISSING:
        return absent
    kind = value.__class__
    if kind is list or kind is tuple:
        return _passes_array(value, passes, absent=absent)
    if kind is dict:
        return absent
    if kind is MultiObject:
        return None
    return passes(value)


def _passes_array(value: Any, passes: Callable[[Any], bool], *, absent: bool) -> bool | None:
    """An array of scalars passes where any of them does; others are for flattening."""
    scalars = True
    for each in value:
        if each.__class__ in _CONTAINERS:
            scalars = False
        elif passes(each):
            return True
    if not scalars:
        return None
    return False if value else absent


_CONTAINERS: Final[frozenset[Any]] = frozenset({list, tuple, dict, MultiObject})


class Flat(dict[str, list[tuple[Any, Membership]]]):
    """The leaves of an event by dotted path."""

    __slots__ = ("in_arrays",)

    in_arrays: bool
    """Whether any leaf is in an element of an array, and so restricts the choice of others."""


def flatten(event: Mapping[str, Any]) -> Flat:
    """Every leaf of the event under its dotted path."""
    flat = Flat()
    flat.in_arrays = False
    arrays = 0
    waiting: list[tuple[str, Any, Membership]] = []
    for key, value in event.pairs if isinstance(event, MultiObject) else event.items():
        if value.__class__ is str and key not in flat:
            flat[key] = [(value, ())]
        else:
            waiting.append((key, value, ()))
    while waiting:
        path, value, membership = waiting.pop()
        if isinstance(value, dict):
            pairs = value.pairs if isinstance(value, MultiObject) else value.items()
            waiting.extend([(f"{path}.{key}", each, membership) for key, each in pairs])
        elif isinstance(value, (list, tuple)):
            arrays += 1
            for index, each in enumerate(value):
                if isinstance(each, (dict, list, tuple)):
                    flat.in_arrays = True
                    waiting.append((path, each, (*membership, (arrays, index))))
                else:
                    flat.setdefault(path, []).append((each, membership))
        elif path in flat:
            flat[path].append((value, membership))
        else:
            flat[path] = [(value, membership)]
    return flat


def matches_flat(rule: list[tuple[str, Field]], flat: Flat) -> bool:
    """Whether leaves can be chosen, one per path, that pass and come from the same elements of their arrays."""
    for path, field in rule:
        leaves = flat.get(path)
        if leaves is None:
            if not field.absent:
                return False
            continue
        for value, _ in leaves:
            if field.passes(value):
                break
        else:
            if not (field.absent and flat.in_arrays):
                return False
    return not flat.in_arrays or _choose(rule, flat)


def _choose(rule: list[tuple[str, Field]], flat: Flat) -> bool:
    """Depth first over the paths in order, without recursion."""
    steps = 0
    stack: list[Iterator[dict[int, int]]] = [_choices(*rule[0], flat, {})] if rule else []
    while stack:
        steps += 1
        if steps > _STEPS:
            return False
        constraint = next(stack[-1], None)
        if constraint is None:
            stack.pop()
        elif len(stack) == len(rule):
            return True
        else:
            stack.append(_choices(*rule[len(stack)], flat, constraint))
    return not rule


def _choices(path: str, field: Field, flat: Flat, constraint: dict[int, int]) -> Iterator[dict[int, int]]:
    """The constraints after each leaf that may be chosen; a path without one passes where absence is wanted."""
    consistent = False
    seen: set[Membership] = set()
    for value, membership in flat.get(path, ()):
        if all(constraint.get(array, index) == index for array, index in membership):
            consistent = True
            if membership not in seen and field.passes(value):
                seen.add(membership)
                yield {**constraint, **dict(membership)}
    if field.absent and not consistent:
        yield constraint
