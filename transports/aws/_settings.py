"""What provisioning shares: how settings differ, and policies that let one sender in."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eip.transports.aws.transport import AwsTransport

__all__ = ["differences", "let_send", "said"]


async def let_send(aws: AwsTransport, receiver: str, source: str, *, service: str = "sns.amazonaws.com") -> None:
    """Have the policy of a queue or topic let exactly this topic or rule send to it; what else it says stays.

    Args:
        aws: makes the calls.
        receiver: ARN of the queue or topic.
        source: ARN of the topic or rule, the condition.
        service: whose the source is.
    """
    policy = await _policy(aws, receiver)
    statement = {
        "Sid": _sid(source),
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
    await _set_policy(aws, receiver, json.dumps(policy))


async def _policy(aws: AwsTransport, receiver: str) -> dict[str, Any]:
    if ":sqs:" in receiver:
        url = await aws.queue(receiver).url()
        found = await aws.call("sqs", "GetQueueAttributes", QueueUrl=url, AttributeNames=["Policy"])
    else:
        found = await aws.call("sns", "GetTopicAttributes", TopicArn=receiver)
    text = found.get("Attributes", {}).get("Policy") or '{"Version": "2012-10-17", "Statement": []}'
    policy: dict[str, Any] = json.loads(text)
    return policy


async def _set_policy(aws: AwsTransport, receiver: str, policy: str) -> None:
    if ":sqs:" in receiver:
        url = await aws.queue(receiver).url()
        await aws.call("sqs", "SetQueueAttributes", QueueUrl=url, Attributes={"Policy": policy})
    else:
        given = {"AttributeName": "Policy", "AttributeValue": policy}
        await aws.call("sns", "SetTopicAttributes", TopicArn=receiver, **given)


def _sid(source: str) -> str:
    """The statement's id: the source's name; of a rule, whose name has parts, with a hash that keeps two apart."""
    name = source.rpartition(":")[2]
    made = re.sub(r"[^A-Za-z0-9_-]", "-", name)
    return f"eip-{made}" if "/" not in name else f"eip-{made}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def differences(wanted: Mapping[str, str], found: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """By setting, what it is and what it is to be."""
    pairs = {name: (found.get(name, ""), value) for name, value in wanted.items()}
    return {name: pair for name, pair in pairs.items() if _plain(pair[0]) != _plain(pair[1])}


def _plain(value: str) -> Any:
    """JSON as its value, so that spacing and order do not count; none and an empty object are the same."""
    try:
        parsed = json.loads(value)
    except ValueError:
        return value
    if isinstance(parsed, dict):
        return {key: str(each) if not isinstance(each, (dict, list)) else each for key, each in parsed.items()} or ""
    return str(parsed)


def said(changes: Mapping[str, tuple[str, str]]) -> str:
    """For people: each setting, what it is and what it becomes."""
    return ", ".join(f"{name}: {before or 'none'} -> {after or 'none'}" for name, (before, after) in changes.items())
