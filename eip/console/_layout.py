"""Places of a diagram's nodes: layers from left to right, so that messages flow one way, and few arrows cross."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

__all__ = ["Place", "layered"]

_SWEEPS: Final = 4
"""Passes that sort each layer by its neighbours."""


class Place(NamedTuple):
    """Where a node is, from 0."""

    layer: int
    row: int


def layered(nodes: Sequence[str], edges: Collection[tuple[str, str]]) -> dict[str, Place]:
    """The place of each node.

    Args:
        nodes: in the order that they have within a layer where nothing else decides.
        edges: from node to node; those that close a circle are ignored.
    """
    forward = _without_circles(nodes, edges)
    layers: dict[int, list[str]] = {}
    for node, layer in _layers(nodes, forward).items():
        layers.setdefault(layer, []).append(node)
    _sort(layers, forward)
    return {node: Place(layer, row) for layer, members in layers.items() for row, node in enumerate(members)}


def _without_circles(nodes: Iterable[str], edges: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The edges without those that lead back to where a walk along them came from."""
    following: dict[str, list[str]] = {node: [] for node in nodes}
    for start, end in edges:
        following[start].append(end)
    kept: list[tuple[str, str]] = []
    seen: set[str] = set()
    for root in nodes:
        if root in seen:
            continue
        seen.add(root)
        on_path, stack = {root}, [(root, iter(following[root]))]
        while stack:  # no recursion: an application may have a thousand channels
            node, rest = stack[-1]
            end = next(rest, "")
            if not end:
                on_path.discard(stack.pop()[0])
            elif end not in on_path:
                kept.append((node, end))
                if end not in seen:
                    seen.add(end)
                    on_path.add(end)
                    stack.append((end, iter(following[end])))
    return kept


def _layers(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Each node one layer behind the last of those that lead to it; a start next to what it leads to."""
    waiting = dict.fromkeys(nodes, 0)
    following: dict[str, list[str]] = {}
    for start, end in edges:
        waiting[end] += 1
        following.setdefault(start, []).append(end)
    layer, ready = dict.fromkeys(nodes, 0), [node for node in nodes if not waiting[node]]
    for node in ready:  # which grows
        for end in following.get(node, ()):
            layer[end] = max(layer[end], layer[node] + 1)
            waiting[end] -= 1
            if not waiting[end]:
                ready.append(end)
    led_to = {end for _, end in edges}
    for start, ends in following.items():
        if start not in led_to:
            layer[start] = min(layer[end] for end in ends) - 1
    return layer


def _sort(layers: Mapping[int, list[str]], edges: Sequence[tuple[str, str]]) -> None:
    """Order each layer by the mean row of its neighbours, to and fro."""
    neighbours: dict[str, list[str]] = {}
    for start, end in edges:
        neighbours.setdefault(start, []).append(end)
        neighbours.setdefault(end, []).append(start)
    row = {node: float(place) for members in layers.values() for place, node in enumerate(members)}
    for sweep in range(_SWEEPS):
        for number in sorted(layers, reverse=bool(sweep % 2)):
            members = layers[number]
            means = {each: _mean([row[other] for other in neighbours.get(each, ())], row[each]) for each in members}
            members.sort(key=lambda each, means=means: means[each])  # type: ignore[misc]  # bound at once
            row.update((each, float(place)) for place, each in enumerate(members))


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default
