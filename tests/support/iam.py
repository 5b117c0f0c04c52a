"""What code calls, and what a policy lets it call, as IAM's actions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiobotocore.client import AioBaseClient

from eip._aws.sigv4 import SigV4Client
from eip.transports.aws._client.service_client import ServiceClient

ACTIONS = {
    "SendMessageBatch": "SendMessage",
    "DeleteMessageBatch": "DeleteMessage",
    "ChangeMessageVisibilityBatch": "ChangeMessageVisibility",
    "PublishBatch": "Publish",
    "ListObjectsV2": "ListBucket",
}
"""Operations whose action has another name (Service Authorization Reference)."""
FREE = ("sts:GetCallerIdentity",)
"""What takes no permission."""


@contextmanager
def recorded_actions() -> Iterator[set[str]]:
    """The actions of all calls in the block, by the driver or by any client of the SDK."""
    found: set[str] = set()
    fast, slow, signed = ServiceClient._answer, AioBaseClient._make_api_call, SigV4Client.call

    def note(service: str, operation: str) -> None:
        action = f"{service}:{ACTIONS.get(operation, operation)}"
        if action not in FREE:
            found.add(action)

    async def answer(self: ServiceClient, service: str, operation: str, *given: Any, **more: Any) -> Any:
        note(service, operation)
        return await fast(self, service, operation, *given, **more)

    async def call(self: SigV4Client, operation: str, parameters: dict[str, Any]) -> Any:
        note(self.service, operation)
        return await signed(self, operation, parameters)

    async def make_api_call(self: Any, operation: str, parameters: dict[str, Any]) -> Any:
        note(self.meta.service_model.service_name, operation)
        return await slow(self, operation, parameters)

    ServiceClient._answer = answer
    AioBaseClient._make_api_call = make_api_call
    setattr(SigV4Client, "call", call)  # noqa: B010 - mypy types methods of this name as its own
    try:
        yield found
    finally:
        ServiceClient._answer = fast
        AioBaseClient._make_api_call = slow
        setattr(SigV4Client, "call", signed)  # noqa: B010 - as above


def actions_of(role: dict[str, Any], *, without: tuple[str, ...] = ()) -> set[str]:
    """The actions of a template's role, but for those of some services."""
    statements = [each for policy in role["Properties"]["Policies"] for each in policy["PolicyDocument"]["Statement"]]
    found = {action for each in statements for action in each["Action"]}
    return {each for each in found if each.partition(":")[0] not in without}
