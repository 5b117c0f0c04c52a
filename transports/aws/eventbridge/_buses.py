"""Makes event buses, and compares them with what there is: settings, policies, tags."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from eip.errors import ChannelNotFound, ConfigurationError, Conflict
from eip.topology import Action, BusSpec, Step
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws._policies import allow_sending, statements, with_statement
from eip.transports.aws._provisioning import Changes, changed_tags, describe_changes, differences, tag_list
from eip.transports.aws.arns import Arns
from eip.transports.aws.bus_options import EventBridgeOptions
from eip.transports.aws.options import option_of

__all__ = ["provision_bus", "undeclared_access"]

_SERVICE: Final = "events.amazonaws.com"
_ACTIVE: Final = "ACTIVE"
_OWN: Final = "eip-"
"""What the ids of our statements in a bus's policy begin with."""


async def provision_bus(client: ServiceClient, arns: Arns, declared: BusSpec, *, apply: bool) -> Step:
    """The step for a bus; its dead-letter queue lets it send first."""
    options = option_of(declared.options, EventBridgeOptions) or EventBridgeOptions()
    if declared.name == "default" and options.description is not None:
        raise ConfigurationError("bus default: EventBridge lets nobody describe it; drop description")
    arn, wanted = arns.of("bus", declared.name), _settings(arns, declared, options)
    changes = await _queue_changes(client, arns, declared, apply=apply)
    found = await _describe(client, declared.name)
    if found is None:
        if apply:
            await _create(client, declared, wanted)
            await _put_access(client, arns, declared.name, options, {})
        return Step("create", "bus", declared.name)
    settings = _differing(wanted, found)
    tags = await changed_tags(client, declared.tags, "events", "ListTagsForResource", ResourceARN=arn)
    access = _access_changes(arns, declared.name, options, found)
    if apply and settings:
        # A setting that is left out stays as it is.
        changed = {name: wanted[name] for name in settings}
        await client.call("events", "UpdateEventBus", channel=declared.name, Name=declared.name, **changed)
    if apply and tags:
        await client.call("events", "TagResource", ResourceARN=arn, Tags=tag_list(declared.tags))
    if apply and access:
        await _put_access(client, arns, declared.name, options, found)
    changes |= settings | tags | access
    state = "" if declared.event_source is None else await _source_state(client, declared.event_source)
    if state not in {"", _ACTIVE}:
        return Step("drift", "bus", declared.name, f"its event source is {state}: no events come; ask the partner")
    return Step("change" if changes else "same", "bus", declared.name, describe_changes(changes))


async def _describe(client: ServiceClient, name: str) -> Mapping[str, Any] | None:
    try:
        return await client.call("events", "DescribeEventBus", channel=name, Name=name)
    except ChannelNotFound:
        return None


def _settings(arns: Arns, declared: BusSpec, options: EventBridgeOptions) -> dict[str, Any]:
    """The declared settings as EventBridge takes them."""
    settings: dict[str, Any] = {
        "Description": options.description,
        "KmsKeyIdentifier": options.encryption,
        "LogConfig": options.log_config,
    }
    if declared.undelivered_name is not None:
        settings["DeadLetterConfig"] = {"Arn": arns.of("queue", declared.undelivered_name)}
    return {name: value for name, value in settings.items() if value is not None}


def _differing(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Changes:
    def text(value: Any) -> str:
        return json.dumps(value, sort_keys=True) if isinstance(value, Mapping) else str(value or "")

    return differences(
        {name: text(value) for name, value in wanted.items()}, {name: text(found.get(name)) for name in wanted}
    )


async def _queue_changes(client: ServiceClient, arns: Arns, declared: BusSpec, *, apply: bool) -> Changes:
    if declared.undelivered_name is None:
        return {}
    queue, source = arns.of("queue", declared.undelivered_name), arns.of("bus", declared.name)
    return await allow_sending(client, queue, source, service=_SERVICE, apply=apply)


async def _create(client: ServiceClient, declared: BusSpec, wanted: Mapping[str, Any]) -> None:
    given = {name: value for name, value in wanted.items() if value} | (
        {"Tags": tag_list(declared.tags)} if declared.tags else {}
    )
    if declared.event_source is not None:
        given["EventSourceName"] = declared.event_source
    try:
        await client.call("events", "CreateEventBus", channel=declared.name, Name=declared.name, **given)
    except Conflict:
        return  # another process, which starts at the same time, was first
    except ChannelNotFound as error:
        raise ChannelNotFound(
            f"there is no partner event source {declared.event_source} in this account and region; "
            "ask the partner to make it, then apply again"
        ) from error


async def _source_state(client: ServiceClient, source: str) -> str:
    """The state of a partner event source; ``DELETED`` also where it is gone."""
    try:
        return str((await client.call("events", "DescribeEventSource", channel=source, Name=source))["State"])
    except ChannelNotFound:
        return "DELETED"


# Its policy.


def _access_changes(arns: Arns, bus: str, options: EventBridgeOptions, found: Mapping[str, Any]) -> Changes:
    there = _statements(found)
    changes: Changes = {}
    for each in options.access:
        statement = each.statement(arns.of("bus", bus), arns.partition)
        before = there.get(statement["Sid"])
        if before is None or _comparable(before) != _comparable(statement):
            changes[f"access {each.name}"] = ("" if before is None else json.dumps(before), json.dumps(statement))
    return changes


async def _put_access(
    client: ServiceClient, arns: Arns, bus: str, options: EventBridgeOptions, found: Mapping[str, Any]
) -> None:
    if not options.access:
        return
    policy: Mapping[str, Any] = json.loads(found.get("Policy") or "{}")
    for each in options.access:
        policy = json.loads(with_statement(policy, each.statement(arns.of("bus", bus), arns.partition)))
    await client.call("events", "PutPermission", channel=bus, EventBusName=bus, Policy=json.dumps(policy))


async def undeclared_access(client: ServiceClient, declared: BusSpec, *, delete: bool) -> Iterable[Step]:
    """The steps for statements of the bus's policy that were made here once and are not declared any more."""
    options = option_of(declared.options, EventBridgeOptions) or EventBridgeOptions()
    names = {f"{_OWN}{each.name}" for each in options.access}
    extra = [sid for sid in _statements(await _describe(client, declared.name) or {}) if sid not in names]
    for sid in extra:
        if delete:
            with suppress(ChannelNotFound):
                await client.call(
                    "events", "RemovePermission", channel=declared.name, EventBusName=declared.name, StatementId=sid
                )
    action: Action = "delete" if delete else "drift"
    return [Step(action, "access", f"{declared.name} > {each.removeprefix(_OWN)}") for each in extra]


def _statements(found: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Our statements in a bus's policy, by their ids."""
    listed = statements(json.loads(found.get("Policy") or "{}"))
    return {each["Sid"]: each for each in listed if each.get("Sid", "").startswith(_OWN)}


def _comparable(value: Any) -> Any:
    """A list of one is the one, as services write it."""
    if isinstance(value, Mapping):
        return {key: _comparable(each) for key, each in value.items()}
    if isinstance(value, list):
        return _comparable(value[0]) if len(value) == 1 else sorted(value, key=str)
    return value
