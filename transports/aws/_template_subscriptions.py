"""Subscriptions of a template."""

from __future__ import annotations

import json
from typing import Any, Final

from eip.channels import Filter
from eip.matching import push_down
from eip.topology import SubscriptionSpec
from eip.transports.aws._role_policies import trust
from eip.transports.aws._template import Template, arn
from eip.transports.aws.endpoint_subscriptions import EndpointSubscriptionSpec

__all__ = ["add_endpoint", "add_subscription"]

_SERVICE: Final = "sns.amazonaws.com"
_SERVICES: Final = {"function": "lambda", "firehose": "firehose"}


def add_subscription(made: Template, subscription: SubscriptionSpec) -> None:
    """Add a subscription with a queue of its own, which lets the topic send."""
    topic = made.arn("Topic", subscription.topic)
    properties = {
        "Protocol": "sqs",
        "Endpoint": made.arn("Queue", subscription.target.name),
        "RawMessageDelivery": subscription.raw,
        **_of_topic(made, subscription.topic),
        **_filter(subscription.filter),
        **_redrive(made, subscription.topic, subscription.undelivered_name),
    }
    made.let_in("Queue", subscription.target.name, "sns", topic)
    made.put("Subscription", f"{subscription.topic}-{subscription.name}", "AWS::SNS::Subscription", properties)


def add_endpoint(made: Template, declared: EndpointSubscriptionSpec) -> None:
    """Add the subscription of an endpoint, and what lets SNS send to it."""
    kind, name = declared.endpoint_kind, f"{declared.topic}-{declared.name}"
    properties: dict[str, Any] = {
        "Protocol": declared.protocol,
        "Endpoint": _endpoint(declared),
        **_of_topic(made, declared.topic),
        **_filter(declared.filter),
        **_redrive(made, declared.topic, declared.dead_letters),
    }
    if kind in ("queue", "url", "firehose"):
        properties["RawMessageDelivery"] = declared.raw
    if declared.delivery is not None:
        properties["DeliveryPolicy"] = declared.delivery.policy
    if kind == "firehose":
        receivers = [("firehose from sns", properties["Endpoint"])]
        properties["SubscriptionRoleArn"] = declared.role or made.role(name, trust(_SERVICE), receivers)
    if kind == "function" and not declared.endpoint.startswith("arn:"):
        made.let_invoke(name, properties["Endpoint"], "sns", made.arn("Topic", declared.topic))
    made.put("Subscription", name, "AWS::SNS::Subscription", properties)


def _of_topic(made: Template, topic: str) -> dict[str, Any]:
    """The topic, and its region where it may be another one."""
    region = {"Region": topic.split(":")[3]} if topic.startswith("arn:") else {}
    return {"TopicArn": made.arn("Topic", topic), **region}


def _filter(condition: Filter | None) -> dict[str, Any]:
    pushed = None if condition is None else push_down(condition, "sns")
    if pushed is None or pushed.pushed is None:
        return {}
    return {"FilterPolicy": json.loads(pushed.pushed), "FilterPolicyScope": pushed.scope or "MessageAttributes"}


def _redrive(made: Template, topic: str, queue: str | None) -> dict[str, Any]:
    if queue is None:
        return {}
    made.let_in("Queue", queue, "sns", made.arn("Topic", topic))
    return {"RedrivePolicy": {"deadLetterTargetArn": made.arn("Queue", queue)}}


def _endpoint(declared: EndpointSubscriptionSpec) -> Any:
    service = _SERVICES.get(declared.endpoint_kind)
    if service is None or declared.endpoint.startswith("arn:"):
        return declared.endpoint
    return arn(service, declared.name)
