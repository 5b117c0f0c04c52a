"""How much work wildcards may make: the measure by which EventBridge refuses rules as too complex."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

__all__ = ["check_wildcards"]

LIMIT: Final = 10
"""Tried on the service: 9 were accepted, 11 refused."""
_MAX_STEPS: Final = 30_000
"""Characters tried, at most; each costs some microseconds. A rule that needs more is taken as simple: evaluating it is
bounded by other means (`eip.matching._work`)."""

_STAR: Final = 0
"""Stands for ``*`` among the characters of a wildcard."""


def check_wildcards(fields: Iterable[list[str]]) -> bool:
    """Whether no input satisfies `LIMIT` or more distinct prefixes of a field's wildcards at once."""
    return all(_is_simple(texts) for texts in fields)


class _Node:
    """A prefix that some of the wildcards share."""

    __slots__ = ("next", "star")

    def __init__(self, *, star: bool = False) -> None:
        self.next: dict[int | str, _Node] = {}
        self.star = star
        """Whether it ends in ``*``, and so stays satisfied whatever comes."""


_State: TypeAlias = frozenset[_Node]
"""The prefixes that an input satisfies, fewer than `LIMIT`: looking on from one costs little, however many wildcards
there are."""


def _is_simple(texts: list[str]) -> bool:
    start = frozenset(_closed([_tree(dict.fromkeys(texts))]))
    seen, waiting, steps = {start}, [start], 0
    while waiting and steps < _MAX_STEPS:
        state = waiting.pop()
        for character in [*{each for node in state for each in node.next if each != _STAR}, None]:
            steps += 1
            after = frozenset(_closed(_step(state, character)))
            if len(after) >= LIMIT:
                return False
            if after and after not in seen:
                seen.add(after)
                waiting.append(after)
    return True


def _tree(texts: Iterable[str]) -> _Node:
    root = _Node()
    for text in texts:
        node = root
        for element in _elements(text):
            node = node.next.setdefault(element, _Node(star=element == _STAR))
    return root


def _elements(text: str) -> Iterator[int | str]:
    characters = iter(text)
    for each in characters:
        yield _STAR if each == "*" else next(characters) if each == "\\" else each


def _step(state: _State, character: str | int | None) -> Iterator[_Node]:
    """The prefixes satisfied after one more character; None is one that none of them goes on with."""
    for node in state:
        if node.star:
            yield node
        if character is not None and character in node.next:
            yield node.next[character]


def _closed(nodes: Iterable[_Node]) -> Iterator[_Node]:
    """A ``*`` may stand for nothing."""
    for node in nodes:
        yield node
        if _STAR in node.next:
            yield node.next[_STAR]
