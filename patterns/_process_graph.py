"""The graph of a definition: which step follows which, so that an instance's place is the name of a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eip.patterns._process_elements import Catch, Children, Choice, Element

__all__ = ["Graph", "Node"]


@dataclass(frozen=True, slots=True)
class Node:
    """An element, and where it leads. None: to the end."""

    element: Element
    following: str | None
    scope: str | None
    """The name of the innermost catch whose body it is in."""
    ways: tuple[str | None, ...] = ()
    """The first step of each branch; of a catch, of its body and of what follows a failure."""


class Graph:
    """The nodes of a definition by name.

    Branches are joined again: the last step of each leads to what follows the choice. As nothing leads back, an
    instance passes each node at most once.

    Args:
        elements: of the definition, each with a name of its own.
    """

    def __init__(self, elements: Sequence[Element]) -> None:
        self.nodes: dict[str, Node] = {}
        self.first = self._sequence(elements, None, None)

    def within(self, name: str, scope: str | None) -> bool:
        """Whether a step is in the body of a catch; None stands for the whole process."""
        at: str | None = name
        while at is not None and at != scope:
            at = self.nodes[at].scope
        return at == scope and name != scope

    def _sequence(self, elements: Sequence[Element], following: str | None, scope: str | None) -> str | None:
        for each in reversed(elements):
            self.nodes[each.name] = Node(each, following, scope, self._ways(each, following, scope))
            following = each.name
        return following

    def _ways(self, element: Element, following: str | None, scope: str | None) -> tuple[str | None, ...]:
        match element:
            case Choice():
                return tuple(self._sequence(each.elements, following, scope) for each in element.branches)
            case Catch():
                body = self._sequence(element.body, following, element.name)
                return body, self._sequence(element.failed, following, scope)
            case Children():  # instances of their own: each branch ends with its last step
                return tuple(self._sequence(each.elements, None, None) for each in element.branches)
            case _:
                return ()
