"""Whether whatever one JSON Schema allows, another one accepts; and if not, why not.

Sound where it can tell: keywords that it does not compare (`not`, `if`, `patternProperties`, ...) must be the same on
both sides, or they count as a difference. A field that neither side names is not taken for sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeGuard

from eip.errors import ConfigurationError
from eip.schemas._alternatives import Schemas, kind_of

__all__ = ["Difference", "Subset"]

_MAX_STEPS: Final = 200_000
"""Pairs of schemas that are compared: documents come from strangers."""
_MAX_DEPTH: Final = 100
_OPAQUE: Final = (
    *("not", "if", "then", "else", "patternProperties", "propertyNames", "dependentRequired", "dependentSchemas"),
    *("dependencies", "contains", "unevaluatedProperties", "unevaluatedItems"),
)
_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


class Difference(NamedTuple):
    """Something that one side may send, and the other does not accept."""

    kind: str
    """``missing``, ``optional``, ``type``, ``enum``, ``format``, ``pattern``, ``limit``, ``closed`` or ``unknown``."""
    path: str
    """Of the field, as a JSON pointer; ``*`` is any item or key."""
    text: str


class Subset:
    """Compares a schema of what is sent with one of what is accepted.

    Args:
        sent: the document of the first.
        accepted: the document of the second.
    """

    def __init__(self, sent: Schemas, accepted: Schemas) -> None:
        self._sent, self._accepted = sent, accepted
        self._known: dict[tuple[int, int], list[Difference]] = {}
        self._steps = 0

    def differences(self, sent: Any, accepted: Any, path: str = "", depth: int = 0) -> list[Difference]:
        """Why something that ``sent`` allows is not accepted; empty: everything is.

        Raises:
            ConfigurationError: a malformed schema, or one that takes too much work.
        """
        if depth > _MAX_DEPTH:
            raise ConfigurationError(f"schemas are nested deeper than {_MAX_DEPTH} levels")
        sent, accepted = self._sent.resolved(sent), self._accepted.resolved(accepted)
        pair = id(sent), id(accepted)
        if pair not in self._known:
            self._steps += 1
            if self._steps > _MAX_STEPS:
                raise ConfigurationError("the schemas take too much work to compare")
            self._known[pair] = []  # a recursive schema: the same question holds as long as nothing else differs
            self._known[pair] = self._any_of(sent, accepted, depth)
        return [each._replace(path=path + each.path) for each in self._known[pair]]

    def _any_of(self, sent: Any, accepted: Any, depth: int) -> list[Difference]:
        allowed = self._accepted.alternatives(accepted)
        found: dict[Difference, None] = {}
        for each in self._sent.alternatives(sent):
            found.update(dict.fromkeys(self._one_of(each, allowed, depth)))
        return list(found)

    def _one_of(self, sent: Mapping[str, Any], allowed: list[dict[str, Any]], depth: int) -> list[Difference]:
        """The differences from the alternative that is nearest; those of an enumeration may be of several."""
        same = [each for each in allowed if _is_kind(sent, each)]
        if not same:
            kinds = sorted({str(each.get("type", "any")) for each in allowed}) or ["nothing"]
            return [Difference("type", "", f"may be {_name(sent)}, accepted: {', '.join(kinds)}")]
        values = sent.get("enum")
        if isinstance(values, list) and len(same) > 1:
            rest = [each for each in values if not any(each in one.get("enum", ()) or _open(one) for one in same)]
            return [] if not rest else [_not_in_enum(rest, same)]
        found = [list(self._differences(sent, each, depth)) for each in same]
        return min(found, key=len)

    def _differences(self, sent: Mapping[str, Any], accepted: Mapping[str, Any], depth: int) -> Iterator[Difference]:
        for keyword in _OPAQUE:
            if keyword in accepted and accepted[keyword] != sent.get(keyword):
                yield Difference("unknown", "", f"{keyword} has changed, which is not compared: look at it")
        if "enum" in accepted:
            yield from _enum(sent, accepted)
        yield from _strings(sent, accepted)
        yield from _limits(sent, accepted)
        if sent.get("type") in ("object", None):
            yield from self._objects(sent, accepted, depth)
        if sent.get("type") in ("array", None):
            yield from self._arrays(sent, accepted, depth)

    def _objects(self, sent: Mapping[str, Any], accepted: Mapping[str, Any], depth: int) -> Iterator[Difference]:
        given, taken = _properties(sent), _properties(accepted)
        always = _names(sent.get("required"))
        for name in _names(accepted.get("required")):
            if name in always:
                continue
            if name in given:
                yield Difference("optional", f"/{name}", "is required, and sent only sometimes")
            else:
                yield Difference("missing", f"/{name}", "is required and not sent (removed or renamed?)")
        more, other = accepted.get("additionalProperties", True), sent.get("additionalProperties")
        for name, schema in given.items():
            if name in taken:
                yield from self.differences(schema, taken[name], f"/{name}", depth + 1)
            elif more is False:
                yield Difference("closed", f"/{name}", "is sent, and other fields are refused")
            elif more is not True:
                yield from self.differences(schema, more, f"/{name}", depth + 1)
        if more is not True and (other not in (None, False) or (other is None and not given)):
            yield from self.differences(True if other is None else other, more, "/*", depth + 1)

    def _arrays(self, sent: Mapping[str, Any], accepted: Mapping[str, Any], depth: int) -> Iterator[Difference]:
        given, rest = _items(sent)
        taken, others = _items(accepted)
        for number in range(max(len(given), len(taken))):
            one = given[number] if number < len(given) else rest
            other = taken[number] if number < len(taken) else others
            yield from self.differences(one, other, f"/{number}", depth + 1)
        if (_limit(sent, "maxItems") or len(given) + 1) > len(given):
            yield from self.differences(rest, others, "/*", depth + 1)
        if accepted.get("uniqueItems") is True and sent.get("uniqueItems") is not True:
            yield Difference("limit", "", "items must be unique, and may be sent twice")


def _is_kind(sent: Mapping[str, Any], accepted: Mapping[str, Any]) -> bool:
    one, other = sent.get("type"), accepted.get("type")
    return other is None or one == other or (one, other) == ("integer", "number")


def _name(schema: Mapping[str, Any]) -> str:
    return str(schema.get("type", "anything"))


def _open(schema: Mapping[str, Any]) -> bool:
    """Whether it takes every value of its type."""
    return not any(key in schema for key in ("enum", "pattern", "format", *_LOWER, *_UPPER))


def _enum(sent: Mapping[str, Any], accepted: Mapping[str, Any]) -> Iterator[Difference]:
    values = sent.get("enum")
    if not isinstance(values, list):
        if not (accepted.get("type") == "boolean" and {True, False} <= {*map(bool, accepted["enum"])}):
            yield _not_in_enum([f"any {_name(sent)}"], [accepted])
        return
    rest = [each for each in values if not _among(each, accepted["enum"])]
    if rest:
        yield _not_in_enum(rest, [accepted])


def _among(value: Any, values: Any) -> bool:
    """Whether JSON has the value among them: True is not 1 there."""
    return isinstance(values, list) and any(value == each and kind_of(value) == kind_of(each) for each in values)


def _not_in_enum(rest: list[Any], accepted: list[Any]) -> Difference:
    values = [value for each in accepted for value in each.get("enum", ())]
    sent, known = (", ".join(f"{each!s:.40}" for each in those[:10]) for those in (rest, values))
    return Difference("enum", "", f"may be {sent}, accepted: {known}")


def _strings(sent: Mapping[str, Any], accepted: Mapping[str, Any]) -> Iterator[Difference]:
    if sent.get("type") not in ("string", "integer", "number", None) or "enum" in sent:
        return
    for keyword in ("format", "pattern"):
        wanted, given = accepted.get(keyword), sent.get(keyword)
        if wanted is not None and wanted != given:
            yield Difference(
                keyword, "", f"must have the {keyword} {wanted!s:.80}, and is sent {_with(keyword, given)}"
            )
    wanted, given = accepted.get("multipleOf"), sent.get("multipleOf")
    if wanted and (not given or given % wanted):
        yield Difference("limit", "", f"must be a multiple of {wanted}, and may be another number")


def _with(keyword: str, given: Any) -> str:
    return "in any" if given is None else f"with the {keyword} {given!s:.80}"


def _limits(sent: Mapping[str, Any], accepted: Mapping[str, Any]) -> Iterator[Difference]:
    for keywords, sign in ((_LOWER, 1), (_UPPER, -1)):
        for keyword in keywords:
            wanted, given = accepted.get(keyword), _limit(sent, keyword)
            if not _is_number(wanted) or (keyword in ("minLength", "minItems", "minProperties") and wanted == 0):
                continue
            if given is None or given * sign < wanted * sign:
                at = "without limit" if given is None else given
                yield Difference("limit", "", f"{keyword} is {wanted}, and what is sent has {at}")


def _limit(sent: Mapping[str, Any], keyword: str) -> float | None:
    """The limit of what is sent that says at least as much as the keyword; values of an enumeration are limits, too."""
    found = sent.get(keyword)
    if found is None and keyword in ("minimum", "maximum"):
        found = sent.get(f"exclusive{keyword.capitalize()}")
    values = sent.get("enum")
    if found is None and isinstance(values, list) and values and all(map(_is_number, values)):
        found = min(values) if keyword in _LOWER else max(values)
    return found if _is_number(found) else None


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found = schema.get("properties", {})
    if not isinstance(found, Mapping):
        raise ConfigurationError(f"properties must be an object, got {found!r:.80}")
    return found


def _names(required: Any) -> list[str]:
    return [each for each in required if isinstance(each, str)] if isinstance(required, list) else []


def _items(schema: Mapping[str, Any]) -> tuple[list[Any], Any]:
    """The schemas of the first items, and that of the others."""
    items = schema.get("items", True)
    first = schema.get("prefixItems", items if isinstance(items, list) else [])
    rest = schema.get("additionalItems", True) if isinstance(items, list) else items
    return (first if isinstance(first, list) else []), rest
