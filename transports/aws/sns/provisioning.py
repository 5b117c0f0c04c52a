"""Makes topics and subscriptions, and compares them with what there is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from eip.errors import ChannelNotFound, ConfigurationError
from eip.topology import Step, SubscriptionSpec, TopicSpec
from eip.topology.names import is_fifo
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws._provisioning import changed_tags, describe_changes, differences, tag_list
from eip.transports.aws._role_policies import permissions, role_arn, role_name, trust
from eip.transports.aws._roles import delete_role, provision_role
from eip.transports.aws.arns import Arns
from eip.transports.aws.endpoint_subscriptions import EndpointSubscriptionSpec
from eip.transports.aws.options import SnsOptions, option_of
from eip.transports.aws.sns._subscribing import Wanted, filter_attributes, subscribe
from eip.transports.aws.sns._subscriptions import find_subscriptions

__all__ = ["provision_endpoint", "provision_subscription", "provision_topic", "undeclared_subscriptions"]

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
    """The step for a subscription with a queue of its own."""
    queue = arns.of("queue", subscription.target.name)
    attributes = {"RawMessageDelivery": str(subscription.raw).lower(), **filter_attributes(subscription.filter)}
    return await subscribe(
        client,
        arns,
        Wanted(
            name=f"{subscription.topic} > {subscription.name}",
            topic=arns.of("topic", subscription.topic),
            protocol="sqs",
            endpoint=queue,
            attributes=attributes | _redrive(arns, subscription.undelivered_name),
            receivers=[queue, *_queues(arns, subscription.undelivered_name)],
        ),
        apply=apply,
    )


async def provision_endpoint(
    client: ServiceClient, arns: Arns, declared: EndpointSubscriptionSpec, *, apply: bool
) -> Iterable[Step]:
    """The steps for the subscription of an endpoint, and for a role with which SNS writes to it."""
    topic, endpoint = arns.of("topic", declared.topic), _endpoint(arns, declared)
    attributes = filter_attributes(declared.filter) | _redrive(arns, declared.dead_letters)
    if declared.endpoint_kind in ("queue", "url", "firehose"):
        attributes["RawMessageDelivery"] = str(declared.raw).lower()
    if declared.delivery is not None:
        attributes["DeliveryPolicy"] = json.dumps(declared.delivery.policy)
    steps: list[Step] = []
    if declared.endpoint_kind == "firehose":
        role, steps = await _role(client, arns, declared, (topic, endpoint), apply=apply)
        attributes["SubscriptionRoleArn"] = role
    receives = [endpoint] if declared.endpoint_kind in ("queue", "function") else []
    wanted = Wanted(
        name=f"{declared.topic} > {declared.name}",
        topic=topic,
        protocol=declared.protocol,
        endpoint=endpoint,
        attributes=attributes,
        receivers=[*receives, *_queues(arns, declared.dead_letters)],
    )
    return [*steps, await subscribe(client, arns, wanted, apply=apply)]


def _endpoint(arns: Arns, declared: EndpointSubscriptionSpec) -> str:
    """As SNS takes it."""
    services = {"function": "lambda", "firehose": "firehose"}
    service = services.get(declared.endpoint_kind)
    if service is None or declared.endpoint.startswith("arn:"):
        return declared.endpoint
    return arns.resource(service, declared.name)


async def _role(
    client: ServiceClient, arns: Arns, declared: EndpointSubscriptionSpec, ends: tuple[str, str], *, apply: bool
) -> tuple[str, list[Step]]:
    """The role for Firehose, and the step where it is one that is made here."""
    topic, endpoint = ends
    made = _role_name(topic, endpoint)
    used = declared.role
    if used is None:
        at_topic = client.in_region(topic.split(":")[3])
        if found := (await find_subscriptions(at_topic, topic)).get((declared.protocol, endpoint)):
            answer = await at_topic.call("sns", "GetSubscriptionAttributes", SubscriptionArn=found)
            used = answer.get("Attributes", {}).get("SubscriptionRoleArn")
    own = role_arn(arns, made)
    if used is not None and used != own:
        return used, []
    step = await provision_role(
        client, made, trusts=trust(_SERVICE), may=permissions([("firehose from sns", endpoint)]), apply=apply
    )
    return own, [step]


def _role_name(topic: str, endpoint: str) -> str:
    return role_name(f"{topic}/{endpoint.rpartition('/')[2]}")


def _redrive(arns: Arns, queue: str | None) -> dict[str, str]:
    policy = "" if queue is None else json.dumps({"deadLetterTargetArn": arns.of("queue", queue)})
    return {"RedrivePolicy": policy}


def _queues(arns: Arns, queue: str | None) -> list[str]:
    return [] if queue is None else [arns.of("queue", queue)]


async def undeclared_subscriptions(
    client: ServiceClient, arns: Arns, topic: TopicSpec, declared: frozenset[str], *, delete: bool
) -> Iterable[Step]:
    """The steps for subscriptions of a topic that are not declared; one that waits for its confirmation stays."""
    address = arns.of("topic", topic.name)
    found = await find_subscriptions(client, address)
    known = {_key(arns, each) for each in declared}
    steps = []
    for (protocol, endpoint), arn in found.items():
        if _key(arns, endpoint) in known:
            continue
        name = f"{topic.name} > {endpoint}"
        if not arn:
            steps.append(Step("drift", "subscription", name, "waits for confirmation; SNS ends it after two days"))
            continue
        if delete:
            with suppress(ChannelNotFound):  # another process was first
                await client.call("sns", "Unsubscribe", SubscriptionArn=arn)
            if protocol == "firehose":
                await delete_role(client, _role_name(address, endpoint))
        steps.append(Step("delete" if delete else "drift", "subscription", name))
    return steps


def _key(arns: Arns, endpoint: str) -> str:
    """An endpoint of this account and region by the last part of its ARN, any other one as it is."""
    return endpoint.split(":", 5)[5] if endpoint.startswith("arn:") and arns.is_own(endpoint) else endpoint
