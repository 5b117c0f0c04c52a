"""Diagrams of handlers: their steps and channels, as text and as a Mermaid flowchart.

A pattern names its parts in a method ``diagram()``; a plain function is shown by its name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from eip.channels import Sender
from eip.patterns._labels import condition_text, mermaid_text, thing_name
from eip.runtime.consumer import Consumer
from eip.runtime.handlers import Handler, inside_of

__all__ = ["Channel", "Diagram", "condition_text", "diagram", "mermaid", "with_diagram"]


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel that a step sends to, and when."""

    name: str
    when: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagram:
    """A handler: its name, the handlers it consists of in their order, and the channels it sends to by itself."""

    name: str
    steps: tuple[Diagram, ...] = ()
    channels: tuple[Channel, ...] = ()

    def __str__(self) -> str:
        """One line per step and channel, indented."""
        sent = (f"  -> {each.name}" + (f" ({each.when})" if each.when else "") for each in self.channels)
        lines = [self.name, *sent]
        for step in self.steps:
            lines += [f"  {line}" for line in str(step).splitlines()]
        return "\n".join(lines)


def diagram(thing: Any) -> Diagram:
    """The diagram of a handler or step: its own, or else its name alone."""
    own = getattr(thing, "diagram", None)
    made = own() if callable(own) and not isinstance(thing, type) else None
    if isinstance(made, Diagram):
        return made
    inside = inside_of(thing)
    return Diagram(name=thing_name(thing)) if inside is None else diagram(inside)


def with_diagram(
    handler: Handler, name: str, *, inside: Any = None, channels: Iterable[tuple[Sender | None, str]] = ()
) -> Handler:
    """The function with a diagram: a name, the handler inside, and the channels it sends to with their conditions."""
    made = Diagram(
        name=name,
        steps=() if inside is None else (diagram(inside),),
        channels=tuple(Channel(sender.name, when) for sender, when in channels if sender is not None),
    )
    handler.diagram = lambda: made  # type: ignore[attr-defined]  # functions take attributes
    return handler


def mermaid(*things: Any) -> str:
    """The flowchart of handlers, pipelines and consumers as Mermaid text; those of one service share their channels.

    A consumer is shown between the channel it takes from and the one it sends to.
    """
    chart = _Chart()
    for thing in things:
        if isinstance(thing, Consumer):
            first, last = chart.add(diagram(thing.handler))
            chart.link(chart.channel(thing.source.name), first)
            if thing.output is not None:
                chart.link(last, chart.channel(thing.output.name))
        else:
            chart.add(diagram(thing))
    return chart.text()


class _Chart:
    """Nodes and arrows; a channel is drawn once, however many send to it."""

    def __init__(self) -> None:
        self._channels: dict[str, str] = {}
        self._nodes: list[str] = []
        self._arrows: list[str] = []
        self._count = 0

    def channel(self, name: str) -> str:
        """The node of a channel."""
        return self._channels.setdefault(name, f"c{len(self._channels) + 1}")

    def add(self, made: Diagram) -> tuple[str, str]:
        """Draw a handler, its steps inside of a box; its first and its last node."""
        self._count += 1
        node = f"s{self._count}"
        if not made.steps:
            self._nodes.append(f'{node}["{mermaid_text(made.name)}"]')
            self._send(node, made)
            return node, node
        self._nodes.append(f'subgraph {node}["{mermaid_text(made.name)}"]')
        ends = [self.add(step) for step in made.steps]
        self._nodes.append("end")
        self._send(node, made)
        for (_, last), (first, _) in pairwise(ends):
            self.link(last, first)
        return ends[0][0], ends[-1][1]

    def link(self, start: str, end: str, when: str = "") -> None:
        """Draw an arrow."""
        self._arrows.append(f'{start} -- "{mermaid_text(when)}" --> {end}' if when else f"{start} --> {end}")

    def text(self) -> str:
        """The whole chart."""
        channels = [f'{node}[("{mermaid_text(name)}")]' for name, node in self._channels.items()]
        return "\n".join(["flowchart LR", *(f"  {line}" for line in (*channels, *self._nodes, *self._arrows))])

    def _send(self, node: str, made: Diagram) -> None:
        for channel in made.channels:
            self.link(node, self.channel(channel.name), channel.when)
