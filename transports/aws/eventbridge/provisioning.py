"""Makes rules, their roles and targets, and compares them with what there is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from eip.errors import ChannelNotFound
from eip.topology import Action, BusSpec, RuleSpec, Step, TargetSpec
from eip.transports.aws._client.errors import entry_error
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws._policies import allow_sending
from eip.transports.aws._provisioning import Changes, describe_changes, differences
from eip.transports.aws._role_policies import is_made, permissions, role_arn, role_name, trust
from eip.transports.aws._roles import delete_role, provision_role
from eip.transports.aws.arns import Arns
from eip.transports.aws.eventbridge._targets import needs_role, parameters, target_arn

__all__ = ["provision_rule", "undeclared_rules"]

_SERVICE: Final = "events.amazonaws.com"


class _Target(NamedTuple):
    """A declared target and its ARN; None: of an API destination that is not made yet."""

    declared: TargetSpec
    arn: str | None


async def provision_rule(client: ServiceClient, arns: Arns, declared: RuleSpec, *, apply: bool) -> Iterable[Step]:
    """The steps for a rule, its role and its targets; what lets it send comes first."""
    return await _Rule(client, arns, declared, apply=apply).steps()


class _Rule:
    """A declared rule, beside what there is."""

    def __init__(self, client: ServiceClient, arns: Arns, declared: RuleSpec, *, apply: bool) -> None:
        self._client, self._arns, self._declared, self._apply = client, arns, declared, apply
        self._name = f"{declared.bus} > {declared.name}"
        self._arn = arns.rule(declared.bus, declared.name)
        self._own_role = role_arn(arns, role_name(self._arn))
        self._wanted = {
            "EventPattern": declared.event_pattern.text,
            "State": "ENABLED" if declared.enabled else "DISABLED",
        }

    async def steps(self) -> Sequence[Step]:
        targets = [
            _Target(each, await target_arn(self._client, self._arns, each))
            for each in self._declared.resolved_targets()
        ]
        found = await self._find()
        there = await self._found_targets() if found is not None else {}
        changes = await self._allow(targets)
        role = await self._provision_role([each for each in targets if self._role(each, there) == self._own_role])
        settings = {} if found is None else differences(self._wanted, found)
        if self._apply and (found is None or settings):
            await self._call("PutRule", Name=self._declared.name, **self._wanted)
        rule = self._step(None if found is None else changes | settings)
        return [*role, rule, *[await self._target(each, there) for each in targets]]

    def _step(self, changes: Changes | None) -> Step:
        if changes is None:
            return Step("create", "rule", self._name)
        return Step("change" if changes else "same", "rule", self._name, describe_changes(changes))

    async def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        bus = self._declared.bus
        return await self._client.call("events", operation, channel=bus, EventBusName=bus, **parameters)

    async def _find(self) -> Mapping[str, str] | None:
        try:
            found = await self._call("DescribeRule", Name=self._declared.name)
        except ChannelNotFound:
            return None
        return {key: found.get(key) or "" for key in self._wanted}

    async def _found_targets(self) -> Mapping[str, Mapping[str, Any]]:
        found = _targets(self._client, self._declared.bus, self._declared.name)
        return {each["Id"]: each async for each in found}

    async def _allow(self, targets: Sequence[_Target]) -> Changes:
        """Have the policies of queues, topics and functions let the rule send; those of other accounts stay."""
        receivers = [arn for each, arn in targets if arn is not None and not needs_role(self._arns, each)]
        dead_letters = (each.dead_letters for each, _ in targets if each.dead_letters is not None)
        receivers += [self._arns.of("queue", each) for each in dead_letters]
        changes: Changes = {}
        for receiver in dict.fromkeys(receivers):
            if receiver.split(":")[4] == self._arns.account:
                changes |= await allow_sending(self._client, receiver, self._arn, service=_SERVICE, apply=self._apply)
        return changes

    def _role(self, target: _Target, there: Mapping[str, Mapping[str, Any]]) -> str | None:
        """The role of a target: the declared one, the one that is there, or the rule's own; None: it needs none."""
        declared = target.declared
        if declared.role is not None or not needs_role(self._arns, declared):
            return declared.role
        return there.get(declared.id, {}).get("RoleArn") or self._own_role

    async def _provision_role(self, targets: Sequence[_Target]) -> Sequence[Step]:
        """The step for the rule's own role, which may send to these targets."""
        if not targets:
            return []
        receivers = [arn or self._arns.resource("events", f"api-destination/{each.name}/*") for each, arn in targets]
        step = await provision_role(
            self._client,
            self._own_role.rpartition("/")[2],
            trusts=trust(_SERVICE, self._arn, self._arns.account),
            may=permissions(list(dict.fromkeys(receivers))),
            apply=self._apply,
        )
        return [step]

    async def _target(self, target: _Target, there: Mapping[str, Mapping[str, Any]]) -> Step:
        name, found = f"{self._name} > {target.declared.id}", there.get(target.declared.id)
        wanted = parameters(self._arns, target.declared, arn=target.arn or "", role=self._role(target, there))
        if found == wanted:
            return Step("same", "target", name)
        if self._apply:
            _raise_refused(await self._call("PutTargets", Rule=self._declared.name, Targets=[wanted]))
        if found is None:
            return Step("create", "target", name)
        keys = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
        changes = {key: (_text(found.get(key)), _text(wanted.get(key))) for key in keys}
        return Step("change", "target", name, describe_changes(changes))


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, sort_keys=True)


async def undeclared_rules(
    client: ServiceClient, arns: Arns, declared: BusSpec, names: frozenset[str], *, delete: bool
) -> Iterable[Step]:
    """The steps for rules and targets that are not declared; rules that a service manages are left alone."""
    try:
        rules = [each["Name"] async for each in _rules(client, declared.name) if not each.get("ManagedBy")]
    except ChannelNotFound:
        return ()
    return [
        step for rule in rules for step in await _undeclared(client, arns, (declared.name, rule), names, delete=delete)
    ]


async def _undeclared(
    client: ServiceClient, arns: Arns, found: tuple[str, str], names: frozenset[str], *, delete: bool
) -> Sequence[Step]:
    """The steps for one rule: for all of it where it is not declared, otherwise for its undeclared targets."""
    bus, rule = found
    action: Action = "delete" if delete else "drift"
    targets = [each async for each in _targets(client, bus, rule)]
    extra = [each for each in targets if rule not in names or f"{rule} > {each['Id']}" not in names]
    of_rule: dict[str, Any] = {"channel": bus, "EventBusName": bus}
    if delete and extra:
        ids = [each["Id"] for each in extra]
        _raise_refused(await client.call("events", "RemoveTargets", Rule=rule, Ids=ids, **of_rule))
    steps = [Step(action, "target", f"{bus} > {rule} > {each['Id']}") for each in extra if rule in names]
    if rule not in names:
        if delete:
            await client.call("events", "DeleteRule", Name=rule, **of_rule)
        steps.append(Step(action, "rule", f"{bus} > {rule}"))
    role = role_name(arns.rule(bus, rule))
    if _is_unused(role, targets, extra):
        if delete:
            await delete_role(client, role)
        steps.append(Step(action, "role", role))
    return steps


def _is_unused(role: str, targets: Sequence[Mapping[str, Any]], extra: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the rule's own role is there for undeclared targets only."""
    using = [each for each in targets if is_made(each.get("RoleArn", "")) and each["RoleArn"].endswith(f"/{role}")]
    return bool(using) and all(each in extra for each in using)


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
