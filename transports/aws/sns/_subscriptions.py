"""The subscriptions that a topic has; for the topic itself and for provisioning."""

from __future__ import annotations

from typing import Any

from eip.errors import ChannelNotFound
from eip.transports.aws._client.service_client import ServiceClient

__all__ = ["find_subscriptions", "list_subscriptions"]


async def find_subscriptions(client: ServiceClient, topic: str) -> dict[tuple[str, str], str]:
    """The ARNs of a topic's subscriptions, by protocol and endpoint; empty while one waits for its confirmation."""
    found: dict[tuple[str, str], str] = {}
    page: dict[str, Any] = {}
    while True:
        try:
            answer = await client.call("sns", "ListSubscriptionsByTopic", TopicArn=topic, **page)
        except ChannelNotFound:
            return found
        for each in answer.get("Subscriptions", []):
            arn = each["SubscriptionArn"]
            if arn.startswith("arn:") or "pending" in arn.lower():  # otherwise "Deleted"
                found[each["Protocol"], each["Endpoint"]] = arn if arn.startswith("arn:") else ""
        if not answer.get("NextToken"):
            return found
        page = {"NextToken": answer["NextToken"]}


async def list_subscriptions(client: ServiceClient, topic: str) -> dict[str, str]:
    """The ARNs of a topic's confirmed subscriptions, by endpoint."""
    found = await find_subscriptions(client, topic)
    return {endpoint: arn for (_, endpoint), arn in found.items() if arn}
