"""Diagrams of processes, with their conditions: as a Mermaid flowchart, and as an SVG picture.

    print(mermaid(trip))                                    # the definition
    svg(trip, await manager.family("trip-1"))               # how one instance went, with its branches

A lambda's source is shown where its file is at hand, and the name of any other function.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from eip.patterns._process_mermaid import Flowchart
from eip.patterns._process_outline import Outline
from eip.patterns._process_svg import Picture
from eip.patterns.process import Instance, Process

__all__ = ["mermaid", "svg"]


def mermaid(process: Process[Any], instances: Iterable[Instance] = ()) -> str:
    """The flowchart of a process as Mermaid text.

    Args:
        process: the definition.
        instances: an instance of it, and its children (`ProcessManager.family`): how they fared is shown in colour,
            with times and failures. Default: the definition alone.
    """
    return Flowchart(Outline.of(process, instances)).text()


def svg(process: Process[Any], instances: Iterable[Instance] = ()) -> str:
    """The picture of a process as an SVG document, which loads nothing from elsewhere.

    Args:
        process: the definition.
        instances: as of `mermaid`.
    """
    return Picture(Outline.of(process, instances)).text()
