"""Texts in diagrams: conditions in a few words, names, and what Mermaid takes."""

from __future__ import annotations

import functools
import linecache
from collections.abc import Callable
from types import CodeType
from typing import Any, Final, NamedTuple

from eip.channels import Filter
from eip.matching import EventPattern, FilterPolicy

__all__ = ["condition_text", "mermaid_text", "thing_name"]

_MAX_LABEL: Final = 60
"""Characters of a label that are shown."""


def condition_text(condition: Filter | Callable[..., Any]) -> str:
    """A filter's text, a function's name, or the source of a lambda."""
    text = condition.text if isinstance(condition, (FilterPolicy, EventPattern)) else thing_name(condition)
    code = getattr(condition, "__code__", None)
    if text == "<lambda>" and isinstance(code, CodeType):
        text = _source(code) or text
    return text if len(text) <= _MAX_LABEL else f"{text[: _MAX_LABEL - 1]}…"


def thing_name(thing: Any) -> str:
    """The name of a function or class, or of an object's class."""
    if isinstance(thing, functools.partial):
        return thing_name(thing.func)
    name = getattr(thing, "__name__", None)
    return name if isinstance(name, str) else type(thing).__name__


def mermaid_text(text: str) -> str:
    """Text inside a quoted Mermaid label: entity codes for what would end it."""
    for sign, code in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("\n", " ")):
        text = text.replace(sign, code)
    return text


class _Place(NamedTuple):
    line: Any
    end_line: Any
    column: Any
    end_column: Any


def _source(code: CodeType) -> str | None:
    """The text of a lambda's body, where its file is at hand: what its instructions cover."""
    places = [_Place(*each) for each in code.co_positions() if None not in each]
    body = [each for each in places if (each.line, each.column) != (each.end_line, each.end_column)]
    if not body:
        return None
    first, start = min((each.line, each.column) for each in body)
    last, end = max((each.end_line, each.end_column) for each in body)
    lines = [linecache.getline(code.co_filename, number).encode() for number in range(first, last + 1)]
    lines[-1] = lines[-1][:end]
    lines[0] = lines[0][start:]
    return " ".join(b" ".join(lines).decode(errors="replace").split())
