"""A process as a Mermaid flowchart."""

from __future__ import annotations

from typing import Final

from eip.patterns._labels import mermaid_text
from eip.patterns._process_elements import Branch, Catch, Children, Choice, Complete, Element, Fail, ProcessStep, Wait
from eip.patterns._process_graph import Node
from eip.patterns._process_outline import Outline

__all__ = ["Flowchart"]

_STYLES: Final = {
    "running": "fill:#dbeafe,stroke:#2563eb",
    "done": "fill:#dcfce7,stroke:#16a34a",
    "skipped": "fill:#f3f4f6,stroke:#9ca3af",
    "failed": "fill:#fee2e2,stroke:#dc2626",
    "undone": "fill:#fef3c7,stroke:#d97706",
    "not reached": "fill:#ffffff,stroke:#9ca3af,stroke-dasharray:4",
}


class Flowchart:
    """Draws an outline."""

    def __init__(self, outline: Outline) -> None:
        self._outline, self._graph = outline, outline.process.graph
        self._ids = {name: f"n{number}" for number, name in enumerate(self._graph.nodes, 1)}
        self._ends: dict[str | None, str] = {None: "stop"}
        """Where the last step of a sequence leads to, by what the graph has there."""
        self._nodes: list[str] = []
        self._arrows: list[str] = []

    def text(self) -> str:
        """The whole chart."""
        self._sequence(self._outline.process.elements)
        lines = [
            "flowchart TB",
            'start(["start"])',
            *self._nodes,
            'stop(["end"])',
            f"start --> {self._to(self._graph.first)}",
            *self._arrows,
            *self._styles(),
        ]
        return "\n".join([f"---\ntitle: {_quoted(self._outline.title)}\n---", *lines])

    def _sequence(self, elements: tuple[Element, ...]) -> None:
        for each in elements:
            self._element(each, self._graph.nodes[each.name])

    def _element(self, element: Element, node: Node) -> None:
        own = self._ids[element.name]
        text = "<br/>".join(mermaid_text(line) for line in self._outline.lines(element))
        match element:
            case Choice():
                self._nodes.append(f'{own}{{"{text}"}}')
                for branch, way in zip(element.branches, node.ways, strict=True):
                    thick = self._outline.taken(element.name, branch.label)
                    self._sequence(branch.elements)
                    self._arrow(own, way, branch.label, line="==" if thick else "--")
            case Catch():
                self._box(own, text, element.body)
                self._sequence(element.failed)
                self._arrow(own, node.ways[1], "failed", line="-.")
            case Children(branches=(_, *_)):
                self._fork(own, text, element, node)
            case _:
                self._nodes.append(f"{own}{_shape(element, text)}")
                if not isinstance(element, (Fail, Complete)):
                    self._arrow(own, node.following)
                elif isinstance(element, Complete):
                    self._arrow(own, None)

    def _fork(self, own: str, text: str, element: Children, node: Node) -> None:
        """Parallel branches, side by side in a box."""
        self._nodes += [f'subgraph {own}[" "]', f'{own}f{{{{"{text}"}}}}']
        before, self._ends[None] = self._ends[None], f"{own}j"
        for branch, way in zip(element.branches, node.ways, strict=True):
            self._branch(own, branch, way)
        self._nodes += [f'{own}j{{{{"join"}}}}', "end"]
        self._ends[None] = before
        self._arrow(f"{own}j", node.following)

    def _branch(self, own: str, branch: Branch, way: str | None) -> None:
        self._sequence(branch.elements)
        self._arrow(f"{own}f", way, branch.label)

    def _box(self, own: str, text: str, body: tuple[Element, ...]) -> None:
        self._nodes.append(f'subgraph {own}["{text}"]')
        self._sequence(body)
        self._nodes.append("end")

    def _arrow(self, start: str, to: str | None, label: str = "", *, line: str = "--") -> None:
        head = {"--": "-->", "==": "==>", "-.": ".->"}[line]
        end = self._to(to)
        if label:
            self._arrows.append(f'{start} {line} "{mermaid_text(label)}" {head} {end}')
        else:
            self._arrows.append(f"{start} --> {end}")

    def _to(self, name: str | None) -> str:
        """The node to draw an arrow to: a catch is entered at its body, branches at their fork."""
        if name is None:
            return self._ends[None]
        node = self._graph.nodes[name]
        match node.element:
            case Catch():
                return self._to(node.ways[0])
            case Children(branches=(_, *_)):
                return f"{self._ids[name]}f"
            case _:
                return self._ids[name]

    def _styles(self) -> list[str]:
        looks = {self._ids[name]: self._outline.look(node.element) for name, node in self._graph.nodes.items()}
        return [f"style {own} {_STYLES[look]}" for own, look in looks.items() if look in _STYLES]


def _shape(element: Element, text: str) -> str:
    match element:
        case ProcessStep(receives=None):
            return f'["{text}"]'
        case ProcessStep():
            return f'>"{text}"]'
        case Wait():
            return f'(["{text}"])'
        case Children():
            return f'[["{text}"]]'
        case _:
            return f'(("{text}"))'


def _quoted(text: str) -> str:
    """Text as a quoted value of YAML."""
    return '"' + " ".join(text.replace("\\", "\\\\").replace('"', '\\"').split()) + '"'
