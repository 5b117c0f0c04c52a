"""Makes topics and subscriptions, and compares them with what there is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from eip.errors import ChannelNotFound, ConfigurationError
from eip.matching.pushdown import push_down
from eip.topology import Step, SubscriptionSpec, TopicSpec
from eip.topology.names import is_fifo
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws._policies import allow_sending
from eip.transports.aws._provisioning import Changes, changed_tags, describe_changes, differences, tag_list
from eip.transports.aws.arns import Arns
from eip.transports.aws.options import SnsOptions, option_of
from eip.transports.aws.sns._subscriptions import list_subscriptions

__all__ = ["provision_subscription", "provision_topic", "undeclared_subscriptions"]

_BY_CONTENT: Final = "ContentBasedDeduplication"
_SERVICE: Final = "sns.amazonaws.com"
_DEFAULTS: Final = {"FifoThroughputScope": "Topic", "SignatureVersion": "1", "TracingConfig": "PassThrough"} | {
    f"{endpoint}SuccessFeedbackSampleRate": "0" for endpoint in ("SQS", "HTTP", "Lambda", "Firehose", "Application")
}
"""What a topic has that was never set, and the service does not list."""
_SET_ONLY: Final = ("SignatureVersion",)
"""Attributes that CreateTopic does not take (API reference)."""


async def provision_topic(client: ServiceClient, arns: Arns, topic: TopicSpec, *, apply: bool) -> Step:
    """The step for a topic."""
    arn, wanted = arns.of("topic", topic.name), _topic_attributes(topic)
    try:
        found = await client.call("sns", "GetTopicAttributes", TopicArn=arn)
    except ChannelNotFound:
        if apply:
            await _create_topic(client, topic, {name: value for name, value in wanted.items() if value})
        return Step("create", "topic", topic.name)
    changes = differences(wanted, _DEFAULTS | found.get("Attributes", {}))
    tags = await changed_tags(client, topic.tags, "sns", "ListTagsForResource", ResourceArn=arn)
    if not changes and not tags:
        return Step("same", "topic", topic.name)
    if apply:
        for name in changes:
            await client.call(
                "sns", "SetTopicAttributes", TopicArn=arn, AttributeName=name, AttributeValue=wanted[name]
            )
        if tags:
            await client.call("sns", "TagResource", ResourceArn=arn, Tags=tag_list(topic.tags))
    return Step("change", "topic", topic.name, describe_changes(changes | tags))


async def _create_topic(client: ServiceClient, topic: TopicSpec, wanted: Mapping[str, str]) -> None:
    given = {"FifoTopic": "true", **wanted} if is_fifo(topic.name) else dict(wanted)
    more: dict[str, Any] = {"Tags": tag_list(topic.tags)} if topic.tags else {}
    later = {name: given.pop(name) for name in _SET_ONLY if name in given}
    made = await client.call("sns", "CreateTopic", channel=topic.name, Name=topic.name, Attributes=given, **more)
    for name, value in later.items():
        await client.call(
            "sns", "SetTopicAttributes", TopicArn=made["TopicArn"], AttributeName=name, AttributeValue=value
        )


def _topic_attributes(topic: TopicSpec) -> dict[str, str]:
    """The declared attributes as SNS has them; empty: none."""
    wanted: dict[str, str] = {}
    if is_fifo(topic.name):
        wanted[_BY_CONTENT] = str(topic.content_based_deduplication).lower()
        wanted["FifoThroughputScope"] = "MessageGroup" if topic.deduplication_scope == "group" else "Topic"
    options = option_of(topic.options, SnsOptions)
    return wanted if options is None else wanted | _of_options(topic, options)


def _of_options(topic: TopicSpec, options: SnsOptions) -> dict[str, str]:
    if options.archive is not None and not is_fifo(topic.name):
        raise ConfigurationError(f"topic {topic.name}: archive needs a FIFO topic, whose name ends in .fifo")
    if options.tracing and is_fifo(topic.name):
        raise ConfigurationError(f"topic {topic.name}: tracing needs a standard topic")
    wanted = {
        "KmsMasterKeyId": options.encryption,
        "SignatureVersion": None if options.signature_version is None else str(options.signature_version),
        "TracingConfig": None if options.tracing is None else ("PassThrough", "Active")[options.tracing],
    }
    if options.archive is not None:
        policy = json.dumps({"MessageRetentionPeriod": str(options.archive.days)})
        wanted["ArchivePolicy"] = policy if options.archive else ""
    for each in options.logging:
        wanted[f"{each.endpoint}FailureFeedbackRoleArn"] = each.role
        wanted[f"{each.endpoint}SuccessFeedbackRoleArn"] = each.role if each.success_rate else ""
        wanted[f"{each.endpoint}SuccessFeedbackSampleRate"] = str(each.success_rate)
    return {name: value for name, value in wanted.items() if value is not None}


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
    changes: Changes = {}
    for receiver in receivers:
        changes |= await allow_sending(client, receiver, topic, service=_SERVICE, apply=apply)
    if existing is None:
        if apply:
            given = {key: value for key, value in wanted.items() if value}
            await client.call("sns", "Subscribe", TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes=given)
        return Step("create", "subscription", name)
    found = await client.call("sns", "GetSubscriptionAttributes", SubscriptionArn=existing)
    differing = differences(wanted, found.get("Attributes", {}))
    changes |= differing
    if not changes:
        return Step("same", "subscription", name)
    if apply:
        await _change_subscription(client, existing, {key: wanted[key] for key in differing})
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
