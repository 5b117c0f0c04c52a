"""SNS filter policies, evaluated here exactly as the service does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from json import JSONDecodeError
from typing import Any, Final, Literal, TypeAlias

from eip.attributes import plain_of
from eip.errors import DecodeError, InvalidPattern
from eip.matching._grammar import compile_pattern, pattern_text
from eip.matching._match import Matcher
from eip.matching._tokens import Tokens
from eip.matching._values import number, parse_event

__all__ = ["FilterPolicy", "Scope", "attributes_tree"]

Scope: TypeAlias = Literal["MessageAttributes", "MessageBody"]

_MAX_KEYS: Final = 5
_MAX_COMBINATIONS: Final = 150
_SCOPES: Final = ("MessageAttributes", "MessageBody")


class FilterPolicy:
    """A filter policy of a subscription (Amazon SNS developer guide, "Message filtering").

    Args:
        policy: dict, or JSON as str or bytes; ``{}`` lets everything through.
        scope: ``"MessageAttributes"``, or ``"MessageBody"`` for a policy on the body's JSON.

    Raises:
        InvalidPattern: one that the service would refuse, with its text and a pointer to the offending place.
    """

    __slots__ = ("_matcher", "scope", "text")

    def __init__(self, policy: Any, scope: Scope = "MessageAttributes") -> None:
        if scope not in _SCOPES:
            raise InvalidPattern(
                f"FilterPolicyScope: Invalid value [{scope}]. Please use either MessageBody or MessageAttributes"
            )
        self.text = pattern_text(policy)
        """The policy as JSON."""
        self.scope: Scope = scope
        self._matcher = None if self.text.strip() in ("", "{}") else Matcher(compile_pattern(self.text, "sns"))
        if self._matcher is not None:
            _check_limits(self.text, scope)

    @property
    def matcher(self) -> Matcher | None:
        """The compiled policy; None for ``{}``, which lets everything through."""
        return self._matcher

    def matches(self, attributes: Mapping[str, Any] | None = None, body: Any = None) -> bool:
        """Whether a message passes.

        Args:
            attributes: name to Python value, or to ``{"Type"/"DataType": ..., "Value"/"StringValue": ...}`` as on the
                wire. A message without any attribute passes no policy of that scope, as the service documents.
            body: dict, or JSON as str or bytes; anything but a JSON object passes no policy of that scope.
        """
        if self._matcher is None:
            return True
        if self.scope == "MessageAttributes":
            return bool(attributes) and self._matcher.matches(attributes_tree(attributes or {}))
        try:
            tree = parse_event(body)
        except DecodeError:
            return False
        return isinstance(tree, dict) and self._matcher.matches(tree)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FilterPolicy) and (self.text, self.scope) == (other.text, other.scope)

    def __hash__(self) -> int:
        return hash((self.text, self.scope))

    def __repr__(self) -> str:
        return f"FilterPolicy({self.text!r}, scope={self.scope!r})"


def attributes_tree(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a message as the tree that policies are matched with."""
    return {name: _attribute(value) for name, value in attributes.items()}


def _attribute(value: Any) -> Any:
    """The leaves of an attribute; what gives none is an empty list."""
    value = plain_of(value)
    if isinstance(value, Mapping):
        return _wire_attribute(str(value.get("Type", value.get("DataType", ""))), value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return []
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return value


def _wire_attribute(kind: str, value: Mapping[str, Any]) -> Any:
    text = value.get("Value", value.get("StringValue"))
    if not isinstance(text, (str, int, float, Decimal)):
        return []
    base = kind.split(".", maxsplit=1)[0]
    if kind == "String.Array" or kind.startswith("String.Array."):
        return _elements(str(text))
    if base == "Number":
        return _number(str(text))
    return str(text) if base == "String" else []


def _elements(text: str) -> list[Any]:
    try:
        parsed = parse_event(text)
    except (DecodeError, JSONDecodeError):
        return []
    elements = parsed if isinstance(parsed, list) else [parsed]
    return [each for each in elements if not isinstance(each, (list, dict))]


def _number(text: str) -> Any:
    try:
        parsed = parse_event(text)
    except DecodeError:
        return []
    return parsed if isinstance(parsed, (int, float, str)) and not text.startswith('"') else number(text)


# Limits.


def _check_limits(text: str, scope: Scope) -> None:
    tokens = Tokens(text)
    tokens.next()
    counter = _Counter(tokens)
    combinations = counter.object(1)
    if scope == "MessageAttributes" and counter.nested:
        raise InvalidPattern("Filter policy scope MessageAttributes does not support nested filter policy")
    if counter.keys > _MAX_KEYS:
        raise InvalidPattern(f"Filter policy can not have more than {_MAX_KEYS} keys")
    if combinations > _MAX_COMBINATIONS:
        raise InvalidPattern("Filter policy is too complex")


class _Counter:
    """Combinations of a policy: list lengths times depth, multiplied; the branches of ``$or`` are added."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self.keys = 0
        self.nested = False

    def object(self, depth: int) -> int:
        combinations = 1
        while (token := self._tokens.next()).kind != "}":
            if depth == 1:
                self.keys += 1
            combinations *= self._member(token.text, depth)
        return combinations

    def _member(self, name: str, depth: int) -> int:
        if self._tokens.next().kind == "{":
            self.nested = True
            return self.object(depth + 1)
        length, branches = 0, 0
        while (token := self._tokens.next()).kind != "]":
            length += 1
            if token.kind != "{":
                continue
            if name == "$or":
                branches += self._branch(depth)
            else:
                self._skip()
        return branches or length * depth

    def _branch(self, depth: int) -> int:
        keys = self.keys
        combinations = self.object(depth)
        self.keys = keys
        return combinations

    def _skip(self) -> None:
        open_levels = 1
        while open_levels:
            kind = self._tokens.next().kind
            open_levels += (kind in "{[") - (kind in "}]")
