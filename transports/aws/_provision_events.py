"""Makes buses, rules and targets, and compares them with what there is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from eip.errors import ChannelNotFound
from eip.topology import Action, BusSpec, RuleSpec, Step, TargetSpec
from eip.transports.aws._errors import entry_error
from eip.transports.aws._settings import differences, let_send, said

if TYPE_CHECKING:
    from eip.transports.aws.transport import AwsTransport

__all__ = ["bus", "rule", "undeclared"]

_SERVICE: Final = "events.amazonaws.com"
_KINDS: Final = {"queue": "sqs", "topic": "sns"}


async def bus(aws: AwsTransport, declared: BusSpec, *, apply: bool) -> Step:
    """The step for a bus."""
    try:
        await aws.call("events", "DescribeEventBus", channel=declared.name, Name=declared.name)
    except ChannelNotFound:
        if apply:
            await aws.call("events", "CreateEventBus", channel=declared.name, Name=declared.name)
        return Step("create", "bus", declared.name)
    return Step("same", "bus", declared.name)


async def rule(aws: AwsTransport, declared: RuleSpec, *, apply: bool) -> Iterable[Step]:
    """The steps for a rule and its targets; the policies that let it send come first."""
    name = f"{declared.bus} > {declared.name}"
    of_bus = {"EventBusName": declared.bus}
    wanted = {
        "EventPattern": declared.event_pattern.text,
        "State": "ENABLED" if declared.enabled else "DISABLED",
    }
    try:
        found = await aws.call("events", "DescribeRule", channel=declared.bus, Name=declared.name, **of_bus)
    except ChannelNotFound:
        changes = None
    else:
        changes = differences(wanted, {key: found.get(key) or "" for key in wanted})
    if apply:
        await _let_rule_send(aws, declared)
        if changes is None or changes:
            await aws.call("events", "PutRule", channel=declared.bus, Name=declared.name, **of_bus, **wanted)
    there = {} if changes is None else {each["Id"]: each async for each in _targets(aws, declared.bus, declared.name)}
    targets = [
        await _target(aws, declared, each, there.get(each.id), apply=apply) for each in declared.resolved_targets()
    ]
    return [_step(name, changes), *targets]


def _step(name: str, changes: Mapping[str, tuple[str, str]] | None) -> Step:
    if changes is None:
        return Step("create", "rule", name)
    return Step("change", "rule", name, said(changes)) if changes else Step("same", "rule", name)


async def _target(
    aws: AwsTransport, declared: RuleSpec, target: TargetSpec, found: Mapping[str, Any] | None, *, apply: bool
) -> Step:
    name = f"{declared.bus} > {declared.name} > {target.id}"
    wanted = _parameters(aws, target)
    if found == wanted:
        return Step("same", "target", name)
    if apply:
        answer = await aws.call(
            "events",
            "PutTargets",
            channel=declared.bus,
            Rule=declared.name,
            EventBusName=declared.bus,
            Targets=[wanted],
        )
        _refused(answer)
    if found is None:
        return Step("create", "target", name)
    keys = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
    return Step("change", "target", name, ", ".join(keys))


def _parameters(aws: AwsTransport, target: TargetSpec) -> dict[str, Any]:
    """The target as PutTargets takes it."""
    made: dict[str, Any] = {
        "Id": target.id,
        "Arn": _arn(aws, target),
        "RetryPolicy": {
            "MaximumRetryAttempts": target.max_attempts,
            "MaximumEventAgeInSeconds": round(target.max_age.total_seconds()),
        },
    }
    if target.dead_letters is not None:
        made["DeadLetterConfig"] = {"Arn": aws.arn("sqs", target.dead_letters)}
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


def _arn(aws: AwsTransport, target: TargetSpec) -> str:
    if target.name.startswith("arn:"):
        return target.name
    if target.kind == "bus":
        return aws.events_arn("event-bus", target.name)
    if target.kind == "stream":
        return aws.arn("kinesis", target.name).replace(f":{target.name}", f":stream/{target.name}")
    return aws.arn(_KINDS[target.kind], target.name)


async def _let_rule_send(aws: AwsTransport, declared: RuleSpec) -> None:
    """Have the policies of its queues and topics let exactly this rule send; those of other accounts are theirs."""
    source = aws.rule_arn(declared.bus, declared.name)
    receivers = dict.fromkeys(_arn(aws, each) for each in declared.resolved_targets() if each.kind in _KINDS)
    dead = (each.dead_letters for each in declared.resolved_targets() if each.dead_letters is not None)
    receivers |= dict.fromkeys(aws.arn("sqs", each) for each in dead)
    for receiver in receivers:
        if receiver.split(":")[4] == aws.account:
            await let_send(aws, receiver, source, service=_SERVICE)


async def undeclared(aws: AwsTransport, declared: BusSpec, names: frozenset[str], *, delete: bool) -> Iterable[Step]:
    """See `eip.topology.Provisioner.undeclared`; what a service manages, such as an archive's rule, does not count."""
    steps: list[Step] = []
    action: Action = "delete" if delete else "drift"
    try:
        rules = [each["Name"] async for each in _rules(aws, declared.name) if not each.get("ManagedBy")]
    except ChannelNotFound:
        return ()
    for name in rules:
        ids = [each["Id"] async for each in _targets(aws, declared.name, name)]
        extra = ids if name not in names else [each for each in ids if f"{name} > {each}" not in names]
        if delete and extra:
            answer = await aws.call(
                "events", "RemoveTargets", channel=declared.name, Rule=name, EventBusName=declared.name, Ids=extra
            )
            _refused(answer)
        if name not in names:
            if delete:
                await aws.call("events", "DeleteRule", channel=declared.name, Name=name, EventBusName=declared.name)
            steps.append(Step(action, "rule", f"{declared.name} > {name}"))
        else:
            steps += [Step(action, "target", f"{declared.name} > {name} > {each}") for each in extra]
    return steps


def _refused(answer: Mapping[str, Any]) -> None:
    """Raise the first error of an answer that tells failed entries."""
    for failed in answer.get("FailedEntries") or ():
        raise entry_error("events", "PutTargets", failed)


async def _rules(aws: AwsTransport, name: str) -> AsyncIterator[Mapping[str, Any]]:
    async for each in _pages(aws, "ListRules", "Rules", EventBusName=name):
        yield each


async def _targets(aws: AwsTransport, name: str, of_rule: str) -> AsyncIterator[Mapping[str, Any]]:
    async for each in _pages(aws, "ListTargetsByRule", "Targets", Rule=of_rule, EventBusName=name):
        yield each


async def _pages(aws: AwsTransport, operation: str, key: str, **parameters: Any) -> AsyncIterator[Mapping[str, Any]]:
    page: dict[str, str] = {}
    while True:
        answer = await aws.call("events", operation, channel=parameters["EventBusName"], **parameters, **page)
        for each in answer.get(key) or ():
            yield each
        if not answer.get("NextToken"):
            return
        page = {"NextToken": answer["NextToken"]}
