"""A schema as rows of a table: field, type, whether it is required, limits, meaning; one level, named types by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from eip.schemas._alternatives import Schemas

__all__ = ["SchemaRows"]

_LIMITS: Final = (
    *("format", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "default"),
)
_MAX_DEPTH: Final = 5
"""Of a type's text: list of list of ..."""
_MAX_VALUES: Final = 20
_COMBINED: Final = {"anyOf": " or ", "oneOf": " or ", "allOf": " and "}


class SchemaRows:
    """Makes the rows of schemas of one document.

    Args:
        schemas: the document's.
    """

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas

    def of(self, schema: Any) -> Iterator[tuple[str, str, str, str, str]]:
        """One row for each field; one for the whole where it has none."""
        found = self._schemas.resolved(schema)
        properties = found.get("properties") if isinstance(found, Mapping) else None
        if not isinstance(properties, Mapping) or not properties:
            yield self._row("(body)", found, "")
            return
        required = found.get("required")
        for name, each in properties.items():
            is_required = isinstance(required, list) and name in required
            yield self._row(str(name), each, "required" if is_required else "optional")

    def _row(self, name: str, schema: Any, required: str) -> tuple[str, str, str, str, str]:
        known = schema if isinstance(schema, Mapping) else {}
        limits = "; ".join(f"{key} {known[key]!s:.200}" for key in _LIMITS if key in known)
        return name, self._type(schema), required, limits, str(known.get("description") or "")

    def _type(self, schema: Any, depth: int = 0) -> str:
        """The type in a few words."""
        if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
            return "any"
        if "$ref" in schema:
            return str(schema["$ref"]).rpartition("/")[2]
        for keyword, word in _COMBINED.items():
            if isinstance(parts := schema.get(keyword), list):
                return word.join(self._type(each, depth + 1) for each in parts[:_MAX_VALUES])
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if isinstance(values, list):
            return " | ".join(f"{each!r:.100}" for each in values[:_MAX_VALUES])
        return self._kind(schema, depth)

    def _kind(self, schema: Mapping[str, Any], depth: int) -> str:
        kind = schema.get("type", "any")
        if kind == "array" and not isinstance(schema.get("items", True), list):
            return f"list of {self._type(schema.get('items', True), depth + 1)}"
        if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
            return f"object of {self._type(schema['additionalProperties'], depth + 1)}"
        return " or ".join(map(str, kind)) if isinstance(kind, list) else str(kind)
