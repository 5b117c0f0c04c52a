"""What provisioning of all services shares: comparing settings, and changes for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from eip.transports.aws._client.service_client import ServiceClient

__all__ = ["Changes", "changed_tags", "describe_changes", "differences", "queue_url", "tag_list"]


async def queue_url(client: ServiceClient, arn: str) -> str:
    """The URL of a queue; raises `ChannelNotFound`."""
    account, name = arn.split(":")[4:6]
    answer = await client.call("sqs", "GetQueueUrl", channel=name, QueueName=name, QueueOwnerAWSAccountId=account)
    return str(answer["QueueUrl"])


Changes: TypeAlias = dict[str, tuple[str, str]]
"""For each setting that differs, its value now and the wanted one."""


def differences(wanted: Mapping[str, str], found: Mapping[str, str]) -> Changes:
    """For each setting that differs, its value now and the wanted one."""
    pairs = {name: (found.get(name, ""), value) for name, value in wanted.items()}
    return {name: pair for name, pair in pairs.items() if _comparable(pair[0]) != _comparable(pair[1])}


def _comparable(value: str) -> Any:
    """JSON as its value, so that spacing and order do not count; an empty object equals no value."""
    try:
        parsed = json.loads(value)
    except ValueError:
        return value
    if isinstance(parsed, dict):
        return {key: str(each) if not isinstance(each, (dict, list)) else each for key, each in parsed.items()} or ""
    return str(parsed)


async def changed_tags(
    client: ServiceClient, tags: Mapping[str, str], service: str, operation: str, **parameters: Any
) -> Changes:
    """The declared tags that differ, under names that tell them from settings; nothing is asked where none are.

    Args:
        client: makes the call.
        tags: as declared; other tags stay.
        service: that lists the tags.
        operation: of the call that does.
        parameters: of the call.
    """
    if not tags:
        return {}
    found = (await client.call(service, operation, **parameters)).get("Tags") or {}
    there = found if isinstance(found, Mapping) else {each["Key"]: each.get("Value", "") for each in found}
    return {f"tag {name}": pair for name, pair in differences(tags, there).items()}


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as most services take them."""
    return [{"Key": name, "Value": value} for name, value in tags.items()]


def describe_changes(changes: Mapping[str, tuple[str, str]]) -> str:
    """For people: each setting, its value now and the wanted one."""
    return ", ".join(f"{name}: {before or 'none'} -> {after or 'none'}" for name, (before, after) in changes.items())
