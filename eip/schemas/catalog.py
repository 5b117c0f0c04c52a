"""A catalog of message types: pydantic models to JSON Schema, and checks before anything is sent.

catalog = Catalog({"JobCreated": JobCreated, "JobDeleted": JobDeleted})
catalog.json_schema("JobCreated")                        # of the body: for documentation, or another language
catalog.event_schema("JobCreated", source="com.example.jobs")    # of the whole event, as EventBridge's registry has it
jobs = catalog.checked(bus)                              # a sender that refuses invalid events
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError
from typing_extensions import override

from eip.channels import Sender, SenderDecorator
from eip.codec import validate_json
from eip.errors import ConfigurationError, DecodeError, InvalidMessage
from eip.message import Message

__all__ = ["DRAFT", "Catalog", "CheckedSender"]

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"


class Catalog:
    """The schemas of message types' bodies.

    Args:
        types: by message type (EventBridge's detail-type): a pydantic model, or whatever pydantic validates.

    Raises:
        ConfigurationError: a type that no validator can be made of.
    """

    def __init__(self, types: Mapping[str, Any]) -> None:
        self._adapters: dict[str, TypeAdapter[Any]] = {}
        for name, wanted in types.items():
            try:
                self._adapters[name] = TypeAdapter(wanted)
            except PydanticSchemaGenerationError as error:
                raise ConfigurationError(f"{name}: no schema for {wanted!r}: {error.message}") from error

    def __contains__(self, name: object) -> bool:
        return name in self._adapters

    def __iter__(self) -> Any:
        return iter(self._adapters)

    def json_schema(self, name: str) -> dict[str, Any]:
        """The JSON Schema (2020-12) of a type's body as it is on the wire."""
        return {"$schema": DRAFT, **self._adapter(name).json_schema(mode="serialization", by_alias=True)}

    def event_schema(self, name: str, *, source: str | None = None) -> dict[str, Any]:
        """The JSON Schema of the whole event; ``source``: the only one it comes from."""
        detail = self._adapter(name).json_schema(mode="serialization", by_alias=True)
        definitions = detail.pop("$defs", None)
        text = {"type": "string"}
        properties: dict[str, Any] = {
            "version": text,
            "id": text,
            "detail-type": {"const": name},
            "source": text if source is None else {"const": source},
            "account": text,
            "time": {"type": "string", "format": "date-time"},
            "region": text,
            "resources": {"type": "array", "items": text},
            "replay-name": text,
            "detail": detail,
        }
        required = [each for each in properties if each != "replay-name"]
        schema = {"$schema": DRAFT, "title": name, "type": "object", "properties": properties, "required": required}
        return schema if definitions is None else {**schema, "$defs": definitions}

    def check(self, message: Message[Any]) -> None:
        """Raise `InvalidMessage` for a type that is not in the catalog, or a body that is not what its type says."""
        adapter = self._adapters.get(message.type or "")
        if adapter is None:
            raise InvalidMessage(f"type {message.type!r} is not in the catalog; it has: {', '.join(self._adapters)}")
        try:
            validate_json(adapter, message.encode())
        except DecodeError as error:
            raise InvalidMessage(f"{message.type}: {error}") from error

    def checked(self, sender: Sender) -> CheckedSender:
        """The sender, which now refuses what `check` does; of a call with one such message nothing is sent."""
        return CheckedSender(sender, self)

    def _adapter(self, name: str) -> TypeAdapter[Any]:
        if name not in self._adapters:
            raise ConfigurationError(f"type {name!r} is not in the catalog; it has: {', '.join(self._adapters)}")
        return self._adapters[name]


class CheckedSender(SenderDecorator):
    """Checks messages against a catalog before it sends them."""

    def __init__(self, sender: Sender, catalog: Catalog) -> None:
        super().__init__(sender)
        self._catalog = catalog

    @override
    async def send(self, *messages: Message[Any], **options: Any) -> None:
        for message in messages:
            self._catalog.check(message)
        await super().send(*messages, **options)
