"""Makes event source mappings, and compares them and their functions' settings with what there is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from eip.errors import ChannelNotFound, ConfigurationError, Conflict
from eip.topology import Action, Step
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws._provisioning import Changes, changed_tags, describe_changes, differences
from eip.transports.aws.arns import Arns
from eip.transports.aws.lambda_functions.functions import FunctionSpec
from eip.transports.aws.lambda_functions.kinds import SERVICES
from eip.transports.aws.lambda_functions.mappings import EventSourceMappingSpec, mapping_name
from eip.transports.aws.lambda_functions.settings import comparable, creation, settings

__all__ = ["provision_function", "provision_mapping", "undeclared_mappings"]


async def provision_mapping(client: ServiceClient, arns: Arns, mapping: EventSourceMappingSpec, *, apply: bool) -> Step:
    """The step for a mapping, carried out where ``apply`` is set."""
    wanted = settings(mapping, destination=lambda name: arns.of("queue", name) if _is_queue(name) else name)
    found = await _find(client, arns, mapping)
    if found is None:
        if apply:
            await _create(client, arns, mapping, wanted)
        return Step("create", mapping.kind, mapping.name)
    own = f"arn:{arns.partition}:lambda:{arns.region}:{arns.account}:event-source-mapping:{found['UUID']}"
    changes, tags = _changes(wanted, found), await _changed_tags(client, mapping.tags, own)
    if changes and apply:
        await client.call("lambda", "UpdateEventSourceMapping", UUID=found["UUID"], **wanted)
    if tags and apply:
        await client.call("lambda", "TagResource", Resource=own, Tags=dict(mapping.tags))
    changes |= tags
    return Step("change" if changes else "same", mapping.kind, mapping.name, describe_changes(changes))


async def _changed_tags(client: ServiceClient, tags: Mapping[str, str], arn: str) -> Changes:
    return await changed_tags(client, tags, "lambda", "ListTags", Resource=arn)


def _is_queue(name: str) -> bool:
    return not name.startswith("arn:") or ":sqs:" in name


async def _create(
    client: ServiceClient, arns: Arns, mapping: EventSourceMappingSpec, wanted: Mapping[str, Any]
) -> None:
    given = {"FunctionName": mapping.function, "EventSourceArn": _source_arn(arns, mapping), **creation(mapping)}
    if mapping.tags:
        given["Tags"] = dict(mapping.tags)
    # What is not set is left out: empty settings are for changes.
    given |= {name: value for name, value in wanted.items() if comparable({name: value})}
    try:
        await client.call("lambda", "CreateEventSourceMapping", channel=mapping.name, **given)
    except Conflict:  # another process that applies the same was first
        if await _find(client, arns, mapping) is None:
            raise


def _source_arn(arns: Arns, mapping: EventSourceMappingSpec) -> str:
    if mapping.source_kind == "queue":
        return arns.of("queue", mapping.source)
    if mapping.source_kind == "stream" and "/consumer/" not in mapping.source:
        return arns.of("stream", mapping.source)
    return mapping.source


async def _find(client: ServiceClient, arns: Arns, mapping: EventSourceMappingSpec) -> Mapping[str, Any] | None:
    """The mapping of the function and the source, as it is; None where there is none."""
    part = mapping.destination or mapping.kafka_topic
    async for each in _listed(client, mapping.function, EventSourceArn=_source_arn(arns, mapping)):
        if part is None or part in _parts(each):
            return each
    return None


def _parts(found: Mapping[str, Any]) -> list[str]:
    """The broker's queue, or the topics of the cluster."""
    return [*(found.get("Queues") or ()), *(found.get("Topics") or ())]


async def _listed(client: ServiceClient, function: str, **more: str) -> AsyncIterator[Mapping[str, Any]]:
    """The mappings of a function that are not on their way out; none of a function that is not there."""
    given: dict[str, Any] = {"FunctionName": function, **more}
    while True:
        try:
            answer = await client.call("lambda", "ListEventSourceMappings", **given)
        except ChannelNotFound:
            return
        for each in answer.get("EventSourceMappings", ()):
            if each.get("State") != "Deleting":
                yield each
        if not (marker := answer.get("NextMarker")):
            return
        given["Marker"] = marker


def _changes(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Changes:
    is_now = {name: found.get(name) for name in wanted}
    is_now["Enabled"] = _is_enabled(found, default=bool(wanted["Enabled"]))
    before, after = comparable(is_now), comparable(wanted)
    return differences({name: after.get(name, "") for name in wanted}, before)


def _is_enabled(found: Mapping[str, Any], *, default: bool) -> bool:
    """Whether it runs; while it is being made or changed, that is not known."""
    state = found.get("State")
    return state in ("Enabled", "Enabling") if state not in ("Creating", "Updating", None) else default


async def undeclared_mappings(
    client: ServiceClient, function: FunctionSpec, declared: frozenset[str], *, delete: bool
) -> Iterable[Step]:
    """A step for each mapping of the function that is not declared, deleted where ``delete`` is set."""
    action: Action = "delete" if delete else "drift"
    steps: list[Step] = []
    async for each in _listed(client, function.name):
        names = _names(function, each)
        if not names & declared:
            steps.append(Step(action, EventSourceMappingSpec.kind, max(names, key=len)))
            if delete:
                await client.call("lambda", "DeleteEventSourceMapping", UUID=each["UUID"])
    return steps


def _names(function: FunctionSpec, found: Mapping[str, Any]) -> frozenset[str]:
    """The names under which a mapping may be declared: its source by name or by ARN, and a part of it."""
    arn = str(found.get("EventSourceArn", ""))
    kind = SERVICES.get(arn.split(":")[2]) if arn.count(":") > 2 else None
    sources = (arn, arn.rpartition(":")[2].removeprefix("stream/"))
    parts: list[str | None] = [*_parts(found)] or [None]
    return frozenset(mapping_name(function.name, kind or "source", each, part) for each in sources for part in parts)


# Functions.


async def provision_function(client: ServiceClient, function: FunctionSpec, *, apply: bool) -> Step:
    """The step for a function's settings; its code comes by a deployment.

    Raises:
        ConfigurationError: to be applied, and not deployed.
    """
    try:
        found = await client.call("lambda", "GetFunctionConfiguration", FunctionName=function.name)
    except ChannelNotFound:
        if apply:
            raise ConfigurationError(
                f"function {function.name} is not deployed: deploy its code first, e.g. with the template of "
                "`eip topology export --format sam`"
            ) from None
        return Step("create", function.kind, function.name, "to be deployed with its code")
    changes, tags = _function_changes(function, found), await _changed_tags(client, function.tags, found["FunctionArn"])
    if tags and apply:
        await client.call("lambda", "TagResource", Resource=found["FunctionArn"], Tags=dict(function.tags))
    if changes and apply:
        given = _configuration(function)
        await client.call("lambda", "UpdateFunctionConfiguration", FunctionName=function.name, **given)
    changes |= tags
    return Step("change" if changes else "same", function.kind, function.name, describe_changes(changes))


def _configuration(function: FunctionSpec) -> dict[str, Any]:
    return {
        "Handler": function.handler,
        "Runtime": function.runtime,
        "MemorySize": function.memory,
        "Timeout": round(function.timeout.total_seconds()),
        "Environment": {"Variables": dict(function.environment)},
    }


def _function_changes(function: FunctionSpec, found: Mapping[str, Any]) -> Changes:
    """What differs; of variables only the names, as their values may be secrets."""
    wanted = _configuration(function)
    variables = (found.get("Environment") or {}).get("Variables") or {}
    changes = differences(
        {name: str(value) for name, value in wanted.items() if name != "Environment"},
        {name: str(found.get(name, "")) for name in wanted},
    )
    for name in sorted({*variables, *function.environment}):
        if variables.get(name) != function.environment.get(name):
            changes[f"variable {name}"] = (
                "set" if name in variables else "",
                "set" if name in function.environment else "",
            )
    return changes
