"""Names and policies of the roles that a service assumes: who may assume them, and what exactly they may do."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from eip.transports.aws.arns import Arns

__all__ = ["ROLE_PATH", "is_made", "permissions", "role_arn", "role_name", "trust"]

ROLE_PATH: Final = "/eip/"
"""Of the names of all roles that are made here."""

_ACTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "sqs": ("sqs:SendMessage",),
    "sns": ("sns:Publish",),
    "kinesis": ("kinesis:PutRecord", "kinesis:PutRecords"),
    "firehose": ("firehose:PutRecord", "firehose:PutRecordBatch"),
    "firehose from sns": (
        "firehose:DescribeDeliveryStream",
        "firehose:ListTagsForDeliveryStream",
        "firehose:PutRecord",
        "firehose:PutRecordBatch",
    ),
    "states": ("states:StartExecution",),
    "lambda": ("lambda:InvokeFunction",),
    "events": ("events:PutEvents",),
    "execute": ("events:InvokeApiDestination",),
}
"""By the service of an ARN, what sending to it takes (EventBridge User Guide, "Using IAM roles"; SNS likewise)."""


def role_name(source: str) -> str:
    """The name of the role for what has this ARN: unique in the account, although a role has no region.

    Args:
        source: ARN of the rule, subscription or schedule that uses it.
    """
    name = re.sub(r"[^A-Za-z0-9_+=,.@-]", "-", source.rpartition(":")[2])
    return f"eip-{name[:46]}-{hashlib.sha256(source.encode()).hexdigest()[:12]}"


def role_arn(arns: Arns, name: str) -> str:
    """The ARN that the role of that name has, or will have."""
    return f"arn:{arns.partition}:iam::{arns.account}:role{ROLE_PATH}{name}"


def is_made(arn: str) -> bool:
    """Whether a role is one of those that are made here."""
    return f":role{ROLE_PATH}eip-" in arn


def permissions(receivers: Sequence[Any]) -> list[dict[str, Any]]:
    """The statements that let a role send to these; sorted, so that their order never counts as a difference.

    Args:
        receivers: ARNs, or pairs of a key of `_ACTIONS` and an ARN, or what makes it in a template.
    """
    by_service: dict[str, list[Any]] = {}
    for each in receivers:
        service, arn = each if isinstance(each, tuple) else (_service(each), each)
        by_service.setdefault(service, []).append(arn)
    made = []
    for service, found in sorted(by_service.items()):
        resources = sorted(found, key=str)
        made.append(
            {"Effect": "Allow", "Action": list(_ACTIONS[service]), "Resource": [_resource(each) for each in resources]}
        )
    return made


def _service(arn: str) -> str:
    service = arn.split(":")[2]
    return "execute" if ":api-destination/" in arn else service


def _resource(arn: Any) -> Any:
    """An API destination's ARN ends in an id that changes when it is made again."""
    return re.sub(r"(:api-destination/[^/]+)/.*", r"\1/*", arn) if isinstance(arn, str) else arn


def trust(service: str, source: Any = None, account: Any = None) -> dict[str, Any]:
    """The policy that lets the service assume the role, for one source alone ("confused deputy").

    Args:
        service: the principal, e.g. ``events.amazonaws.com``.
        source: its ARN; None: the service gives none when it assumes a role (SNS).
        account: its account's number.
    """
    statement: dict[str, Any] = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    if source is not None:
        condition = {"ArnLike": {"aws:SourceArn": source}, "StringEquals": {"aws:SourceAccount": account}}
        statement["Condition"] = condition
    return {"Version": "2012-10-17", "Statement": [statement]}
