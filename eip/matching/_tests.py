"""The tests that one field of a pattern puts to a leaf: exact, prefix, wildcard, numeric and the others."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from eip.matching._values import Opaque, address, leaf

__all__ = [
    "Field",
    "Test",
    "anything_but",
    "anything_but_text",
    "cidr",
    "equals_ignore_case",
    "numeric",
    "prefix",
    "suffix",
]
__all__ += ["wildcard", "wildcard_parts"]

Test: TypeAlias = Callable[[Any], bool]
"""Whether a leaf (str, float, Opaque, True, False, None) passes."""


class Field:
    """What a path's leaves are tested for: any of its values and tests."""

    __slots__ = ("absent", "keys", "literals", "needs_scan", "numbers", "present", "strings", "tests", "texts")

    def __init__(self) -> None:
        self.strings: set[str] = set()
        self.numbers: set[float] = set()
        self.texts: set[str] = set()
        self.literals: set[Any] = set()
        self.tests: list[Test] = []
        self.keys: list[tuple[str, str] | None] = []
        """For each test, what an index can find it by: ("prefix", text), ("suffix", text), or None."""
        self.present = False
        self.absent = False

    def add_test(self, test: Test, key: tuple[str, str] | None = None) -> None:
        """Let leaves pass that pass the test."""
        self.tests.append(test)
        self.keys.append(key)

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


def same_address(text: str) -> Test | None:
    """The test for an IP literal, which equals every way to write the address; None for any other text."""
    wanted = address(text)
    if wanted is None:
        return None
    return lambda value: value.__class__ is str and address(value) == wanted


def prefix(text: str) -> Test:
    """Strings that start with the text."""
    return lambda value: value.__class__ is str and value.startswith(text)


def suffix(text: str) -> Test:
    """Strings that end with the text."""
    return lambda value: value.__class__ is str and value.endswith(text)


def _folded(text: str) -> str:
    """A regular expression for the text, each character in lower or in upper case."""
    cases = (sorted({each.lower(), each.upper()}) for each in text)
    return "".join(f"(?:{'|'.join(map(re.escape, each))})" if len(each) > 1 else re.escape(each[0]) for each in cases)


def equals_ignore_case(text: str, *, end: str = "both") -> Test:
    """Strings that equal the text, or start or end with it, in any case of the text's own characters."""
    expression = re.compile(_folded(text) + (r"\Z" if end == "suffix" else ""), re.DOTALL)
    find = {"both": expression.fullmatch, "prefix": expression.match, "suffix": expression.search}[end]
    return lambda value: value.__class__ is str and find(value) is not None


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


def numeric(low: float | None, high: float | None, *, open_low: bool = False, open_high: bool = False) -> Test:
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
