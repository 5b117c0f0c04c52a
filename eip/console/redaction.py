"""Redaction: values that nobody needs to see in a console, by the names of their fields."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import translate
from typing import Any, Final

from eip.errors import ConfigurationError

__all__ = ["DEFAULT_FIELDS", "MASK", "Redaction"]

MASK: Final = "•••"
"""Replaces a value."""
DEFAULT_FIELDS: Final = (
    *("*password*", "passwd", "pwd", "*secret*", "*token*", "authorization", "*api[-_]key*", "apikey", "credential*"),
    *("cookie", "private[-_]key", "card[-_]number", "cardnumber", "pan", "cvv", "cvc", "iban", "ssn", "pin"),
)
"""Names of fields that are redacted unless others are given; upper and lower case are the same."""
_MAX_DEPTH: Final = 200
"""Levels of nesting that are looked into; what is deeper is masked as a whole."""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
_VALUE: Final = re.compile(
    r"""["'\\]{0,4}\s{0,9}(?:[:=]|=>|>)\s{0,9}(?P<value>\\?"(?:[^"\\]|\\.)*(?:"|$)|'[^']*(?:'|$)|[^\s,;&<}\])"']+)"""
)
"""A value after its field's name, in JSON (also cut short), forms, XML and what people write."""


class Redaction:
    """Masks values by the names of their fields, at any depth.

    Args:
        fields: names, with ``*`` and ``?``; upper and lower case are the same. None: `DEFAULT_FIELDS`; empty: nothing.

    Raises:
        ConfigurationError: a name that is empty.
    """

    def __init__(self, fields: Iterable[str] | None = None) -> None:
        self.fields = DEFAULT_FIELDS if fields is None else tuple(fields)
        if not all(each.strip() for each in self.fields):
            raise ConfigurationError(f"fields must be names, got {self.fields!r}")
        patterns = "|".join(translate(each.strip().lower()) for each in self.fields)
        self._pattern = re.compile(patterns) if patterns else None

    def hides(self, name: str) -> bool:
        """Whether a field of that name is masked."""
        return self._pattern is not None and self._pattern.match(name.lower()) is not None

    def value(self, value: Any, depth: int = 0) -> Any:
        """The value of JSON with masks in it."""
        if self._pattern is None:
            return value
        if depth > _MAX_DEPTH:
            return MASK
        if isinstance(value, Mapping):
            return {
                name: MASK if self.hides(str(name)) else self.value(each, depth + 1) for name, each in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.value(each, depth + 1) for each in value]
        return value

    def text(self, text: str) -> str:
        """A text with masks in it: values that follow a field's name, as ``name=value``, in JSON or in XML.

        Best effort: a text without fields has no names to go by.
        """
        if self._pattern is None:
            return text
        made, end = [], 0
        for name in _NAME.finditer(text):
            if name.start() < end or not self.hides(name[0]):
                continue
            found = _VALUE.match(text, name.end())
            if found is not None:
                made += [text[end : found.start("value")], MASK]
                end = found.end("value")
        return "".join([*made, text[end:]])

    def restored(self, edited: Any, original: Any) -> Any:
        """The edited value with what was masked in place of its masks, by where they stand.

        Raises:
            ValueError: a mask where the original has no value.
        """
        if edited == MASK:
            raise ValueError(f"a value is still {MASK}: write it, or leave its field as it was")
        if isinstance(edited, dict):
            known = original if isinstance(original, dict) else {}
            return {name: self._restored(name, each, known) for name, each in edited.items()}
        if isinstance(edited, list):
            same = isinstance(original, list) and len(original) == len(edited)
            return [self.restored(each, original[place] if same else None) for place, each in enumerate(edited)]
        return edited

    def _restored(self, name: str, edited: Any, known: Mapping[str, Any]) -> Any:
        if edited == MASK and self.hides(name) and name in known:
            return known[name]
        return self.restored(edited, known.get(name))
