"""Makes connections and API destinations, and compares them with what there is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from eip.errors import ChannelNotFound, Conflict
from eip.topology import Action, Step
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws._provisioning import Changes, describe_changes, differences
from eip.transports.aws.api_destinations import ApiDestinationSpec, ConnectionSpec

__all__ = ["provision_api_destination", "provision_connection", "undeclared_api_destinations"]

_HIDDEN: Final = ("ApiKeyValue", "Password", "ClientSecret", "ConnectivityParameters")
"""Secrets, which the service does not show, and what it adds of its own."""


async def provision_connection(client: ServiceClient, declared: ConnectionSpec, *, apply: bool) -> Step:
    """The step for a connection; the service creates and authorizes it within seconds, and calls wait that long."""
    found = await _describe(client, "DescribeConnection", declared.name)
    if found is None:
        if apply:
            with suppress(Conflict):  # another process was first
                await client.call("events", "CreateConnection", Name=declared.name, **_parameters(declared))
        return Step("create", declared.kind, declared.name)
    changes = differences(_visible(declared), _shown(found))
    if apply and changes:
        await client.call("events", "UpdateConnection", Name=declared.name, **_parameters(declared))
    return Step("change" if changes else "same", declared.kind, declared.name, describe_changes(changes))


def _parameters(declared: ConnectionSpec) -> dict[str, Any]:
    more = {"KmsKeyIdentifier": declared.encryption} if declared.encryption is not None else {}
    return {
        "AuthorizationType": declared.type,
        "AuthParameters": declared.parameters(),
        "Description": declared.revision,
        **more,
    }


def _visible(declared: ConnectionSpec) -> dict[str, str]:
    visible = {"authorization": f"{declared.type} {_text(declared.shown)}", "revision": declared.revision}
    return visible if declared.encryption is None else {**visible, "encryption": declared.encryption}


def _shown(found: Mapping[str, Any]) -> dict[str, str]:
    shown = _without_secrets(found.get("AuthParameters") or {})
    return {
        "authorization": f"{found['AuthorizationType']} {_text(shown)}",
        "revision": found.get("Description") or "",
        "encryption": found.get("KmsKeyIdentifier") or "",
    }


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_secrets(each) for key, each in value.items() if key not in _HIDDEN and each != {}}
    return [_without_secrets(each) for each in value] if isinstance(value, list) else value


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


async def provision_api_destination(client: ServiceClient, declared: ApiDestinationSpec, *, apply: bool) -> Step:
    """The step for an API destination."""
    connection = await _describe(client, "DescribeConnection", declared.connection)
    found = await _describe(client, "DescribeApiDestination", declared.name)
    wanted: dict[str, Any] = {
        "ConnectionArn": "" if connection is None else connection["ConnectionArn"],
        "InvocationEndpoint": declared.url,
        "HttpMethod": declared.method,
        "InvocationRateLimitPerSecond": declared.max_rate,
    }
    if found is None:
        if apply:
            with suppress(Conflict):  # another process was first
                await client.call("events", "CreateApiDestination", Name=declared.name, **wanted)
        return Step("create", declared.kind, declared.name)
    changes: Changes = differences(_texts(wanted, wanted), _texts(found, wanted))
    if apply and changes:
        await client.call("events", "UpdateApiDestination", Name=declared.name, **wanted)
    return Step("change" if changes else "same", declared.kind, declared.name, describe_changes(changes))


def _texts(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    return {name: str(values.get(name, "")) for name in names}


async def _describe(client: ServiceClient, operation: str, name: str) -> Mapping[str, Any] | None:
    try:
        return await client.call("events", operation, Name=name)
    except ChannelNotFound:
        return None


async def undeclared_api_destinations(
    client: ServiceClient, connection: ConnectionSpec, declared: frozenset[str], *, delete: bool
) -> Sequence[Step]:
    """The steps for API destinations of a declared connection that are not declared."""
    action: Action = "delete" if delete else "drift"
    found = await _describe(client, "DescribeConnection", connection.name)
    if found is None:
        return []
    steps = []
    for name in [each async for each in _of_connection(client, found["ConnectionArn"]) if each not in declared]:
        if delete:
            with suppress(ChannelNotFound):
                await client.call("events", "DeleteApiDestination", Name=name)
        steps.append(Step(action, ApiDestinationSpec.kind, name))
    return steps


async def _of_connection(client: ServiceClient, connection: str) -> AsyncIterator[str]:
    page: dict[str, Any] = {}
    while True:
        answer = await client.call("events", "ListApiDestinations", ConnectionArn=connection, **page)
        for each in answer.get("ApiDestinations") or ():
            if each["ConnectionArn"] == connection:
                yield str(each["Name"])
        if not answer.get("NextToken"):
            return
        page = {"NextToken": answer["NextToken"]}
