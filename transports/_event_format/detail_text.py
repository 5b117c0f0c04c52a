"""The detail of an event as its sender wrote it: parsing and writing JSON again would change digits and spaces."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["written_detail"]

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_scan: Final = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str).raw_decode
"""Finds the end of a JSON value."""


def written_detail(text: str, without: str | None) -> str:
    """The detail's own text, without one of its members."""
    member = [each for each in _members(text, _skip(text, 0)) if each.key == "detail"][-1]
    detail = text[member.value : member.end]
    if without is None:
        return detail
    members = list(_members(detail, 0))
    for place in reversed([place for place, each in enumerate(members) if each.key == without]):
        last = place == len(members) - 1
        start = members[place].comma if place else members[place].start
        end = members[place].end if place or last else members[place + 1].start
        detail = detail[:start] + detail[end:]
        del members[place]
    return detail


class _Member(NamedTuple):
    """Where a member of a JSON object stands in its text."""

    key: str
    comma: int
    """The comma before it; where there is none, its start."""
    start: int
    value: int
    end: int


def _members(text: str, at: int) -> Iterator[_Member]:
    """The members of the JSON object that begins at a place of a text, which is known to be JSON."""
    at = comma = _skip(text, at + 1)
    while text[at] != "}":
        start = at
        key, at = _scan(text, at)
        value = _skip(text, _skip(text, at) + 1)
        _, end = _scan(text, value)
        yield _Member(key, comma, start, value, end)
        at = comma = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    """The next place that is not white space."""
    found = _SPACE.match(text, at)
    return found.end() if found else at
