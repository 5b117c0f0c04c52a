"""A pull parser of JSON text that keeps number text, key order and duplicate keys, and fails at the first wrong token.

`json` parses the whole text first; the services check a pattern token by token, so a wrong operand is reported before a
syntax error behind it. The texts of syntax errors are those of the services' parser (Jackson).
"""

from __future__ import annotations

import re
from json.decoder import scanstring  # type: ignore[attr-defined]  # public in the module, missing in the stubs
from typing import Any, Final, NamedTuple, NoReturn, cast

from eip.errors import InvalidPattern

__all__ = ["Tokens"]

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_WORD: Final = re.compile(r"\w+")
_WORDS: Final = {"true": True, "false": False, "null": None}
_DEEPEST: Final = 200
"""Levels of nesting; far beyond what a pattern of 4,096 characters means."""


class Token(NamedTuple):
    """``kind`` is one of ``{ } [ ]``, ``name``, ``string``, ``number``, ``literal``."""

    kind: str
    text: str
    value: Any = None


class _Level:
    """An open object or array."""

    __slots__ = ("closing", "count", "last", "name", "start")

    def __init__(self, closing: str, start: int) -> None:
        self.closing = closing
        self.start = start
        self.count = 0
        self.name: str | None = None
        """In an object: the name whose value comes next."""
        self.last = ""
        """In an object: the name that was read last."""


class Tokens:
    """The tokens of a text, one `next` at a time."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._at = 0
        self._levels: list[_Level] = []
        self._path: list[str] = []
        self._done = False

    def next(self) -> Token:
        """The next token; raises `InvalidPattern` where there is none."""
        self._skip()
        level = self._levels[-1] if self._levels else None
        if level is not None and level.name is None and self._peek() in "}]":
            return self._close(level)
        if level is not None and level.name is None:
            self._separator(level)
            if level.closing == "}":
                return self._field(level)
        return self._value(level)

    def end(self) -> None:
        """Check that nothing follows the value."""
        self._skip()
        if self._at < len(self.text):
            self.fail(f"Unexpected character ({self._shown()}): expected end of input")

    def fail(self, reason: str) -> NoReturn:
        """Raise the error, with its place."""
        places = (level.last if level.closing == "}" else str(max(level.count - 1, 0)) for level in self._levels)
        pointer = "".join(f"/{place.replace('~', '~0').replace('/', '~1')}" for place in places)
        raise InvalidPattern(reason, pointer=pointer)

    def _skip(self) -> None:
        self._at = cast("re.Match[str]", _SPACE.match(self.text, self._at)).end()

    def _peek(self) -> str:
        if self._at >= len(self.text):
            if not self._levels:
                self.fail("No content to map due to end-of-input")
            kind = "Object" if self._levels[-1].closing == "}" else "Array"
            self.fail(f"Unexpected end-of-input: expected close marker for {kind} (start marker at {self._where()})")
        return self.text[self._at]

    def _shown(self) -> str:
        character = self.text[self._at]
        return f"'{character}' (code {ord(character)})"

    def _where(self) -> str:
        start = self._levels[-1].start
        line = self.text.count("\n", 0, start) + 1
        column = start - self.text.rfind("\n", 0, start)
        return f'[Source: (String)"{self.text}"; line: {line}, column: {column}]'

    def _close(self, level: _Level) -> Token:
        marker = self.text[self._at]
        if marker != level.closing:
            kind = "Object" if level.closing == "}" else "Array"
            wanted = f"expected '{level.closing}' (for {kind} starting at {self._where()})"
            self.fail(f"Unexpected close marker '{marker}': {wanted}")
        self._at += 1
        self._levels.pop()
        if self._levels:
            self._levels[-1].name = None
        return Token(marker, marker)

    def _separator(self, level: _Level) -> None:
        if level.count:
            if self._peek() != ",":
                kind = "Object" if level.closing == "}" else "Array"
                self.fail(f"Unexpected character ({self._shown()}): was expecting comma to separate {kind} entries")
            self._at += 1
            self._skip()
            self._peek()
        level.count += 1

    def _field(self, level: _Level) -> Token:
        if self._peek() != '"':
            self.fail(f"Unexpected character ({self._shown()}): was expecting double-quote to start field name")
        name = self._string()
        self._skip()
        if self._peek() != ":":
            self.fail(f"Unexpected character ({self._shown()}): was expecting a colon to separate field name and value")
        self._at += 1
        level.name = level.last = name
        return Token("name", name)

    def _value(self, level: _Level | None) -> Token:
        start = self._peek()
        if start in "{[":
            if len(self._levels) >= _DEEPEST:
                self.fail(f"Nesting of more than {_DEEPEST} levels is not supported")
            self._levels.append(_Level("}" if start == "{" else "]", self._at))
            self._at += 1
            return Token(start, start)
        if start == '"':
            text = self._string()
            token = Token("string", text, text)
        elif (number := _NUMBER.match(self.text, self._at)) is not None:
            self._at = number.end()
            token = Token("number", number.group())
        else:
            token = self._literal()
        if level is not None:
            level.name = None
        return token

    def _literal(self) -> Token:
        word = _WORD.match(self.text, self._at)
        if word is None:
            self.fail(
                f"Unexpected character ({self._shown()}): expected a valid value "
                "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')"
            )
        if word.group() not in _WORDS:
            self.fail(
                f"Unrecognized token '{word.group()}': was expecting "
                "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')"
            )
        self._at = word.end()
        return Token("literal", word.group(), _WORDS[word.group()])

    def _string(self) -> str:
        try:
            text, self._at = scanstring(self.text, self._at + 1, True)
        except ValueError as error:
            if "Unterminated" in str(error):
                self.fail("Unexpected end-of-input: was expecting closing quote for a string value")
            self.fail(f"Illegal character or escape in a string value: {error}")
        return cast("str", text)
