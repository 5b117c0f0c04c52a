"""The JSON Schemas of message bodies, as an AsyncAPI document holds them: definitions once, shared by all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUndefinedAnnotation

from eip.errors import ConfigurationError

__all__ = ["Body", "Mode", "content_type", "schemas_of"]

Mode: TypeAlias = Literal["serialization", "validation"]
_TEMPLATE: Final = "#/components/schemas/{model}"
_VALUES: Final = frozenset(("const", "enum", "default", "examples"))
"""Keywords that hold values, not schemas."""
_CONTENT_TYPES: Final = {str: "text/plain", bytes: "application/octet-stream"}


class Body(NamedTuple):
    """A type of bodies, and the way it goes: what is sent is serialized, what is received is validated."""

    model: Any
    mode: Mode


def content_type(model: Any) -> str:
    """The content type of bodies of that type."""
    return _CONTENT_TYPES.get(model, "application/json")


def schemas_of(bodies: Sequence[Body]) -> tuple[dict[Body, Any], dict[str, Any]]:
    """The schema of each body, and the definitions that they refer to.

    A type that has no JSON Schema is any value, with the reason as its description.

    Raises:
        ConfigurationError: two types have the same name.
    """
    adapters: dict[Body, TypeAdapter[Any]] = {}
    schemas: dict[Body, Any] = {}
    for body in dict.fromkeys(bodies):
        try:
            adapters[body] = TypeAdapter(body.model)
            adapters[body].json_schema(mode=body.mode)
        except (PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUndefinedAnnotation) as error:
            adapters.pop(body, None)
            schemas[body] = {"description": f"There is no JSON Schema of it: {str(error).splitlines()[0]}"}
    keys = {body: str(number) for number, body in enumerate(adapters)}
    inputs: list[tuple[str, Mode, TypeAdapter[Any]]] = [
        (keys[body], body.mode, adapter) for body, adapter in adapters.items()
    ]
    try:
        made, definitions = TypeAdapter.json_schemas(inputs, by_alias=True, ref_template=_TEMPLATE)
    except KeyError as error:
        raise ConfigurationError(f"the models' schemas cannot be named apart: {error}") from error
    for body, key in keys.items():
        schemas[body] = _draft_07(made[key, body.mode])
    return schemas, {name: _draft_07(each) for name, each in definitions.get("$defs", {}).items()}


def _draft_07(schema: Any) -> Any:
    """The schema in the dialect of AsyncAPI, a superset of JSON Schema draft 7; ours is of 2020-12."""
    if isinstance(schema, list):
        return [_draft_07(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {
        key: value if key in ("const", "enum", "default", "examples") else _draft_07(value)
        for key, value in schema.items()
    }
    if isinstance(made.get("prefixItems"), list):
        made["items"], rest = made.pop("prefixItems"), made.get("items", True)
        made["additionalItems"] = rest
    discriminator = made.get("discriminator")
    if isinstance(discriminator, Mapping) and "propertyName" in discriminator:
        made["discriminator"] = discriminator["propertyName"]
    return made
