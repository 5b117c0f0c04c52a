"""EventBridge event patterns, evaluated here exactly as the service does."""

from __future__ import annotations

from typing import Any, Final

from eip.errors import DecodeError
from eip.matching._grammar import compile_pattern, pattern_text
from eip.matching._match import Matcher
from eip.matching._values import parse_event

__all__ = ["EventPattern"]

_REQUIRED: Final = ("id", "account", "source", "time", "region", "detail-type")


class EventPattern:
    """An event pattern (Amazon EventBridge user guide, "Creating event patterns").

    Args:
        pattern: dict, or JSON as str or bytes.

    Raises:
        InvalidPattern: one that the service would refuse, with its text and a pointer to the offending place.
    """

    __slots__ = ("_matcher", "text")

    def __init__(self, pattern: Any) -> None:
        self.text = pattern_text(pattern)
        """The pattern as JSON."""
        self._matcher = Matcher(compile_pattern(self.text))

    @property
    def matcher(self) -> Matcher:
        """The compiled pattern."""
        return self._matcher

    def matches(self, event: Any) -> bool:
        """Whether the event (dict, or JSON as str or bytes) matches; raises `DecodeError` for text that is no JSON.

        An event that would take more than a bounded amount of work does not match: some million tests of values, and
        of array elements that may belong together.
        """
        return self._matcher.matches(parse_event(event) if event.__class__ is not dict else event)

    def test(self, event: Any) -> bool:
        """Like the service's TestEventPattern: the event must be complete, otherwise `DecodeError`."""
        tree = parse_event(event)
        if not isinstance(tree, dict) or any(name not in tree for name in _REQUIRED):
            raise DecodeError("Parameter Event is not valid.")
        return self._matcher.matches(tree)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EventPattern) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"EventPattern({self.text!r})"
