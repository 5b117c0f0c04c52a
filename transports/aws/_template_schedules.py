"""Schedules and their groups of a template."""

from __future__ import annotations

from datetime import UTC
from typing import Any, Final

from eip.transports.aws._role_policies import trust
from eip.transports.aws._template import ACCOUNT, Template, arn, tags
from eip.transports.aws._template_buses import target_receiver
from eip.transports.aws.schedules import ScheduleGroupSpec, ScheduleSpec

__all__ = ["add_group", "add_schedule"]

_SERVICE: Final = "scheduler.amazonaws.com"


def add_group(made: Template, group: ScheduleGroupSpec) -> None:
    """Add the group, unless it is the default one, and the role of its messages."""
    if group.name != "default":
        made.put("ScheduleGroup", group.name, "AWS::Scheduler::ScheduleGroup", {"Name": group.name, **tags(group.tags)})
    if group.sends_to:
        receivers = [target_receiver(made, each) for each in group.sends_to]
        made.role(f"{group.name}-messages", _trust(group.name), receivers)


def add_schedule(made: Template, schedule: ScheduleSpec) -> None:
    """Add the schedule, with a role of its own where none is given."""
    target, name = schedule.target, f"{schedule.group}-{schedule.name}"
    minutes = round(schedule.window.total_seconds() / 60)
    properties: dict[str, Any] = {
        "Name": schedule.name,
        "GroupName": "default" if schedule.group == "default" else {"Ref": made.id("ScheduleGroup", schedule.group)},
        "ScheduleExpression": schedule.expression,
        "ScheduleExpressionTimezone": schedule.timezone,
        "FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": minutes} if minutes else {"Mode": "OFF"},
        "State": "ENABLED" if schedule.enabled else "DISABLED",
        "Description": schedule.description or None,
        "KmsKeyArn": schedule.encryption,
        "Target": _target(made, schedule, target.role or _role(made, schedule, name)),
    }
    for property_, instant in (("StartDate", schedule.start), ("EndDate", schedule.end)):
        if instant is not None:
            properties[property_] = instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    given = {key: value for key, value in properties.items() if value is not None}
    made.put("Schedule", name, "AWS::Scheduler::Schedule", given)


def _trust(group: str) -> dict[str, Any]:
    return trust(_SERVICE, arn("scheduler", f"schedule-group/{group}"), ACCOUNT)


def _role(made: Template, schedule: ScheduleSpec, name: str) -> Any:
    receivers = [target_receiver(made, schedule.target)]
    if schedule.target.dead_letters is not None:
        receivers.append(("sqs", made.arn("Queue", schedule.target.dead_letters)))
    return made.role(f"schedule-{name}", _trust(schedule.group), receivers)


def _target(made: Template, schedule: ScheduleSpec, role: Any) -> dict[str, Any]:
    properties = {"Arn": target_receiver(made, schedule.target)[1], "RoleArn": role, **schedule.parameters}
    lost = schedule.target.dead_letters
    return properties if lost is None else properties | {"DeadLetterConfig": {"Arn": made.arn("Queue", lost)}}
