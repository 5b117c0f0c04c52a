"""The few shapes that diagrams are made of, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

__all__ = ["LINE", "arrow", "cut", "label", "rect", "text_lines"]

LINE: Final = 16.0
"""Pixels from one line of text to the next."""


def rect(
    x: float, y: float, size: tuple[float, float], colours: tuple[str, str], *, corner: float = 0, dashed: bool = False
) -> str:
    """A rectangle by the middle of its top; its colours are those of the inside and of the outline."""
    (width, height), (fill, stroke) = size, colours
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return (
        f'<rect x="{x - width / 2:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{corner:g}" '
        f'fill="{fill}" stroke="{stroke}"{dash}/>'
    )


def text_lines(x: float, y: float, lines: Sequence[str]) -> list[str]:
    """Lines of a box by the middle of its top; the first is its title."""
    return [
        label(x, y + 19 + number * LINE, line, weight="normal" if number else "bold")
        for number, line in enumerate(lines)
    ]


def label(x: float, y: float, text: str, *, anchor: str = "middle", weight: str = "normal", halo: bool = False) -> str:
    """A text; ``halo``: legible over a line."""
    around = ' stroke="#ffffff" stroke-width="4" paint-order="stroke"' if halo else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="#0f172a"{around}>'
        f"{escape(text)}</text>"
    )


def arrow(points: Sequence[tuple[float, float]], *, head: bool = True, dashed: bool = False, thick: float = 1) -> str:
    """A line through the points, with a head at the end by default."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    end = ' marker-end="url(#head)"' if head else ""
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<polyline points="{path}" fill="none" stroke="#475569" stroke-width="{thick:g}"{dash}{end}/>'


def cut(text: str, length: int) -> str:
    """The text, or as much of it as fits."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
