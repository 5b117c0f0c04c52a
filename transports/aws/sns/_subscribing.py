"""Subscribes an endpoint to a topic, wherever both are, and compares the subscription with what there is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from eip.channels import Filter
from eip.errors import ChannelNotFound, ConfigurationError, Conflict
from eip.matching.pushdown import push_down
from eip.topology import Step
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws._policies import allow_sending
from eip.transports.aws._provisioning import Changes, describe_changes, differences
from eip.transports.aws.arns import Arns
from eip.transports.aws.sns._subscriptions import find_subscriptions

__all__ = ["Wanted", "filter_attributes", "subscribe"]

_OPT_IN: Final = re.compile(
    r"af-south-1|ap-east-[12]|ap-south-2|ap-southeast-[3-7]|ca-west-1|eu-central-2|eu-south-[12]|il-central-1|"
    r"me-(?:central|south)-1|mx-central-1"
)
"""Regions in which SNS has a principal of its own for deliveries to or from another region (Developer Guide)."""


_WAITING: Final = {"PendingConfirmation": "true"}


class Wanted(NamedTuple):
    """A subscription as declared."""

    name: str
    """For people."""
    topic: str
    """ARN, as of the receivers."""
    protocol: str
    endpoint: str
    attributes: Mapping[str, str]
    """By SNS's names; empty: none."""
    receivers: Sequence[str]
    """What the topic sends to: queues and functions, whose policies have to let it."""


def filter_attributes(condition: Filter | None) -> dict[str, str]:
    """The attributes of a filter, as far as SNS evaluates it."""
    pushed = None if condition is None else push_down(condition, "sns")
    if pushed is None or pushed.pushed is None:
        return {"FilterPolicy": ""}
    return {"FilterPolicy": pushed.pushed, "FilterPolicyScope": pushed.scope or "MessageAttributes"}


async def subscribe(client: ServiceClient, arns: Arns, wanted: Wanted, *, apply: bool) -> Step:
    """The step for a subscription; the policies that let its topic send come first.

    Calls go to the region of the topic, and for each receiver to that of the receiver.
    """
    changes: Changes = {}
    for receiver in wanted.receivers:
        changes |= await _allow(client, arns, receiver, wanted.topic, apply=apply)
    at_topic = client.in_region(wanted.topic.split(":")[3])
    found = (await find_subscriptions(at_topic, wanted.topic)).get((wanted.protocol, wanted.endpoint))
    if found is None:
        if apply:
            await _subscribe(at_topic, wanted)
        return Step("create", "subscription", wanted.name)
    there = await _attributes(at_topic, found) if found else _WAITING
    if there.get("PendingConfirmation") == "true":
        return Step("same", "subscription", wanted.name, "waits for confirmation")
    settings = _differences(wanted.attributes, there)
    if apply:
        await _change(at_topic, found, {key: wanted.attributes[key] for key in settings})
    changes |= settings
    return Step("change" if changes else "same", "subscription", wanted.name, describe_changes(changes))


async def _allow(client: ServiceClient, arns: Arns, receiver: str, topic: str, *, apply: bool) -> Changes:
    """Let the topic send to a receiver of this account; those of others are left to their owners."""
    parts = receiver.split(":")
    if parts[4] != arns.account:
        return {}
    regions = topic.split(":")[3], parts[3]
    service = "sns.amazonaws.com"
    if regions[0] != regions[1] and (opt_in := [each for each in regions if _OPT_IN.fullmatch(each)]):
        service = f"sns.{opt_in[0]}.amazonaws.com"
    try:
        return await allow_sending(client.in_region(parts[3]), receiver, topic, service=service, apply=apply)
    except ChannelNotFound as error:
        raise ChannelNotFound(f"{error}; a subscription needs its endpoint: make {receiver} first") from error


async def _subscribe(client: ServiceClient, wanted: Wanted) -> None:
    given = {key: value for key, value in wanted.attributes.items() if value}
    try:
        await client.call(
            "sns",
            "Subscribe",
            TopicArn=wanted.topic,
            Protocol=wanted.protocol,
            Endpoint=wanted.endpoint,
            Attributes=given,
        )
    except ConfigurationError:
        found = await find_subscriptions(client, wanted.topic)
        if (wanted.protocol, wanted.endpoint) in found:  # another process was first, with other attributes
            raise Conflict(f"{wanted.name}: subscribed by another process meanwhile") from None
        raise


async def _attributes(client: ServiceClient, arn: str) -> Mapping[str, str]:
    found: Mapping[str, str] = (await client.call("sns", "GetSubscriptionAttributes", SubscriptionArn=arn))[
        "Attributes"
    ]
    return found


def _differences(wanted: Mapping[str, str], found: Mapping[str, str]) -> Changes:
    policy = _declared_part(wanted.get("DeliveryPolicy", ""), found.get("DeliveryPolicy", ""))
    return differences(wanted, {**found, "DeliveryPolicy": policy})


def _declared_part(wanted: str, found: str) -> str:
    """What was found of what is wanted: SNS fills up a delivery policy with empty parts."""
    there = json.loads(found or "{}")
    return json.dumps({key: there[key] for key in json.loads(wanted or "{}") if there.get(key)}) if there else ""


async def _change(client: ServiceClient, arn: str, changed: Mapping[str, str]) -> None:
    """Set the attributes; the scope before the policy that is written for it."""
    for key in sorted(changed, key=lambda key: key != "FilterPolicyScope"):
        given: dict[str, Any] = {"AttributeName": key, "AttributeValue": changed[key] or _EMPTY.get(key, "")}
        await client.call("sns", "SetSubscriptionAttributes", SubscriptionArn=arn, **given)


_EMPTY: Final = {"FilterPolicy": "{}"}
"""What removes an attribute, where it is not the empty text."""
