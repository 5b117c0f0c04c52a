"""Buses, rules, archives, connections and API destinations of a template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from eip.topology import ArchiveSpec, BusSpec, RuleSpec, TargetSpec
from eip.transports.aws._role_policies import trust
from eip.transports.aws._target_places import PLACES, WITH_POLICY, of_kind
from eip.transports.aws._template import ACCOUNT, PARTITION, Template, arn, tags
from eip.transports.aws.api_destinations import ApiDestinationSpec, ConnectionSpec
from eip.transports.aws.bus_options import EventBridgeOptions
from eip.transports.aws.options import option_of

__all__ = ["add_api_destination", "add_archive", "add_bus", "add_connection", "add_rule", "target_receiver"]

_SERVICE: Final = "events.amazonaws.com"
_ROLE_SERVICES: Final = {
    "queue": "sqs",
    "topic": "sns",
    "bus": "events",
    "stream": "kinesis",
    "function": "lambda",
    "state_machine": "states",
    "firehose": "firehose",
    "api_destination": "execute",
}


def add_bus(made: Template, bus: BusSpec) -> None:
    """Add the bus, unless it is the default one, and its policy."""
    options = option_of(bus.options, EventBridgeOptions) or EventBridgeOptions()
    properties: dict[str, Any] = {
        "Name": bus.name,
        "Description": options.description,
        "KmsKeyIdentifier": options.encryption or None,
        "LogConfig": options.log_config,
        "EventSourceName": bus.event_source,
        **tags(bus.tags),
    }
    if bus.undelivered_name is not None:
        properties["DeadLetterConfig"] = {"Arn": made.arn("Queue", bus.undelivered_name)}
        made.let_in("Queue", bus.undelivered_name, "events", made.arn("Bus", bus.name))
    if bus.name != "default":
        given = {name: value for name, value in properties.items() if value is not None}
        made.put("Bus", bus.name, "AWS::Events::EventBus", given)
    for access in options.access:
        statement = access.statement(made.arn("Bus", bus.name), PARTITION)
        policy = {"EventBusName": bus_name(made, bus.name), "StatementId": statement.pop("Sid"), "Statement": statement}
        made.put("BusPolicy", f"{bus.name}-{access.name}", "AWS::Events::EventBusPolicy", policy)


def bus_name(made: Template, name: str) -> Any:
    """What names a bus in a template."""
    return "default" if name == "default" else {"Ref": made.id("Bus", name)}


def add_rule(made: Template, rule: RuleSpec) -> None:
    """Add the rule with its targets, what lets it send, and a role where its targets need one."""
    name = f"{rule.bus}-{rule.name}"
    source = made.arn("Rule", name)
    targets = rule.resolved_targets()
    role = _add_role(made, rule, [each for each in targets if _needs_role(each)])
    made.put(
        "Rule",
        name,
        "AWS::Events::Rule",
        {
            "Name": rule.name,
            "EventBusName": bus_name(made, rule.bus),
            "EventPattern": json.loads(rule.event_pattern.text),
            "State": "ENABLED" if rule.enabled else "DISABLED",
            "Targets": [_target(made, each, role if _needs_role(each) else None) for each in targets],
        },
    )
    for target in targets:
        if target.kind in ("queue", "topic"):
            made.let_in(target.kind.capitalize(), target.name, "events", source)
        elif target.kind == "function" and not target.name.startswith("arn:"):
            made.let_invoke(f"{name}-{target.name}", _arn(made, target), "events", source)
        if target.dead_letters is not None:
            made.let_in("Queue", target.dead_letters, "events", source)


def _needs_role(target: TargetSpec) -> bool:
    """Whether the rule's own role is for it; an ARN may be another account's, as far as a template knows."""
    return target.role is None and (target.kind not in WITH_POLICY or target.name.startswith("arn:"))


def _add_role(made: Template, rule: RuleSpec, targets: Sequence[TargetSpec]) -> Any:
    if not targets:
        return None
    # By its name: the rule refers to the role already.
    path = rule.name if rule.bus == "default" else f"{rule.bus}/{rule.name}"
    trusts = trust(_SERVICE, arn("events", f"rule/{path}"), ACCOUNT)
    receivers = [target_receiver(made, each) for each in targets]
    return made.role(f"{rule.bus}-{rule.name}", trusts, receivers)


def target_receiver(made: Template, target: TargetSpec) -> tuple[str, Any]:
    """A target as `permissions` takes it."""
    return _ROLE_SERVICES[target.kind], _arn(made, target)


def _arn(made: Template, target: TargetSpec) -> Any:
    if target.name.startswith("arn:"):
        return target.name
    if target.kind == "function" and target.name in made.functions:
        return made.arn("Function", target.name)
    if target.kind in PLACES:
        service, prefix = PLACES[target.kind]
        return arn(service, f"{prefix}{target.name}")
    return made.arn("ApiDestination" if target.kind == "api_destination" else target.kind.capitalize(), target.name)


def _target(made: Template, target: TargetSpec, role: Any) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "Id": target.id,
        "Arn": _arn(made, target),
        "RetryPolicy": {
            "MaximumRetryAttempts": target.max_attempts,
            "MaximumEventAgeInSeconds": round(target.max_age.total_seconds()),
        },
        "RoleArn": target.role or role,
        "Input": target.input,
        "InputPath": target.input_path,
        **of_kind(target),
    }
    if target.dead_letters is not None:
        properties["DeadLetterConfig"] = {"Arn": made.arn("Queue", target.dead_letters)}
    if target.template is not None:
        properties["InputTransformer"] = {
            "InputPathsMap": dict(target.input_paths),
            "InputTemplate": target.template,
        }
    return {name: value for name, value in properties.items() if value is not None}


def add_archive(made: Template, archive: ArchiveSpec, kept: Mapping[str, str]) -> None:
    """Add the archive; ``kept``: what lets it outlive the stack."""
    properties: dict[str, Any] = {
        "ArchiveName": archive.name,
        "SourceArn": made.arn("Bus", archive.bus),
        "RetentionDays": archive.retention_days,
    }
    if archive.pattern is not None:
        properties["EventPattern"] = json.loads(archive.pattern.text)
    if archive.description:
        properties["Description"] = archive.description
    made.put("Archive", archive.name, "AWS::Events::Archive", properties, **kept)


def add_connection(made: Template, connection: ConnectionSpec) -> None:
    """Add the connection; its secret is a parameter of the stack, which shows it to nobody."""
    parameter = made.id("Secret", connection.name)
    made.parameters[parameter] = {
        "Type": "String",
        "NoEcho": True,
        "Description": f"Secret of the connection {connection.name}",
    }
    properties: dict[str, Any] = {
        "Name": connection.name,
        "AuthorizationType": connection.type,
        "AuthParameters": connection.parameters({"Ref": parameter}),
        "Description": connection.revision or None,
        "KmsKeyIdentifier": connection.encryption,
    }
    given = {name: value for name, value in properties.items() if value is not None}
    made.put("Connection", connection.name, "AWS::Events::Connection", given)


def add_api_destination(made: Template, destination: ApiDestinationSpec) -> None:
    """Add the API destination."""
    made.put(
        "ApiDestination",
        destination.name,
        "AWS::Events::ApiDestination",
        {
            "Name": destination.name,
            "ConnectionArn": made.arn("Connection", destination.connection),
            "InvocationEndpoint": destination.url,
            "HttpMethod": destination.method,
            "InvocationRateLimitPerSecond": destination.max_rate,
        },
    )
