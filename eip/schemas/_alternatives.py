"""JSON Schemas as lists of alternatives without references, each of one type: what can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from eip.errors import ConfigurationError

__all__ = ["Schemas", "kind_of"]

_MAX_ALTERNATIVES: Final = 200
_MAX_REFERENCES: Final = 50
"""A reference to a reference to a reference ..."""


class Schemas:
    """The schemas of one document.

    Args:
        document: where references lead, as JSON pointers.
    """

    def __init__(self, document: Any) -> None:
        self._document = document

    def resolved(self, value: Any) -> Any:
        """The value, or what it refers to.

        Raises:
            ConfigurationError: a reference that leads nowhere, in a circle, or out of the document.
        """
        for _ in range(_MAX_REFERENCES):
            if not isinstance(value, Mapping) or "$ref" not in value:
                return value
            value = self._found(value["$ref"])
        raise ConfigurationError("a $ref of the document leads in a circle")

    def _found(self, reference: Any) -> Any:
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise ConfigurationError(f"$ref must lead into the document itself, got {reference!r:.200}")
        found = self._document
        for part in reference[1:].split("/")[1:]:
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            elif isinstance(found, Mapping) and key in found:
                found = found[key]
            else:
                raise ConfigurationError(f"$ref {reference!r:.200} leads nowhere")
        return found

    def alternatives(self, schema: Any, depth: int = 0) -> list[dict[str, Any]]:
        """What a value may be, one of: schemas with at most one type, without ``anyOf``, ``oneOf``, ``allOf``.

        Raises:
            ConfigurationError: no schema, or one with too many alternatives.
        """
        schema = self.resolved(schema)
        if schema is True or schema is None:
            return [{}]
        if schema is False:
            return []
        if not isinstance(schema, Mapping) or depth > _MAX_REFERENCES:
            raise ConfigurationError(f"a schema must be an object or a bool, not nested too deep, got {schema!r:.80}")
        if "schemaFormat" in schema and "schema" in schema:  # AsyncAPI's multi-format schema
            return self.alternatives(schema["schema"], depth + 1)
        found = _by_type({key: value for key, value in schema.items() if key not in ("anyOf", "oneOf", "allOf")})
        for part in _schemas(schema, "allOf"):
            found = _combined(found, self.alternatives(part, depth + 1))
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                parts = [each for part in _schemas(schema, keyword) for each in self.alternatives(part, depth + 1)]
                found = _combined(found, parts)
        return found


def _schemas(schema: Mapping[str, Any], keyword: str) -> list[Any]:
    parts = schema.get(keyword, [])
    if not isinstance(parts, list):
        raise ConfigurationError(f"{keyword} must be a list of schemas, got {parts!r:.80}")
    return parts


def _by_type(schema: dict[str, Any]) -> list[dict[str, Any]]:
    kinds = schema.get("type")
    if isinstance(kinds, list):
        return [{**schema, "type": kind} for kind in kinds]
    if kinds is None and ("const" in schema or isinstance(schema.get("enum"), list)):
        values = [schema["const"]] if "const" in schema else schema["enum"]
        rest = {key: value for key, value in schema.items() if key not in ("const", "enum")}
        by_kind: dict[str, list[Any]] = {}
        for each in values:
            by_kind.setdefault(kind_of(each), []).append(each)
        return [{**rest, "type": kind, "enum": those} for kind, those in by_kind.items()]
    if "const" in schema:
        return [{**{key: value for key, value in schema.items() if key != "const"}, "enum": [schema["const"]]}]
    return [schema]


def _combined(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Schemas of the values that fit one of the first and one of the second."""
    if len(first) * len(second) > _MAX_ALTERNATIVES:
        raise ConfigurationError(f"a schema has more than {_MAX_ALTERNATIVES} alternatives")
    return [_merged(one, other) for one in first for other in second if _may_be_both(one, other)]


def _may_be_both(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    kinds = {each["type"] for each in (one, other) if "type" in each}
    return len(kinds) < 2 or kinds == {"integer", "number"}


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    both = {**one, **other}
    if {one.get("type"), other.get("type")} == {"integer", "number"}:
        both["type"] = "integer"
    if "properties" in one and "properties" in other:
        both["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        both["required"] = [*dict.fromkeys([*one["required"], *other["required"]])]
    if "enum" in one and "enum" in other:
        both["enum"] = [each for each in one["enum"] if each in other["enum"]]
    return both


def kind_of(value: Any) -> str:
    """The JSON type of a value."""
    kinds = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array"))
    if value is None:
        return "null"
    return next((kind for made, kind in kinds if isinstance(value, made)), "object")
