"""Makes schedules and their groups, and compares them with what there is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from eip.errors import ChannelNotFound, ConfigurationError, Conflict
from eip.retry import Backoff
from eip.topology import Action, Step
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws._provisioning import changed_tags, describe_changes, tag_list
from eip.transports.aws._role_policies import permissions, role_arn, role_name, trust
from eip.transports.aws._roles import delete_role, provision_role
from eip.transports.aws.arns import Arns
from eip.transports.aws.eventbridge._targets import target_arn
from eip.transports.aws.schedules import MESSAGE_PREFIX, ScheduleGroupSpec, ScheduleSpec

__all__ = ["provision_group", "provision_schedule", "undeclared_schedules"]

_SERVICE: Final = "scheduler.amazonaws.com"
_ROLE_BACKOFF: Final = Backoff(base=1.0, cap=5.0)
_ROLE_ATTEMPTS: Final = 8
"""Until a role that was just made is known everywhere, which takes some seconds (IAM User Guide, "Troubleshoot")."""
_OPTIONAL: Final = ("StartDate", "EndDate", "KmsKeyArn")
"""Settings that go where they are not declared any more."""
_DEFAULTS: Final = {"ScheduleExpressionTimezone": "UTC", "State": "ENABLED", "Description": ""}


async def provision_group(
    client: ServiceClient, arns: Arns, declared: ScheduleGroupSpec, *, apply: bool
) -> Sequence[Step]:
    """The steps for a group, and for the role with which its messages are sent."""
    steps = []
    group = arns.resource("scheduler", f"schedule-group/{declared.name}")
    if declared.sends_to:
        receivers = [await target_arn(client, arns, each) for each in declared.sends_to]
        steps.append(await _role(client, arns, group, group, [each for each in receivers if each], apply=apply))
    try:
        await client.call("scheduler", "GetScheduleGroup", Name=declared.name)
    except ChannelNotFound:
        if apply:
            more: dict[str, Any] = {"Tags": tag_list(declared.tags)} if declared.tags else {}
            with suppress(Conflict):  # another process was first
                await client.call("scheduler", "CreateScheduleGroup", Name=declared.name, **more)
        return [*steps, Step("create", declared.kind, declared.name)]
    changes = await changed_tags(client, declared.tags, "scheduler", "ListTagsForResource", ResourceArn=group)
    if apply and changes:
        await client.call("scheduler", "TagResource", ResourceArn=group, Tags=tag_list(declared.tags))
    return [*steps, Step("change" if changes else "same", declared.kind, declared.name, describe_changes(changes))]


async def _role(
    client: ServiceClient, arns: Arns, source: str, group: str, receivers: Sequence[str], *, apply: bool
) -> Step:
    # The service gives the group as source, not the schedule (User Guide, "Confused deputy prevention").
    trusts, may = trust(_SERVICE, group, arns.account), permissions(receivers)
    return await provision_role(client, role_name(source), trusts=trusts, may=may, apply=apply)


async def provision_schedule(
    client: ServiceClient, arns: Arns, declared: ScheduleSpec, *, apply: bool
) -> Sequence[Step]:
    """The steps for a schedule, and for its own role where none is given and none is there."""
    name = f"{declared.group} > {declared.name}"
    group = arns.resource("scheduler", f"schedule-group/{declared.group}")
    source = arns.resource("scheduler", f"schedule/{declared.group}/{declared.name}")
    found = await _find(client, declared)
    own = role_arn(arns, role_name(source))
    role = declared.target.role or ((found or {}).get("Target") or {}).get("RoleArn") or own
    receiver = await target_arn(client, arns, declared.target) or ""
    steps = []
    if role == own:  # which writes to the dead-letter queue, too
        lost = declared.target.dead_letters
        receivers = [receiver, *([] if lost is None else [arns.of("queue", lost)])]
        steps.append(await _role(client, arns, source, group, receivers, apply=apply))
    wanted = _parameters(arns, declared, receiver, role)
    if found is None:
        if apply:
            await _call_when_role_is_known(client, "CreateSchedule", declared, wanted)
        return [*steps, Step("create", declared.kind, name)]
    there = {**_DEFAULTS, **found}
    compared = (*wanted, *(key for key in _OPTIONAL if key not in wanted))
    changes = {key: (_text(there.get(key)), _text(wanted.get(key))) for key in compared}
    changes = {key: pair for key, pair in changes.items() if pair[0] != pair[1]}
    if apply and changes:
        await _call_when_role_is_known(client, "UpdateSchedule", declared, wanted)
    return [*steps, Step("change" if changes else "same", declared.kind, name, describe_changes(changes))]


async def _find(client: ServiceClient, declared: ScheduleSpec) -> Mapping[str, Any] | None:
    try:
        return await client.call("scheduler", "GetSchedule", Name=declared.name, GroupName=declared.group)
    except ChannelNotFound:
        return None


def _parameters(arns: Arns, declared: ScheduleSpec, receiver: str, role: str) -> dict[str, Any]:
    """All that is declared, as CreateSchedule takes it; UpdateSchedule sets what is missing back to its default."""
    minutes = round(declared.window.total_seconds() / 60)
    window = {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": minutes} if minutes else {"Mode": "OFF"}
    made = {
        "ScheduleExpression": declared.expression,
        "ScheduleExpressionTimezone": declared.timezone,
        "FlexibleTimeWindow": window,
        "State": "ENABLED" if declared.enabled else "DISABLED",
        "Description": declared.description,
        "StartDate": declared.start,
        "EndDate": declared.end,
        "KmsKeyArn": declared.encryption,
        "Target": _target(arns, declared, receiver, role),
    }
    return {name: value for name, value in made.items() if value is not None}


def _target(arns: Arns, declared: ScheduleSpec, receiver: str, role: str) -> dict[str, Any]:
    made = {"Arn": receiver, "RoleArn": role, **declared.parameters}
    lost = declared.target.dead_letters
    return made if lost is None else made | {"DeadLetterConfig": {"Arn": arns.of("queue", lost)}}


async def _call_when_role_is_known(
    client: ServiceClient, operation: str, declared: ScheduleSpec, wanted: Mapping[str, Any]
) -> None:
    attempt = 0
    while True:
        attempt += 1
        try:
            await client.call("scheduler", operation, Name=declared.name, GroupName=declared.group, **wanted)
        except ConfigurationError as error:
            if "assume" not in str(error) or attempt == _ROLE_ATTEMPTS:
                raise
            await asyncio.sleep(_ROLE_BACKOFF.delay(attempt))
        else:
            return


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return str(value.timestamp())
    if isinstance(value, Mapping):
        return json.dumps({key: each for key, each in value.items() if each not in (None, {})}, sort_keys=True)
    return "" if value is None else str(value)


async def undeclared_schedules(
    client: ServiceClient, arns: Arns, group: ScheduleGroupSpec, declared: frozenset[str], *, delete: bool
) -> Sequence[Step]:
    """The steps for schedules of a declared group that are not declared; programs' messages are left alone."""
    action: Action = "delete" if delete else "drift"
    steps: list[Step] = []
    for name in [each async for each in _schedules(client, group.name)]:
        if name in declared or name.startswith(MESSAGE_PREFIX):
            continue
        role = role_name(arns.resource("scheduler", f"schedule/{group.name}/{name}"))
        if delete:
            with suppress(ChannelNotFound):
                await client.call("scheduler", "DeleteSchedule", Name=name, GroupName=group.name)
            await delete_role(client, role)
        steps.append(Step(action, ScheduleSpec.kind, f"{group.name} > {name}"))
    return steps


async def _schedules(client: ServiceClient, group: str) -> AsyncIterator[str]:
    page: dict[str, Any] = {}
    while True:
        try:
            answer = await client.call("scheduler", "ListSchedules", GroupName=group, **page)
        except ChannelNotFound:
            return
        for each in answer.get("Schedules") or ():
            yield str(each["Name"])
        if not answer.get("NextToken"):
            return
        page = {"NextToken": answer["NextToken"]}
