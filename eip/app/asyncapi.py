"""The AsyncAPI 3 document of an application: its channels, messages, operations and servers.

    document = asyncapi_document(make_app(), version="1.4.0")
    Path("asyncapi.json").write_bytes(orjson.dumps(document))

Nothing is opened or asked: the document is made of what the application declares. Source: www.asyncapi.com, version
3.0.0 of the specification.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from eip._checks import check_type
from eip.app._envelope_schema import ENVELOPE
from eip.app._message_schemas import Body, Mode, content_type, schemas_of
from eip.app.application import App
from eip.app.declarations import ChannelInfo, HandlerInfo, names_type
from eip.runtime.dispatch import message_type

__all__ = ["asyncapi_document"]

_VERSION: Final = "3.0.0"
_SUBSCRIPTION: Final = "x-eip-subscription"
_ANY: Final = "any message"
"""The name of messages whose type is not declared."""


def asyncapi_document(
    app: App, *, title: str | None = None, version: str = "1.0.0", description: str | None = None
) -> dict[str, Any]:
    """Return the AsyncAPI 3 document of an application, as plain data.

    What it receives has the schema that bodies are validated by, what it sends the one that they are serialized by.

    Args:
        app: open or not.
        title: default: the application's name.
        version: of its interface.
        description: in Markdown.

    Raises:
        TypeError: an argument of the wrong type.
    """
    check_type("app", app, App, "an App")
    info = {"title": check_type("title", title or app.name, str, "a str")}
    info["version"] = check_type("version", version, str, "a str")
    if description is not None:
        info["description"] = check_type("description", description, str, "a str")
    made = _Document(app)
    return {
        "asyncapi": _VERSION,
        "info": info,
        "defaultContentType": "application/json",
        "servers": made.servers,
        "channels": made.channels,
        "operations": made.operations,
        "components": made.components,
    }


@dataclass(frozen=True, slots=True)
class _Flow:
    """Messages that go one way, in one operation."""

    mode: Mode
    channel: ChannelInfo
    types: Mapping[str, Any]
    fields: Mapping[str, Any] = field(default_factory=dict)
    replies: Mapping[str, Any] | None = None


def _flows(app: App) -> Iterator[_Flow]:
    for handler in app.handlers:
        if handler.channel is not None:
            yield _received(handler, handler.channel)
    for publication in app.publications:
        results = (
            each for handler in app.handlers if handler.output == publication.channel.name for each in handler.results
        )
        types = {**_named(results), **publication.message_types}
        yield _Flow("serialization", publication.channel, types or {_ANY: Any})


def _received(handler: HandlerInfo, channel: ChannelInfo) -> _Flow:
    fields = {"summary": f"Handled by {handler.name}", "x-eip-handler": handler.name}
    if channel.subscription is not None:
        fields[_SUBSCRIPTION] = channel.subscription
    types = dict(handler.message_types) or {_ANY: handler.body}
    replies = (_named(handler.reply_types) or {_ANY: Any}) if handler.replies else None
    return _Flow("validation", ChannelInfo(channel.kind, channel.name), types, fields, replies)


def _named(models: Iterable[Any]) -> dict[str, Any]:
    """The models of results by message type; those that name none are any message."""
    return {message_type(each) if names_type(each) else _ANY: each for each in models}


class _Document:
    """The parts of the document.

    Args:
        app: what it is of.
    """

    def __init__(self, app: App) -> None:
        flows = list(_flows(app))
        bodies = [Body(model, each.mode) for each in flows for model in each.types.values()]
        bodies += [Body(model, "serialization") for each in flows for model in (each.replies or {}).values()]
        self._schemas, definitions = schemas_of(bodies)
        self._messages: dict[str, Any] = {}
        self._channel_keys: dict[ChannelInfo, str] = {}
        self._of_kind: dict[str, list[dict[str, str]]] = {}
        self.servers = self._make_servers(app, {each.channel.kind for each in flows})
        self.channels: dict[str, Any] = {}
        self.operations: dict[str, Any] = {}
        for flow in flows:
            self._add(flow)
        self.components = {"messages": self._messages, "schemas": definitions, **ENVELOPE}

    def _make_servers(self, app: App, kinds: set[str]) -> dict[str, Any]:
        found = {}
        for each in app.transport.servers():
            if kinds & {*each.kinds}:
                found[each.name] = {"host": each.host, "protocol": each.protocol}
                for kind in each.kinds:
                    self._of_kind.setdefault(kind, []).append({"$ref": f"#/servers/{each.name}"})
        return found

    def _add(self, flow: _Flow) -> None:
        key = self._channel(flow.channel)
        action = "send" if flow.mode == "serialization" else "receive"
        name = ".".join(
            [key, *(_key(str(flow.fields[each])) for each in ("x-eip-subscription",) if each in flow.fields)]
        )
        operation: dict[str, Any] = {"action": action, "channel": {"$ref": f"#/channels/{key}"}, **flow.fields}
        operation["messages"] = self._add_messages(key, flow.types, flow.mode)
        if flow.replies is not None:
            operation["reply"] = self._reply(f"{name}.replies", f"replies to requests on {flow.channel}", flow.replies)
        self.operations[_unused(f"{name}.{action}", self.operations)] = operation

    def _channel(self, channel: ChannelInfo) -> str:
        """The key of a channel, which is made at first sight."""
        if channel not in self._channel_keys:
            key = self._channel_keys[channel] = _unused(_key(channel.name), self.channels)
            made: dict[str, Any] = {"address": channel.name, "title": str(channel), "messages": {}}
            if servers := self._of_kind.get(channel.kind):
                made["servers"] = servers
            self.channels[key] = {**made, "x-eip-kind": channel.kind}
        return self._channel_keys[channel]

    def _reply(self, key: str, title: str, types: Mapping[str, Any]) -> dict[str, Any]:
        """A reply to the address that the request carries."""
        key = _unused(key, self.channels)
        self.channels[key] = {"address": None, "title": title, "messages": {}}
        return {
            "address": {"location": "$message.header#/eip/reply"},
            "channel": {"$ref": f"#/channels/{key}"},
            "messages": self._add_messages(key, types, "serialization"),
        }

    def _add_messages(self, channel: str, types: Mapping[str, Any], mode: Mode) -> list[dict[str, str]]:
        references = []
        for name, model in types.items():
            component = self._message(name, model, mode)
            self.channels[channel]["messages"][component] = {"$ref": f"#/components/messages/{component}"}
            references.append({"$ref": f"#/channels/{channel}/messages/{component}"})
        return references

    def _message(self, name: str, model: Any, mode: Mode) -> str:
        """The key of a message; both ways share one where their schemas are the same."""
        made = {
            "name": name,
            "title": name,
            "contentType": content_type(model),
            "payload": self._schemas[Body(model, mode)],
            "traits": [{"$ref": "#/components/messageTraits/eip"}],
        }
        key = next((each for each, known in self._messages.items() if known == made), None)
        if key is None:
            key = _unused(_key(name), self._messages)
            self._messages[key] = made
        return key


def _key(text: str) -> str:
    """A name as a key of the document, which allows few signs."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:100] or "-"


def _unused(key: str, taken: Mapping[str, Any]) -> str:
    number, free = 2, key
    while free in taken:
        free, number = f"{key}-{number}", number + 1
    return free
