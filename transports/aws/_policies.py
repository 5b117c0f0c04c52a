"""Policies of queues, topics and functions that let one source send to them; for provisioning."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from eip.errors import ChannelNotFound, Conflict
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws._provisioning import Changes, queue_url

__all__ = ["allow_sending", "statement_id", "statements", "with_statement"]


async def allow_sending(client: ServiceClient, receiver: str, source: str, *, service: str, apply: bool) -> Changes:
    """Have the policy of a queue, topic or function let this source send to it; its other statements stay.

    Args:
        client: makes the calls.
        receiver: ARN of the queue, topic or function.
        source: ARN of the topic, rule or bus: the condition.
        service: the principal, e.g. ``sns.amazonaws.com``.
        apply: whether to change the policy; otherwise it is only compared.

    Returns:
        What differs: nothing, or the statement that is missing.
    """
    wanted = _statement(receiver, source, service)
    try:
        policy = await _policy(client, receiver)
    except ChannelNotFound:
        if apply:
            raise
        policy = {}
    found = next((each for each in statements(policy) if each.get("Sid") == wanted["Sid"]), None)
    if found is not None and _meaning(found) == _meaning(wanted):
        return {}
    if apply:
        await _set(client, receiver, wanted, policy, replaces=found is not None)
    named = receiver.rpartition(":")[2]
    before = "none" if found is None else "another statement"
    return {f"policy of {named}": (before, f"{service.partition('.')[0]} may send from {source.rpartition(':')[2]}")}


def statement_id(source: str) -> str:
    """The source's name; for a rule, whose name has parts, with a hash that tells two apart."""
    name = source.rpartition(":")[2]
    plain = re.sub(r"[^A-Za-z0-9_-]", "-", name)
    if "/" not in name and len(plain) <= 90:
        return f"eip-{plain}"
    return f"eip-{plain[:80]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def with_statement(policy: Mapping[str, Any], statement: Mapping[str, Any]) -> str:
    """The policy as JSON, with this statement in place of the one of its Sid."""
    others = [each for each in statements(policy) if each.get("Sid") != statement["Sid"]]
    return json.dumps({"Version": "2012-10-17", **policy, "Statement": [*others, statement]})


def _statement(receiver: str, source: str, service: str) -> dict[str, Any]:
    action = {"sqs": "sqs:SendMessage", "sns": "sns:Publish", "lambda": "lambda:InvokeFunction"}
    condition: dict[str, Any] = {"ArnEquals" if ":lambda:" not in receiver else "ArnLike": {"aws:SourceArn": source}}
    return {
        "Sid": statement_id(source),
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": action[receiver.split(":")[2]],
        "Resource": receiver,
        "Condition": condition,
    }


def _meaning(statement: Mapping[str, Any]) -> tuple[Any, ...]:
    """What counts in a comparison: services write the same statement in several forms."""
    conditions = {key.lower(): value for each in statement.get("Condition", {}).values() for key, value in each.items()}
    return statement.get("Effect"), statement.get("Principal"), statement.get("Action"), conditions


def statements(policy: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The statements of a policy: a list, or a single one outside of a list."""
    found = policy.get("Statement") or []
    return found if isinstance(found, list) else [found]


async def _policy(client: ServiceClient, receiver: str) -> dict[str, Any]:
    text: str | None
    match receiver.split(":")[2]:
        case "sqs":
            url = await queue_url(client, receiver)
            found = await client.call("sqs", "GetQueueAttributes", QueueUrl=url, AttributeNames=["Policy"])
            text = found.get("Attributes", {}).get("Policy")
        case "sns":
            found = await client.call("sns", "GetTopicAttributes", TopicArn=receiver)
            text = found.get("Attributes", {}).get("Policy")
        case _:
            try:
                text = (await client.call("lambda", "GetPolicy", **_function(receiver)))["Policy"]
            except ChannelNotFound:  # of the function or of its policy: a call that adds to it finds out
                text = None
    policy: dict[str, Any] = json.loads(text or "{}")
    return policy


async def _set(
    client: ServiceClient, receiver: str, wanted: Mapping[str, Any], policy: Mapping[str, Any], *, replaces: bool
) -> None:
    match receiver.split(":")[2]:
        case "sqs":
            url = await queue_url(client, receiver)
            attributes = {"Policy": with_statement(policy, wanted)}
            await client.call("sqs", "SetQueueAttributes", QueueUrl=url, Attributes=attributes)
        case "sns":
            given: dict[str, Any] = {"AttributeName": "Policy", "AttributeValue": with_statement(policy, wanted)}
            await client.call("sns", "SetTopicAttributes", TopicArn=receiver, **given)
        case _:
            await _permit(client, receiver, wanted, replaces=replaces)


async def _permit(client: ServiceClient, function: str, wanted: Mapping[str, Any], *, replaces: bool) -> None:
    """Add a statement to a function's policy; Lambda has calls for one statement each."""
    sid = {"StatementId": wanted["Sid"]}
    if replaces:
        await client.call("lambda", "RemovePermission", **_function(function), **sid)
    given: dict[str, Any] = {
        "Action": wanted["Action"],
        "Principal": wanted["Principal"]["Service"],
        "SourceArn": wanted["Condition"]["ArnLike"]["aws:SourceArn"],
    }
    try:
        await client.call("lambda", "AddPermission", **_function(function), **sid, **given)
    except Conflict:  # another process that applies the same was first, or the one before whose answer was lost
        return


def _function(arn: str) -> dict[str, Any]:
    """Name and qualifier of a function's ARN."""
    parts = arn.split(":")
    return {"FunctionName": ":".join(parts[:7]), **({"Qualifier": parts[7]} if len(parts) > 7 else {})}
