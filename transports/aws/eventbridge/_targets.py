"""Targets of rules as EventBridge has them: ARNs, parameters, and whether a policy or a role lets the rule send."""

from __future__ import annotations

from typing import Any

from eip.errors import ChannelNotFound
from eip.topology import TargetSpec
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws._target_places import PLACES, WITH_POLICY, of_kind
from eip.transports.aws.arns import Arns

__all__ = ["needs_role", "parameters", "target_arn"]


async def target_arn(client: ServiceClient, arns: Arns, target: TargetSpec) -> str | None:
    """The ARN of a target; None for an API destination that is not made yet."""
    name = target.name
    if name.startswith("arn:"):
        return name
    match target.kind:
        case "api_destination":
            try:
                found = await client.call("events", "DescribeApiDestination", Name=name)
            except ChannelNotFound:
                return None
            return str(found["ApiDestinationArn"])
        case "queue" | "topic" | "bus" | "stream":
            return arns.of(target.kind, name)
        case _:
            service, prefix = PLACES[target.kind]
            return arns.resource(service, f"{prefix}{name}")


def needs_role(arns: Arns, target: TargetSpec) -> bool:
    """Whether EventBridge assumes a role to send to it.

    Queues, topics and functions of other accounts need one beside their policy ("Sending events to an AWS service in
    another account", User Guide).
    """
    foreign = target.name.startswith("arn:") and target.name.split(":")[4] != arns.account
    return foreign or target.kind not in WITH_POLICY


def parameters(arns: Arns, target: TargetSpec, *, arn: str, role: str | None) -> dict[str, Any]:
    """The target as PutTargets takes it."""
    made: dict[str, Any] = {
        "Id": target.id,
        "Arn": arn,
        "RetryPolicy": {
            "MaximumRetryAttempts": target.max_attempts,
            "MaximumEventAgeInSeconds": round(target.max_age.total_seconds()),
        },
        "RoleArn": role,
        "Input": target.input,
        "InputPath": target.input_path,
    }
    if target.dead_letters is not None:
        made["DeadLetterConfig"] = {"Arn": arns.of("queue", target.dead_letters)}
    if target.template is not None:
        made["InputTransformer"] = {"InputPathsMap": dict(target.input_paths), "InputTemplate": target.template}
    return {name: value for name, value in (made | of_kind(target)).items() if value is not None}
