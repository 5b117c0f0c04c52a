"""A process as an SVG picture: laid out as it is nested, so that no arrows cross."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from eip.patterns._process_elements import Catch, Children, Choice, Complete, Element, Fail, ProcessStep, Wait
from eip.patterns._process_outline import Outline
from eip.patterns._svg import LINE, arrow, cut, label, rect, text_lines

__all__ = ["Picture"]

_GAP: Final = 34.0
"""Pixels between one element and the next; branches are half as far apart."""
_CHAR: Final = 6.7
"""Pixels of a character, about."""
_MAX_CHARS: Final = 44
_COLOURS: Final = {
    "plain": ("#f8fafc", "#475569"),
    "running": ("#dbeafe", "#2563eb"),
    "done": ("#dcfce7", "#16a34a"),
    "skipped": ("#f3f4f6", "#9ca3af"),
    "failed": ("#fee2e2", "#dc2626"),
    "undone": ("#fef3c7", "#d97706"),
    "not reached": ("#ffffff", "#cbd5e1"),
}
"""By look, of the inside and of the outline."""


@dataclass(frozen=True, slots=True)
class _Block:
    """A part of the picture: entered at the middle of its top, left at the middle of its bottom."""

    width: float
    height: float
    draw: Callable[[float, float], list[str]]
    """From the middle and the top to what is drawn."""
    goes_on: bool = True
    """Whether anything follows it."""


class Picture:
    """Draws an outline."""

    def __init__(self, outline: Outline) -> None:
        self._outline = outline

    def text(self) -> str:
        """The whole picture."""
        start, stop = _dot("#16a34a"), _dot("#475569")
        whole = _stacked([start, *map(self._element, self._outline.process.elements), stop])
        title = cut(self._outline.title, 100)
        width = max(whole.width, len(title) * _CHAR) + 40
        height = whole.height + 70
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif" font-size="12">'
        )
        marker = (
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z" fill="#475569"/></marker></defs>'
        )
        background = f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>'
        caption = label(width / 2, 24, title, weight="bold")
        return "\n".join(
            [head, f"<title>{escape(title)}</title>", marker, background, caption, *whole.draw(width / 2, 46), "</svg>"]
        )

    def _element(self, element: Element) -> _Block:
        match element:
            case Choice():
                return self._choice(element)
            case Catch():
                return self._catch(element)
            case Children(branches=(_, *_)):
                return self._fork(element)
            case _:
                return self._box(element)

    def _box(self, element: Element) -> _Block:
        lines, (fill, stroke) = self._texts(element), self._colours(element)
        width, height = _size(lines)
        round_corners = {ProcessStep: 4, Wait: height / 2, Fail: height / 2, Complete: height / 2}.get(type(element), 0)
        double = isinstance(element, Children)

        def draw(x: float, y: float) -> list[str]:
            made = [rect(x, y, (width, height), (fill, stroke), corner=round_corners)]
            if double:
                made.append(rect(x, y + 3, (width - 6, height - 6), ("none", stroke)))
            return [*made, *text_lines(x, y, lines)]

        return _Block(width, height, draw, goes_on=not isinstance(element, (Fail, Complete)))

    def _choice(self, element: Choice) -> _Block:
        lines, (fill, stroke) = self._texts(element), self._colours(element)
        width, height = _size(lines)
        width += 36

        def diamond(x: float, y: float) -> list[str]:
            flat, steep = (x - width / 2 + 18, x + width / 2 - 18), (x - width / 2, x + width / 2)
            places = [
                *((flat[0], y), (flat[1], y), (steep[1], y + height / 2)),
                *((flat[1], y + height), (flat[0], y + height), (steep[0], y + height / 2)),
            ]
            corners = " ".join(f"{across:.1f},{down:.1f}" for across, down in places)
            return [f'<polygon points="{corners}" fill="{fill}" stroke="{stroke}"/>', *text_lines(x, y, lines)]

        ways = [
            (branch.label, self._outline.taken(element.name, branch.label), self._steps(branch.elements))
            for branch in element.branches
        ]
        return _beside(_Block(width, height, diamond), ways)

    def _fork(self, element: Children) -> _Block:
        lines, (fill, stroke) = self._texts(element), self._colours(element)
        width, height = _size(lines)

        def bar(x: float, y: float) -> list[str]:
            return [
                rect(x, y, (width, height), (fill, stroke)),
                rect(x, y + height - 4, (width, 4), (stroke, stroke)),
                *text_lines(x, y, lines),
            ]

        ways = [(branch.label, False, self._steps(branch.elements)) for branch in element.branches]
        forked = _beside(_Block(width, height, bar), ways)
        joined = _Block(width, 4, lambda x, y: [rect(x, y, (width, 4), (stroke, stroke))])
        return _stacked([forked, joined], gap=0)

    def _catch(self, element: Catch) -> _Block:
        body, failed = self._steps(element.body), self._steps(element.failed)
        _, stroke = self._colours(element)
        frame = _Block(body.width + 32, body.height + 2 * _GAP, _nothing, goes_on=body.goes_on)
        height = max(frame.height, failed.height + _GAP) + _GAP
        right = frame.width / 2 + _GAP
        # The body stays in the middle, so that what is before and after it is in line with it.
        width = 2 * (right + failed.width)

        def draw(x: float, y: float) -> list[str]:
            at, bottom = x + right + failed.width / 2, y + height
            made = [
                rect(x, y, (frame.width, frame.height), ("none", stroke), corner=8, dashed=True),
                label(x - frame.width / 2 + 8, y + 15, element.name, anchor="start"),
                arrow([(x, y), (x, y + _GAP)]),
                *body.draw(x, y + _GAP),
                arrow([(x + frame.width / 2, y + 18), (at, y + 18), (at, y + _GAP)], dashed=True),
                label(x + frame.width / 2 + 6, y + 12, "failed", anchor="start"),
                *failed.draw(at, y + _GAP),
            ]
            if frame.goes_on:
                made.append(arrow([(x, y + _GAP + body.height), (x, bottom)], head=False))
            if failed.goes_on:
                made.append(arrow([(at, y + _GAP + failed.height), (at, bottom), (x, bottom)], head=False))
            return made

        return _Block(width, height, draw, goes_on=frame.goes_on or failed.goes_on)

    def _steps(self, elements: Sequence[Element]) -> _Block:
        return _stacked([self._element(each) for each in elements])

    def _texts(self, element: Element) -> list[str]:
        return [cut(line, _MAX_CHARS) for line in self._outline.lines(element)]

    def _colours(self, element: Element) -> tuple[str, str]:
        return _COLOURS[self._outline.look(element)]


def _nothing(_: float, __: float) -> list[str]:
    return []


def _stacked(blocks: Sequence[_Block], *, gap: float = _GAP) -> _Block:
    """One under the other, with arrows between them."""
    if not blocks:
        return _Block(40, 0, _nothing)
    height = sum(each.height for each in blocks) + gap * (len(blocks) - 1)

    def draw(x: float, y: float) -> list[str]:
        made: list[str] = []
        for before, each in zip([None, *blocks], blocks, strict=False):
            if before is not None:
                if before.goes_on and gap:
                    made.append(arrow([(x, y), (x, y + gap)]))
                y += gap
            made += each.draw(x, y)
            y += each.height
        return made

    return _Block(max(each.width for each in blocks), height, draw, goes_on=blocks[-1].goes_on)


def _beside(top: _Block, ways: Sequence[tuple[str, bool, _Block]]) -> _Block:
    """Branches beside each other under a block, joined again; each with its label, and whether it was taken."""
    widths = [max(block.width, len(text) * _CHAR + 12) for text, _, block in ways]
    width = sum(widths) + _GAP / 2 * (len(ways) - 1)
    tallest = max(block.height for _, _, block in ways)
    fork = _GAP * 0.6
    height = top.height + fork + _GAP + tallest + _GAP * 0.6

    def draw(x: float, y: float) -> list[str]:
        made, at, split = top.draw(x, y), x - width / 2, y + top.height + fork
        bottom = y + height
        for (text, taken, block), room in zip(ways, widths, strict=True):
            middle, begins = at + room / 2, split + _GAP
            thick = 2.5 if taken else 1
            made.append(
                arrow(
                    [(x, y + top.height), (x, split), (middle, split), (middle, begins)],
                    thick=thick,
                    head=block.height > 0,
                )
            )
            made += [*block.draw(middle, begins), label(middle, split + 16, text, halo=True)]
            if block.goes_on:
                made.append(arrow([(middle, begins + block.height), (middle, bottom), (x, bottom)], head=False))
            at += room + _GAP / 2
        return made

    return _Block(max(width, top.width), height, draw, goes_on=any(block.goes_on for _, _, block in ways))


def _size(lines: Sequence[str]) -> tuple[float, float]:
    return max(110.0, max(map(len, lines)) * _CHAR + 24), len(lines) * LINE + 14


def _dot(colour: str) -> _Block:
    return _Block(16, 16, lambda x, y: [f'<circle cx="{x:.1f}" cy="{y + 8:.1f}" r="8" fill="{colour}"/>'])
