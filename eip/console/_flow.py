"""The flow of messages: channels and handlers as a graph, and what each of them does at the moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from eip.app import ChannelInfo
from eip.console._layout import Place, layered
from eip.console.subject import Reader, Subject
from eip.topology import BusSpec, QueueSpec, RuleSpec, StreamSpec, SubscriptionSpec, TopicSpec

__all__ = ["Edge", "Flow", "Node"]

_MAX_LABEL: Final = 60
"""Characters of an edge's label."""
_KINDS: Final[Mapping[type, str]] = {TopicSpec: "topic", BusSpec: "bus", StreamSpec: "stream", QueueSpec: "queue"}


@dataclass(frozen=True, slots=True)
class Node:
    """A channel, a handler, or the application itself as the one who sends."""

    id: str
    kind: str
    """``queue``, ``topic``, ``bus``, ``stream``, ``handler`` or ``app``."""
    name: str
    consumer: str | None = None
    """Of a handler, whose counts are its own."""
    source: str | None = None
    """Of a handler, the name that its dead letters have as source."""


@dataclass(frozen=True, slots=True)
class Edge:
    """Messages go from one node to another."""

    start: str
    end: str
    label: str = ""


class Flow:
    """The graph of a subject, with places for its nodes."""

    def __init__(self, subject: Subject) -> None:
        self._nodes: dict[str, Node] = {}
        self._edges: dict[tuple[str, str], Edge] = {}
        self._dead = {each.name for each in subject.dead_letter_queues()}
        self._add_declared(subject)
        self._add_publications(subject)
        for reader in subject.all_readers():
            self._add_reader(reader)
        self.nodes = tuple(self._nodes.values())
        self.edges = tuple(self._edges.values())
        self.places: dict[str, Place] = layered(list(self._nodes), list(self._edges))
        self.version = sha256(repr(self._drawn()).encode(errors="backslashreplace")).hexdigest()[:16]
        """Tells a page that was left open over a deployment that its picture is of an earlier graph."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"version": self.version, **self._drawn()}

    def _drawn(self) -> dict[str, Any]:
        return {
            "nodes": [
                {"id": each.id, "kind": each.kind, "name": each.name, **self.places[each.id]._asdict()}
                for each in self.nodes
            ],
            "edges": [{"start": each.start, "end": each.end, "label": each.label} for each in self.edges],
        }

    def _add_declared(self, subject: Subject) -> None:
        for each in subject.topology.resources:
            if isinstance(each, SubscriptionSpec):
                label = "" if each.filter is None else str(getattr(each.filter, "text", "filtered"))
                self._link(self._channel("topic", each.topic), self._channel("queue", each.target.name), label)
            elif isinstance(each, RuleSpec):
                self._add_rule(each)
            elif type(each) in _KINDS and each.name not in self._dead:
                self._channel(_KINDS[type(each)], each.name)

    def _add_rule(self, rule: RuleSpec) -> None:
        bus, label = self._channel("bus", rule.bus), rule.event_pattern.text
        if rule.target is not None:
            self._link(bus, self._channel("queue", rule.target.name), label)
        for target in rule.targets:
            for kind in ("queue", "topic", "bus", "stream"):
                if (name := getattr(target, kind)) is not None:
                    self._link(bus, self._channel(kind, name), label)

    def _add_publications(self, subject: Subject) -> None:
        for channel in subject.publications():
            start = self._node(Node("app", "app", subject.name))
            self._link(start, self._channel(channel.kind, channel.name))

    def _add_reader(self, reader: Reader) -> None:
        node = Node(f"handler {reader.consumer}", "handler", reader.handler, reader.consumer, reader.source)
        handler = self._node(node)
        self._link(self._read_by(reader), handler)
        if reader.output is not None:
            self._link(handler, self._known(reader.output))

    def _read_by(self, reader: Reader) -> str:
        """The node that a handler reads: the queue of a subscription, where that is one."""
        channel = reader.channel or ChannelInfo("queue", reader.source or reader.consumer)
        if channel.kind in ("queue", "stream"):
            return self._channel(channel.kind, channel.name)
        queue = self._channel("queue", reader.source or str(channel))
        self._link(self._channel(channel.kind, channel.name), queue)
        return queue

    def _known(self, name: str) -> str:
        """The channel of that name, whatever its kind; a queue, where none is known."""
        found = next((f"{kind} {name}" for kind in _KINDS.values() if f"{kind} {name}" in self._nodes), None)
        return found or self._channel("queue", name)

    def _channel(self, kind: str, name: str) -> str:
        return self._node(Node(f"{kind} {name}", kind, name))

    def _node(self, node: Node) -> str:
        return self._nodes.setdefault(node.id, node).id

    def _link(self, start: str, end: str, label: str = "") -> None:
        short = label if len(label) <= _MAX_LABEL else f"{label[: _MAX_LABEL - 1]}…"
        known = self._edges.get((start, end))
        if known is None or not known.label:
            self._edges[start, end] = Edge(start, end, short)
