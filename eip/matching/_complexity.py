"""How much work wildcards may make: the measure by which EventBridge refuses rules as too complex."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["check_wildcards"]

LIMIT: Final = 10
"""Live data: 9 were accepted, 11 refused (MATCHING.md, section 2.7)."""
_EXPLORED: Final = 2000
"""Sets of prefixes looked at, at most; a rule that needs more is taken as simple."""

_STAR: Final = 0
"""Stands for ``*`` among the characters of a wildcard."""


def check_wildcards(fields: Iterable[list[str]]) -> bool:
    """Whether no input satisfies `LIMIT` or more distinct prefixes of a field's wildcards at once."""
    return all(_most_at_once(texts) < LIMIT for texts in fields)


def _most_at_once(texts: list[str]) -> int:
    wildcards = [_elements(text) for text in dict.fromkeys(texts)]
    prefixes = {wildcard[: end + 1] for wildcard in wildcards for end in range(len(wildcard))}
    if len(prefixes) < LIMIT or sum(_STAR in wildcard for wildcard in wildcards) == 0:
        return 0
    alphabet = {each for wildcard in wildcards for each in wildcard if each != _STAR}
    machine = _Machine(wildcards)
    start = machine.closure({(number, 0) for number in range(len(wildcards))})
    seen, waiting, most = {start}, [start], 0
    while waiting and len(seen) < _EXPLORED:
        state = waiting.pop()
        for character in [*alphabet, None]:
            after = machine.step(state, character)
            if after and after not in seen:
                seen.add(after)
                most = max(most, machine.satisfied(after))
                if most >= LIMIT:
                    return most
                waiting.append(after)
    return most


def _elements(text: str) -> tuple[int | str, ...]:
    characters = iter(text)
    return tuple(_STAR if each == "*" else next(characters) if each == "\\" else each for each in characters)


_States = frozenset[tuple[int, int]]


class _Machine:
    """The wildcards as one nondeterministic automaton; a state is (wildcard, elements consumed)."""

    def __init__(self, wildcards: list[tuple[int | str, ...]]) -> None:
        self._wildcards = wildcards

    def closure(self, states: set[tuple[int, int]]) -> _States:
        """A ``*`` may stand for nothing."""
        closed = set(states)
        for number, at in states:
            wildcard = self._wildcards[number]
            if at < len(wildcard) and wildcard[at] == _STAR:
                closed.add((number, at + 1))
        return frozenset(closed)

    def step(self, states: _States, character: object) -> _States:
        """The states after one more character; None is one that no wildcard names."""
        after: set[tuple[int, int]] = set()
        for number, at in states:
            wildcard = self._wildcards[number]
            if at and wildcard[at - 1] == _STAR:
                after.add((number, at))
            if at < len(wildcard) and wildcard[at] == character:
                after.add((number, at + 1))
        return self.closure(after)

    def satisfied(self, states: _States) -> int:
        """How many distinct prefixes the states stand for."""
        return len({self._wildcards[number][:at] for number, at in states if at})
