"""What provisioning of all services shares: comparing settings, and policies that let one source send."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from eip.transports.aws._client.service_client import ServiceClient

__all__ = ["Changes", "allow_sending", "describe_changes", "differences", "queue_url", "tagged"]


async def queue_url(client: ServiceClient, arn: str) -> str:
    """The URL of a queue; raises `ChannelNotFound`."""
    account, name = arn.split(":")[4:6]
    answer = await client.call("sqs", "GetQueueUrl", channel=name, QueueName=name, QueueOwnerAWSAccountId=account)
    return str(answer["QueueUrl"])


async def allow_sending(client: ServiceClient, receiver: str, source: str, *, service: str) -> None:
    """Have the policy of a queue or topic let this topic or rule send to it; its other statements stay.

    Args:
        client: makes the calls.
        receiver: ARN of the queue or topic.
        source: ARN of the topic or rule, the condition.
        service: the principal, e.g. ``sns.amazonaws.com``.
    """
    policy = await _policy(client, receiver)
    statement = {
        "Sid": _statement_id(source),
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": "sqs:SendMessage" if ":sqs:" in receiver else "sns:Publish",
        "Resource": receiver,
        "Condition": {"ArnEquals": {"aws:SourceArn": source}},
    }
    statements = policy["Statement"] if isinstance(policy["Statement"], list) else [policy["Statement"]]
    if statement in statements:
        return
    policy["Statement"] = [*(each for each in statements if each.get("Sid") != statement["Sid"]), statement]
    await _set_policy(client, receiver, json.dumps(policy))


async def _policy(client: ServiceClient, receiver: str) -> dict[str, Any]:
    if ":sqs:" in receiver:
        url = await queue_url(client, receiver)
        found = await client.call("sqs", "GetQueueAttributes", QueueUrl=url, AttributeNames=["Policy"])
    else:
        found = await client.call("sns", "GetTopicAttributes", TopicArn=receiver)
    text = found.get("Attributes", {}).get("Policy") or '{"Version": "2012-10-17", "Statement": []}'
    policy: dict[str, Any] = json.loads(text)
    return policy


async def _set_policy(client: ServiceClient, receiver: str, policy: str) -> None:
    if ":sqs:" in receiver:
        url = await queue_url(client, receiver)
        await client.call("sqs", "SetQueueAttributes", QueueUrl=url, Attributes={"Policy": policy})
    else:
        given: dict[str, Any] = {"AttributeName": "Policy", "AttributeValue": policy}
        await client.call("sns", "SetTopicAttributes", TopicArn=receiver, **given)


def _statement_id(source: str) -> str:
    """The source's name; for a rule, whose name has parts, with a hash that tells two apart."""
    name = source.rpartition(":")[2]
    plain = re.sub(r"[^A-Za-z0-9_-]", "-", name)
    return f"eip-{plain}" if "/" not in name else f"eip-{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


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


def tagged(changes: Changes) -> Changes:
    """Changes of tags, under names that tell them from those of settings."""
    return {f"tag {name}": pair for name, pair in changes.items()}


def describe_changes(changes: Mapping[str, tuple[str, str]]) -> str:
    """For people: each setting, its value now and the wanted one."""
    return ", ".join(f"{name}: {before or 'none'} -> {after or 'none'}" for name, (before, after) in changes.items())
