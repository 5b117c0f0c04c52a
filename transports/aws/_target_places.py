"""Targets of rules: where each kind is, and what only that kind has; for provisioning and for templates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from eip.topology import TargetSpec

__all__ = ["PLACES", "WITH_POLICY", "of_kind"]

WITH_POLICY: Final = ("queue", "topic", "function")
"""Kinds of targets of the own account whose own policy lets a rule send; others have a role."""
PLACES: Final = {
    "function": ("lambda", "function:"),
    "state_machine": ("states", "stateMachine:"),
    "firehose": ("firehose", "deliverystream/"),
}
"""Resources that are not channels: their service, and the part of the ARN before the name."""


def of_kind(target: TargetSpec) -> dict[str, Any]:
    """What only one kind of target has."""
    made: dict[str, Any] = {}
    if target.group_id is not None:
        made["SqsParameters"] = {"MessageGroupId": target.group_id}
    if target.partition_key is not None:
        made["KinesisParameters"] = {"PartitionKeyPath": target.partition_key}
    http = dict(_http(target))
    return made | ({"HttpParameters": http} if http else {})


def _http(target: TargetSpec) -> Iterable[tuple[str, Any]]:
    if target.path_values:
        yield "PathParameterValues", list(target.path_values)
    if target.headers:
        yield "HeaderParameters", dict(target.headers)
    if target.query:
        yield "QueryStringParameters", dict(target.query)
