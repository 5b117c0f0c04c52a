"""Roles that a service assumes to send to what has no policy of its own: made with exactly these permissions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final
from urllib.parse import unquote

from eip.errors import ChannelNotFound, Conflict
from eip.topology import Step
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws._policies import statements
from eip.transports.aws._provisioning import describe_changes
from eip.transports.aws._role_policies import ROLE_PATH

__all__ = ["delete_role", "provision_role"]

_POLICY: Final = "eip"
"""Name of the role's only policy."""


async def provision_role(
    client: ServiceClient, name: str, *, trusts: Mapping[str, Any], may: Sequence[Mapping[str, Any]], apply: bool
) -> Step:
    """The step for a role.

    Args:
        client: makes the calls.
        name: of the role, see `role_name`.
        trusts: the policy of who assumes it.
        may: statements of what it may do.
        apply: whether to make or change it.
    """
    policy = {"Version": "2012-10-17", "Statement": list(may)}
    found: Any = None
    try:
        found = await client.call("iam", "GetRole", RoleName=name)
    except ChannelNotFound:
        if apply:
            await _create(client, name, trusts)
            await _put_policy(client, name, policy)
        return Step("create", "role", name)
    changes: dict[str, tuple[str, str]] = {}
    trusted = _document(found["Role"]["AssumeRolePolicyDocument"])
    if trusted != trusts:
        changes["trust"] = (json.dumps(trusted), json.dumps(trusts))
    allowed = await _allowed(client, name)
    if allowed != policy:
        changes["policy"] = (_summary(allowed), _summary(policy))
    if apply and "trust" in changes:
        await client.call("iam", "UpdateAssumeRolePolicy", RoleName=name, PolicyDocument=json.dumps(trusts))
    if apply and "policy" in changes:
        await _put_policy(client, name, policy)
    return Step("change" if changes else "same", "role", name, describe_changes(changes))


async def _create(client: ServiceClient, name: str, trusts: Mapping[str, Any]) -> None:
    try:
        await client.call(
            "iam", "CreateRole", RoleName=name, Path=ROLE_PATH, AssumeRolePolicyDocument=json.dumps(trusts)
        )
    except Conflict:  # another process that applies the same was first
        await client.call("iam", "UpdateAssumeRolePolicy", RoleName=name, PolicyDocument=json.dumps(trusts))


async def _put_policy(client: ServiceClient, name: str, policy: Mapping[str, Any]) -> None:
    given: dict[str, Any] = {"PolicyName": _POLICY, "PolicyDocument": json.dumps(policy)}
    await client.call("iam", "PutRolePolicy", RoleName=name, **given)


async def _allowed(client: ServiceClient, name: str) -> Any:
    """The role's policy; None where it has none: it was made, and then the call for the policy failed."""
    try:
        found = await client.call("iam", "GetRolePolicy", RoleName=name, PolicyName=_POLICY)
    except ChannelNotFound:
        return None
    return _document(found["PolicyDocument"])


def _document(found: Any) -> Any:
    """A policy as the SDK gives it: parsed, or as its URL-encoded text."""
    return json.loads(unquote(found)) if isinstance(found, str) else found


def _summary(policy: Any) -> str:
    """For people: actions and resources, whoever wrote the policy."""
    found = statements(policy) if isinstance(policy, dict) else []
    return "; ".join(f"{_listed(each.get('Action'))} on {_listed(each.get('Resource'))}" for each in found)


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


async def delete_role(client: ServiceClient, name: str) -> None:
    """Delete a role that was made here, if it is there."""
    with suppress(ChannelNotFound):  # gone already
        await client.call("iam", "DeleteRolePolicy", RoleName=name, PolicyName=_POLICY)
    with suppress(ChannelNotFound):
        await client.call("iam", "DeleteRole", RoleName=name)
