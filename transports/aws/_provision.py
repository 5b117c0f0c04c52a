"""Makes what a topology declares, and compares it with what there is: queues, topics and subscriptions here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from eip.errors import ChannelNotFound, ConfigurationError
from eip.matching.pushdown import push_down
from eip.topology import (
    ArchiveSpec,
    BusSpec,
    QueueSpec,
    Resource,
    RuleSpec,
    Step,
    StreamSpec,
    SubscriptionSpec,
    TopicSpec,
)
from eip.topology.archives import archive_step
from eip.transports.aws import _provision_events as events
from eip.transports.aws._settings import differences, let_send, said
from eip.transports.aws.kinesis.provision import provision_stream

if TYPE_CHECKING:
    from eip.transports.aws.transport import AwsTransport

__all__ = ["provision", "subscriptions", "undeclared"]

_MAX_VISIBILITY_S: Final = 43_200
_MIN_RETENTION: Final = timedelta(minutes=1)
_MAX_RETENTION: Final = timedelta(days=14)
_MAX_RECEIVES: Final = 1000
_BY_CONTENT: Final = "ContentBasedDeduplication"


async def provision(aws: AwsTransport, resource: Resource, *, apply: bool) -> Iterable[Step]:
    """See `eip.topology.Provisioner.provision`."""
    steps: Iterable[Step]
    match resource:
        case QueueSpec():
            steps = [await _queue(aws, resource, apply=apply)]
        case TopicSpec():
            steps = [await _topic(aws, resource, apply=apply)]
        case SubscriptionSpec():
            steps = [await _subscription(aws, resource, apply=apply)]
        case StreamSpec():
            steps = [await provision_stream(aws, resource, apply=apply)]
        case BusSpec():
            steps = [await events.bus(aws, resource, apply=apply)]
        case RuleSpec():
            steps = await events.rule(aws, resource, apply=apply)
        case ArchiveSpec():
            steps = [await archive_step(aws.bus(resource.bus).archives, resource, apply=apply)]
    return steps


def _check_queue(queue: QueueSpec) -> None:
    """Validate what SQS alone restricts (CreateQueue, API reference)."""
    if queue.visibility > _MAX_VISIBILITY_S:
        raise ConfigurationError(f"queue {queue.name}: visibility must be at most 12 hours, got {queue.visibility:g} s")
    if not _MIN_RETENTION <= queue.retention <= _MAX_RETENTION:
        raise ConfigurationError(f"queue {queue.name}: retention must be 1 minute to 14 days, got {queue.retention}")
    if queue.max_receive_count > _MAX_RECEIVES:
        raise ConfigurationError(
            f"queue {queue.name}: max_receive_count must be at most {_MAX_RECEIVES:,}, got {queue.max_receive_count}"
        )


async def _queue(aws: AwsTransport, queue: QueueSpec, *, apply: bool) -> Step:
    _check_queue(queue)
    wanted = {
        "VisibilityTimeout": str(round(queue.visibility)),
        "MessageRetentionPeriod": str(round(queue.retention.total_seconds())),
        "RedrivePolicy": "",
    }
    if queue.dead_letter_name is not None:
        policy = {
            "deadLetterTargetArn": aws.arn("sqs", queue.dead_letter_name),
            "maxReceiveCount": queue.max_receive_count,
        }
        wanted["RedrivePolicy"] = json.dumps(policy)
    if queue.fifo:
        wanted[_BY_CONTENT] = str(queue.content_based_deduplication).lower()
    try:
        url = (await aws.call("sqs", "GetQueueUrl", channel=queue.name, QueueName=queue.name))["QueueUrl"]
    except ChannelNotFound:
        if apply:
            given = {name: value for name, value in wanted.items() if value}
            if queue.fifo:
                given["FifoQueue"] = "true"
            await aws.call("sqs", "CreateQueue", channel=queue.name, QueueName=queue.name, Attributes=given)
        return Step("create", "queue", queue.name)
    found = await aws.call("sqs", "GetQueueAttributes", QueueUrl=url, AttributeNames=["All"])
    changes = differences(wanted, found.get("Attributes", {}))
    if not changes:
        return Step("same", "queue", queue.name)
    if apply:
        changed = {name: wanted[name] for name in changes}
        await aws.call("sqs", "SetQueueAttributes", channel=queue.name, QueueUrl=url, Attributes=changed)
        aws.queue(queue.name).changed()
    return Step("change", "queue", queue.name, said(changes))


async def _topic(aws: AwsTransport, topic: TopicSpec, *, apply: bool) -> Step:
    arn, wanted = aws.arn("sns", topic.name), {}
    if topic.name.endswith(".fifo"):
        wanted[_BY_CONTENT] = str(topic.content_based_deduplication).lower()
    try:
        found = await aws.call("sns", "GetTopicAttributes", TopicArn=arn)
    except ChannelNotFound:
        if apply:
            given = {"FifoTopic": "true", **wanted} if wanted else {}
            await aws.call("sns", "CreateTopic", channel=topic.name, Name=topic.name, Attributes=given)
        return Step("create", "topic", topic.name)
    changes = differences(wanted, found.get("Attributes", {}))
    if not changes:
        return Step("same", "topic", topic.name)
    if apply:
        for name in changes:
            await aws.call("sns", "SetTopicAttributes", TopicArn=arn, AttributeName=name, AttributeValue=wanted[name])
        aws.topic(topic.name).changed()
    return Step("change", "topic", topic.name, said(changes))


async def _subscription(aws: AwsTransport, subscription: SubscriptionSpec, *, apply: bool) -> Step:
    topic, queue = aws.arn("sns", subscription.topic), aws.arn("sqs", subscription.target.name)
    wanted = {"RawMessageDelivery": str(subscription.raw).lower(), "FilterPolicy": "", "RedrivePolicy": ""}
    if subscription.filter is not None:
        pushed = push_down(subscription.filter, "sns")
        if pushed.pushed is not None:
            wanted |= {"FilterPolicy": pushed.pushed, "FilterPolicyScope": pushed.scope or "MessageAttributes"}
    receivers = [queue]
    if subscription.undelivered_name is not None:
        receivers.append(aws.arn("sqs", subscription.undelivered_name))
        wanted["RedrivePolicy"] = json.dumps({"deadLetterTargetArn": receivers[1]})
    name = f"{subscription.topic} > {subscription.name}"
    existing = (await subscriptions(aws, topic)).get(queue)
    if apply:
        for receiver in receivers:
            await let_send(aws, receiver, topic)
    if existing is None:
        if apply:
            given = {key: value for key, value in wanted.items() if value}
            await aws.call("sns", "Subscribe", TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes=given)
        return Step("create", "subscription", name)
    found = await aws.call("sns", "GetSubscriptionAttributes", SubscriptionArn=existing)
    changes = differences(wanted, found.get("Attributes", {}))
    if not changes:
        return Step("same", "subscription", name)
    if apply:
        await _change_subscription(aws, existing, {key: wanted[key] for key in changes})
    return Step("change", "subscription", name, said(changes))


async def _change_subscription(aws: AwsTransport, arn: str, changed: Mapping[str, str]) -> None:
    """Set the attributes; the scope before the policy that is written for it."""
    for key in sorted(changed, key=lambda key: key != "FilterPolicyScope"):
        value = changed[key] or ("{}" if key == "FilterPolicy" else "")
        await aws.call("sns", "SetSubscriptionAttributes", SubscriptionArn=arn, AttributeName=key, AttributeValue=value)


async def undeclared(
    aws: AwsTransport, channel: TopicSpec | BusSpec, declared: frozenset[str], *, delete: bool
) -> Iterable[Step]:
    """See `eip.topology.Provisioner.undeclared`."""
    if isinstance(channel, BusSpec):
        return await events.undeclared(aws, channel, declared, delete=delete)
    try:
        found = await subscriptions(aws, aws.arn("sns", channel.name))
    except ChannelNotFound:
        return ()
    steps = []
    for endpoint, arn in found.items():
        if endpoint.rpartition(":")[2] in declared:
            continue
        if delete:
            await aws.call("sns", "Unsubscribe", SubscriptionArn=arn)
        steps.append(Step("delete" if delete else "drift", "subscription", f"{channel.name} > {endpoint}"))
    return steps


async def subscriptions(aws: AwsTransport, topic: str) -> dict[str, str]:
    """By endpoint, the ARNs of a topic's confirmed subscriptions."""
    found: dict[str, str] = {}
    page: dict[str, str] = {}
    while True:
        try:
            answer = await aws.call("sns", "ListSubscriptionsByTopic", TopicArn=topic, **page)
        except ChannelNotFound:
            return found
        for each in answer.get("Subscriptions", []):
            if each["SubscriptionArn"].startswith("arn:"):
                found[each["Endpoint"]] = each["SubscriptionArn"]
        if not answer.get("NextToken"):
            return found
        page = {"NextToken": answer["NextToken"]}
