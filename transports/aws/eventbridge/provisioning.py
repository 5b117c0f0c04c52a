"""Makes buses, rules and targets, and compares them with what there is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from eip.errors import ChannelNotFound, Conflict
from eip.topology import Action, BusSpec, RuleSpec, Step, TargetSpec
from eip.transports.aws._client.errors import entry_error
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws._provisioning import allow_sending, describe_changes, differences
from eip.transports.aws.arns import Arns

__all__ = ["provision_bus", "provision_rule", "undeclared_rules"]

_SERVICE: Final = "events.amazonaws.com"
_WITH_POLICY: Final = ("queue", "topic")
"""Kinds of targets whose own policy lets a rule send; others have a role."""


async def provision_bus(client: ServiceClient, declared: BusSpec, *, apply: bool) -> Step:
    """The step for a bus."""
    try:
        await client.call("events", "DescribeEventBus", channel=declared.name, Name=declared.name)
    except ChannelNotFound:
        if apply:
            with suppress(Conflict):  # another process, which starts at the same time, was first
                await client.call("events", "CreateEventBus", channel=declared.name, Name=declared.name)
        return Step("create", "bus", declared.name)
    return Step("same", "bus", declared.name)


async def provision_rule(client: ServiceClient, arns: Arns, declared: RuleSpec, *, apply: bool) -> Iterable[Step]:
    """The steps for a rule and its targets; the policies that let it send come first."""
    name = f"{declared.bus} > {declared.name}"
    of_bus: dict[str, Any] = {"EventBusName": declared.bus}
    wanted: dict[str, Any] = {
        "EventPattern": declared.event_pattern.text,
        "State": "ENABLED" if declared.enabled else "DISABLED",
    }
    try:
        found = await client.call("events", "DescribeRule", channel=declared.bus, Name=declared.name, **of_bus)
    except ChannelNotFound:
        changes = None
    else:
        changes = differences(wanted, {key: found.get(key) or "" for key in wanted})
    if apply:
        await _allow_rule(client, arns, declared)
        if changes is None or changes:
            await client.call("events", "PutRule", channel=declared.bus, Name=declared.name, **of_bus, **wanted)
    there = (
        {} if changes is None else {each["Id"]: each async for each in _targets(client, declared.bus, declared.name)}
    )
    targets = [
        await _target(client, arns, declared, each, there.get(each.id), apply=apply)
        for each in declared.resolved_targets()
    ]
    return [_step(name, changes), *targets]


def _step(name: str, changes: Mapping[str, tuple[str, str]] | None) -> Step:
    if changes is None:
        return Step("create", "rule", name)
    return Step("change", "rule", name, describe_changes(changes)) if changes else Step("same", "rule", name)


async def _target(
    client: ServiceClient,
    arns: Arns,
    declared: RuleSpec,
    target: TargetSpec,
    found: Mapping[str, Any] | None,
    *,
    apply: bool,
) -> Step:
    name = f"{declared.bus} > {declared.name} > {target.id}"
    wanted = _parameters(arns, target)
    if found == wanted:
        return Step("same", "target", name)
    if apply:
        answer = await client.call(
            "events",
            "PutTargets",
            channel=declared.bus,
            Rule=declared.name,
            EventBusName=declared.bus,
            Targets=[wanted],
        )
        _raise_refused(answer)
    if found is None:
        return Step("create", "target", name)
    keys = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
    return Step("change", "target", name, ", ".join(keys))


def _parameters(arns: Arns, target: TargetSpec) -> dict[str, Any]:
    """The target as PutTargets takes it."""
    made: dict[str, Any] = {
        "Id": target.id,
        "Arn": _arn(arns, target),
        "RetryPolicy": {
            "MaximumRetryAttempts": target.max_attempts,
            "MaximumEventAgeInSeconds": round(target.max_age.total_seconds()),
        },
    }
    if target.dead_letters is not None:
        made["DeadLetterConfig"] = {"Arn": arns.of("queue", target.dead_letters)}
    if target.role is not None:
        made["RoleArn"] = target.role
    if target.group_id is not None:
        made["SqsParameters"] = {"MessageGroupId": target.group_id}
    if target.partition_key is not None:
        made["KinesisParameters"] = {"PartitionKeyPath": target.partition_key}
    if target.input is not None:
        made["Input"] = target.input
    if target.input_path is not None:
        made["InputPath"] = target.input_path
    if target.template is not None:
        made["InputTransformer"] = {"InputPathsMap": dict(target.input_paths), "InputTemplate": target.template}
    return made


def _arn(arns: Arns, target: TargetSpec) -> str:
    return target.name if target.name.startswith("arn:") else arns.of(target.kind, target.name)


async def _allow_rule(client: ServiceClient, arns: Arns, declared: RuleSpec) -> None:
    """Have the policies of the rule's queues and topics let it send; receivers of other accounts are left alone."""
    source = arns.rule(declared.bus, declared.name)
    receivers = dict.fromkeys(_arn(arns, each) for each in declared.resolved_targets() if each.kind in _WITH_POLICY)
    dead = (each.dead_letters for each in declared.resolved_targets() if each.dead_letters is not None)
    receivers |= dict.fromkeys(arns.of("queue", each) for each in dead)
    for receiver in receivers:
        if receiver.split(":")[4] == arns.account:
            await allow_sending(client, receiver, source, service=_SERVICE)


async def undeclared_rules(
    client: ServiceClient, declared: BusSpec, names: frozenset[str], *, delete: bool
) -> Iterable[Step]:
    """The steps for rules and targets that are not declared; rules that a service manages are left alone."""
    steps: list[Step] = []
    action: Action = "delete" if delete else "drift"
    try:
        rules = [each["Name"] async for each in _rules(client, declared.name) if not each.get("ManagedBy")]
    except ChannelNotFound:
        return ()
    for name in rules:
        ids = [each["Id"] async for each in _targets(client, declared.name, name)]
        extra = ids if name not in names else [each for each in ids if f"{name} > {each}" not in names]
        if delete and extra:
            answer = await client.call(
                "events", "RemoveTargets", channel=declared.name, Rule=name, EventBusName=declared.name, Ids=extra
            )
            _raise_refused(answer)
        if name not in names:
            if delete:
                await client.call("events", "DeleteRule", channel=declared.name, Name=name, EventBusName=declared.name)
            steps.append(Step(action, "rule", f"{declared.name} > {name}"))
        else:
            steps += [Step(action, "target", f"{declared.name} > {name} > {each}") for each in extra]
    return steps


def _raise_refused(answer: Mapping[str, Any]) -> None:
    """Raise the error of the answer's first failed entry."""
    for failed in answer.get("FailedEntries") or ():
        raise entry_error("events", "PutTargets", failed)


async def _rules(client: ServiceClient, name: str) -> AsyncIterator[Mapping[str, Any]]:
    async for each in _pages(client, "ListRules", "Rules", EventBusName=name):
        yield each


async def _targets(client: ServiceClient, name: str, of_rule: str) -> AsyncIterator[Mapping[str, Any]]:
    async for each in _pages(client, "ListTargetsByRule", "Targets", Rule=of_rule, EventBusName=name):
        yield each


async def _pages(
    client: ServiceClient, operation: str, key: str, **parameters: Any
) -> AsyncIterator[Mapping[str, Any]]:
    page: dict[str, Any] = {}
    while True:
        answer = await client.call("events", operation, channel=parameters["EventBusName"], **parameters, **page)
        for each in answer.get(key) or ():
            yield each
        if not answer.get("NextToken"):
            return
        page = {"NextToken": answer["NextToken"]}
