"""The tests that one field of a pattern puts to a leaf: exact, prefix, wildcard, numeric and the others."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from eip.matching._values import Address, Opaque, address, leaf

__all__ = [
    "Field",
    "IndexKey",
    "Test",
    "anything_but",
    "anything_but_text",
    "cidr",
    "equals_ignore_case",
    "numeric",
    "prefix",
    "suffix",
]
__all__ += ["folded_key", "wildcard", "wildcard_key", "wildcard_parts"]

Test: TypeAlias = Callable[[Any], bool]
"""Whether a leaf (str, float, Opaque, True, False, None) passes."""

IndexKey: TypeAlias = tuple[str, tuple[Any, ...]]
"""What an index can find a test by: a kind of place and its operands; see `eip.matching._rule_index`."""


_PARSING: Final = 10
"""Units of work for reading a string as an address."""


class Field:
    """What a path's leaves are tested for: any of its values and tests."""

    __slots__ = (
        *("absent", "addresses", "keys", "literals", "numbers", "present", "strings", "tests", "texts"),
        *("_folds", "_known", "_longest_fold", "_scans", "weight"),
    )

    def __init__(self) -> None:
        self.strings: set[str] = set()
        self.addresses: set[Address] = set()
        self.numbers: set[float] = set()
        self.texts: set[str] = set()
        self.literals: set[Any] = set()
        self.tests: list[Test] = []
        self.keys: list[IndexKey | None] = []
        """What an index can find the tests by, those of `addresses` apart; None for a test that it cannot."""
        self.present = False
        self.absent = False
        self.weight = 1
        """Tests put to each leaf, those in lists one by one."""
        self._known: set[object] = set()
        self._scans = self._folds = self._longest_fold = 0

    def add_test(self, kind: str, make: Callable[..., Test], *operands: Any, key: IndexKey | None = None) -> None:
        """Let leaves pass that pass the test ``make(*operands)``; one that is there already is not added again."""
        if (kind, operands) in self._known:
            return
        self._known.add((kind, operands))
        self.tests.append(make(*operands))
        self.keys.append(key)
        self._weigh(kind, operands)

    def add_address(self, wanted: Address) -> None:
        """Let strings pass that are this address, however they write it."""
        if not self.addresses:
            self.tests.append(self._is_address)
            self.weight += _PARSING
        self.addresses.add(wanted)

    def _weigh(self, kind: str, operands: tuple[Any, ...]) -> None:
        """Count the work that a test makes."""
        texts = operands[0] if operands[0].__class__ is tuple else operands[:1]
        self.weight += _PARSING if kind == "cidr" else len(texts)
        if "wildcard" in kind:
            self._scans += sum(text.count("*") > 1 for text in texts)
        if "ignore-case" in kind:
            self._folds += len(texts)
            self._longest_fold = max(self._longest_fold, *map(len, texts))

    def cost(self, length: int) -> int:
        """Units of work that testing a string of that length takes at most."""
        folded = self._folds * min(length, self._longest_fold) >> 1
        return self.weight + (self._scans * length >> 9) + folded

    @property
    def exact(self) -> bool:
        """Whether only listed values pass."""
        return not (self.tests or self.present or self.absent)

    def passes(self, value: Any) -> bool:
        """Whether a leaf passes; absence is the matcher's business."""
        kind = value.__class__
        if kind is str:
            if value in self.strings:
                return True
        elif value is None or kind is bool:
            if value in self.literals:
                return True
        else:
            value = leaf(value)
            if value.__class__ is Opaque:
                if value in self.texts:
                    return True
            elif value in self.numbers:
                return True
        if self.present:
            return True
        return any(test(value) for test in self.tests)

    def _is_address(self, value: Any) -> bool:
        return value.__class__ is str and address(value) in self.addresses


def prefix(text: str) -> Test:
    """Strings that start with the text."""
    return lambda value: value.__class__ is str and value.startswith(text)


def suffix(text: str) -> Test:
    """Strings that end with the text."""
    return lambda value: value.__class__ is str and value.endswith(text)


def equals_ignore_case(text: str, end: str = "both") -> Test:
    """Strings that equal the text, or start or end with it, in any case of the text's own characters.

    Case changes lengths ("ß" is "SS"), but no character's two forms begin or end alike: at most one can be there.
    """
    cases = [{each.lower(), each.upper()} for each in text]
    if end == "suffix":
        return lambda value: value.__class__ is str and _ends_with(value, cases[::-1])
    if end == "prefix":
        return lambda value: value.__class__ is str and _fitting(value, cases) >= 0
    return lambda value: value.__class__ is str and _fitting(value, cases) == len(value)


def _fitting(value: str, cases: list[set[str]]) -> int:
    """How much of the value the characters take from its start; -1 where they do not fit."""
    at = 0
    for forms in cases:
        for form in forms:
            if value.startswith(form, at):
                at += len(form)
                break
        else:
            return -1
    return at


def _ends_with(value: str, cases: list[set[str]]) -> bool:
    at = len(value)
    for forms in cases:
        for form in forms:
            if value.endswith(form, 0, at):
                at -= len(form)
                break
        else:
            return False
    return True


def folded_key(end: str, text: str) -> IndexKey | None:
    """What finds a text whatever its case; None where its case is one of those that no folding makes equal.

    Args:
        end: "prefix", "suffix", or "both".
        text: as in the pattern.
    """
    if not text or any(each.lower().casefold() != each.upper().casefold() for each in text):
        return None
    return f"folded {'prefix' if end == 'both' else end}", (text.casefold(),)


def wildcard_key(text: str) -> IndexKey | None:
    """What finds a wildcard: its start, its end, or the longest part in between; None where it is all ``*``."""
    first, *middle = wildcard_parts(text)
    if first:
        return "prefix", (first,)
    last = middle.pop() if middle else ""
    if last:
        return "suffix", (last,)
    inside = max(middle, key=len, default="")
    return ("inside", (inside,)) if inside else None


def wildcard_parts(text: str) -> list[str]:
    """The literal parts between the ``*`` of a wildcard, whose escapes are known to be right."""
    parts = [""]
    characters = iter(text)
    for each in characters:
        if each == "*":
            parts.append("")
        else:
            parts[-1] += next(characters) if each == "\\" else each
    return parts


def wildcard(text: str) -> Test:
    """Strings that the wildcard covers; in time linear in the string for each ``*``."""
    first, *middle = wildcard_parts(text)
    if not middle:
        return lambda value: value.__class__ is str and value == first
    last = middle.pop()
    least = len(first) + len(last)

    def test(value: Any) -> bool:
        if value.__class__ is not str or len(value) < least or not value.startswith(first) or not value.endswith(last):
            return False
        at, end = len(first), len(value) - len(last)
        for part in middle:
            at = value.find(part, at, end)
            if at < 0:
                return False
            at += len(part)
        return True

    return test


def numeric(low: float | None, high: float | None, open_low: bool, open_high: bool) -> Test:  # noqa: FBT001 - operands
    """Comparable numbers from ``low`` to ``high``."""

    def test(value: Any) -> bool:
        if value.__class__ is not float:
            return False
        above = low is None or (value > low if open_low else value >= low)
        return above and (high is None or (value < high if open_high else value <= high))

    return test


def cidr(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Test:
    """Strings that are an address in the block."""

    def test(value: Any) -> bool:
        if value.__class__ is not str:
            return False
        found = address(value)
        return found is not None and found.version == network.version and found in network

    return test


def anything_but(values: Iterable[Any]) -> Test:
    """Leaves that equal none of the strings or numbers."""
    unwanted: Final = frozenset(values)
    return lambda value: value.__class__ is Opaque or value not in unwanted or value.__class__ is bool


def anything_but_text(tests: Iterable[Test]) -> Test:
    """Leaves that pass none of the tests."""
    unwanted = tuple(tests)
    return lambda value: not any(test(value) for test in unwanted)
