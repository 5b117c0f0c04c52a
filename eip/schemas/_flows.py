"""The flows of an AsyncAPI 3 document: by channel and message, the schema of the body."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from eip.errors import ConfigurationError
from eip.schemas._alternatives import Schemas

__all__ = ["Action", "Document", "Flow"]

Action: TypeAlias = Literal["send", "receive"]
_ACTIONS: Final[tuple[Action, ...]] = ("send", "receive")


@dataclass(frozen=True, slots=True)
class Flow:
    """Messages of one type that an application sends to, or receives from, a channel."""

    action: Action
    channel: str
    """Its kind, where the document states one, and its address."""
    message: str
    payload: Any
    subscription: str = ""
    """Of a topic, bus or stream, where messages are received."""


class Document:
    """An AsyncAPI 3 document, or a JSON Schema, which then is that of one message both sent and received.

    Args:
        document: as read from JSON.

    Raises:
        ConfigurationError: neither of the two, or malformed.
    """

    def __init__(self, document: Any) -> None:
        self.schemas = Schemas(document)
        self._document = _mapping(document, "the document")
        if "asyncapi" in document:
            if not str(document["asyncapi"]).startswith("3."):
                raise ConfigurationError(f"asyncapi must be version 3, got {document['asyncapi']!r:.40}")
            self.title = str(_mapping(document.get("info", {}), "info").get("title", "an application"))
            flows = self._of_asyncapi()
        elif document.keys() & {"$schema", "type", "properties", "$ref", "anyOf", "oneOf", "allOf", "enum", "$defs"}:
            self.title = str(document.get("title", "the schema"))
            flows = (Flow(action, "any channel", "the message", document) for action in _ACTIONS)
        else:
            raise ConfigurationError("it is neither an AsyncAPI 3 document nor a JSON Schema")
        self.flows = {(each.action, each.channel, each.message, each.subscription): each for each in flows}

    def _of_asyncapi(self) -> Iterator[Flow]:
        for name, given in _mapping(self._document.get("operations", {}), "operations").items():
            operation = _mapping(self.schemas.resolved(given), f"operation {name}")
            action = operation.get("action")
            if action not in _ACTIONS:
                raise ConfigurationError(f"operation {name:.80}: action must be send or receive, got {action!r:.40}")
            yield from self._messages(action, operation)
            if "reply" in operation:
                reply = _mapping(self.schemas.resolved(operation["reply"]), f"reply of {name}")
                yield from self._messages("receive" if action == "send" else "send", reply)

    def _messages(self, action: Action, operation: Mapping[str, Any]) -> Iterator[Flow]:
        if "channel" not in operation:
            return
        channel = _mapping(self.schemas.resolved(operation["channel"]), "a channel")
        subscription = str(operation.get("x-eip-subscription") or "")
        parts = (channel.get("x-eip-kind"), channel.get("address") or channel.get("title") or "a reply address")
        address = " ".join(str(each) for each in parts if each)
        messages = operation.get("messages")
        if messages is None:
            messages = list(_mapping(channel.get("messages", {}), "messages").values())
        if not isinstance(messages, list):
            raise ConfigurationError(f"messages of an operation must be a list, got {messages!r:.80}")
        for each in messages:
            message = _mapping(self.schemas.resolved(each), "a message")
            name = str(message.get("name") or message.get("title") or "any message")
            yield Flow(action, address, name, message.get("payload", True), subscription)


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{what:.80} must be an object, got {value!r:.80}")
    return value
