"""Makes topics and subscriptions, and compares them with what there is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final

from eip.errors import ChannelNotFound
from eip.matching.pushdown import push_down
from eip.topology import Step, SubscriptionSpec, TopicSpec
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws._provisioning import allow_sending, describe_changes, differences
from eip.transports.aws.arns import Arns
from eip.transports.aws.sns._subscriptions import list_subscriptions

__all__ = ["provision_subscription", "provision_topic", "undeclared_subscriptions"]

_BY_CONTENT: Final = "ContentBasedDeduplication"
_SERVICE: Final = "sns.amazonaws.com"


async def provision_topic(client: ServiceClient, arns: Arns, topic: TopicSpec, *, apply: bool) -> Step:
    """The step for a topic."""
    arn, wanted = arns.of("topic", topic.name), {}
    if topic.name.endswith(".fifo"):
        wanted[_BY_CONTENT] = str(topic.content_based_deduplication).lower()
    try:
        found = await client.call("sns", "GetTopicAttributes", TopicArn=arn)
    except ChannelNotFound:
        if apply:
            given = {"FifoTopic": "true", **wanted} if wanted else {}
            await client.call("sns", "CreateTopic", channel=topic.name, Name=topic.name, Attributes=given)
        return Step("create", "topic", topic.name)
    changes = differences(wanted, found.get("Attributes", {}))
    if not changes:
        return Step("same", "topic", topic.name)
    if apply:
        for name in changes:
            await client.call(
                "sns", "SetTopicAttributes", TopicArn=arn, AttributeName=name, AttributeValue=wanted[name]
            )
    return Step("change", "topic", topic.name, describe_changes(changes))


async def provision_subscription(
    client: ServiceClient, arns: Arns, subscription: SubscriptionSpec, *, apply: bool
) -> Step:
    """The step for a subscription; the policies that let its topic send come first."""
    topic, queue = arns.of("topic", subscription.topic), arns.of("queue", subscription.target.name)
    wanted = {"RawMessageDelivery": str(subscription.raw).lower(), "FilterPolicy": "", "RedrivePolicy": ""}
    if subscription.filter is not None:
        pushed = push_down(subscription.filter, "sns")
        if pushed.pushed is not None:
            wanted |= {"FilterPolicy": pushed.pushed, "FilterPolicyScope": pushed.scope or "MessageAttributes"}
    receivers = [queue]
    if subscription.undelivered_name is not None:
        receivers.append(arns.of("queue", subscription.undelivered_name))
        wanted["RedrivePolicy"] = json.dumps({"deadLetterTargetArn": receivers[1]})
    name = f"{subscription.topic} > {subscription.name}"
    existing = (await list_subscriptions(client, topic)).get(queue)
    if apply:
        for receiver in receivers:
            await allow_sending(client, receiver, topic, service=_SERVICE)
    if existing is None:
        if apply:
            given = {key: value for key, value in wanted.items() if value}
            await client.call("sns", "Subscribe", TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes=given)
        return Step("create", "subscription", name)
    found = await client.call("sns", "GetSubscriptionAttributes", SubscriptionArn=existing)
    changes = differences(wanted, found.get("Attributes", {}))
    if not changes:
        return Step("same", "subscription", name)
    if apply:
        await _change_subscription(client, existing, {key: wanted[key] for key in changes})
    return Step("change", "subscription", name, describe_changes(changes))


async def _change_subscription(client: ServiceClient, arn: str, changed: Mapping[str, str]) -> None:
    """Set the attributes; the scope before the policy that is written for it."""
    for key in sorted(changed, key=lambda key: key != "FilterPolicyScope"):
        value = changed[key] or ("{}" if key == "FilterPolicy" else "")
        await client.call(
            "sns", "SetSubscriptionAttributes", SubscriptionArn=arn, AttributeName=key, AttributeValue=value
        )


async def undeclared_subscriptions(
    client: ServiceClient, arns: Arns, topic: TopicSpec, declared: frozenset[str], *, delete: bool
) -> Iterable[Step]:
    """The steps for subscriptions of a topic that are not declared."""
    try:
        found = await list_subscriptions(client, arns.of("topic", topic.name))
    except ChannelNotFound:
        return ()
    steps = []
    for endpoint, arn in found.items():
        if endpoint.rpartition(":")[2] in declared:
            continue
        if delete:
            await client.call("sns", "Unsubscribe", SubscriptionArn=arn)
        steps.append(Step("delete" if delete else "drift", "subscription", f"{topic.name} > {endpoint}"))
    return steps
