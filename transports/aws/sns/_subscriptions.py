"""The subscriptions that a topic has; for the topic itself and for provisioning."""

from __future__ import annotations

from typing import Any

from eip.errors import ChannelNotFound
from eip.transports.aws._client.service_client import ServiceClient

__all__ = ["list_subscriptions"]


async def list_subscriptions(client: ServiceClient, topic: str) -> dict[str, str]:
    """The ARNs of a topic's confirmed subscriptions, by endpoint."""
    found: dict[str, str] = {}
    page: dict[str, Any] = {}
    while True:
        try:
            answer = await client.call("sns", "ListSubscriptionsByTopic", TopicArn=topic, **page)
        except ChannelNotFound:
            return found
        for each in answer.get("Subscriptions", []):
            if each["SubscriptionArn"].startswith("arn:"):
                found[each["Endpoint"]] = each["SubscriptionArn"]
        if not answer.get("NextToken"):
            return found
        page = {"NextToken": answer["NextToken"]}
