"""Messages of programs as schedules of EventBridge Scheduler: it sends them with the service's own call.

Each schedule is a "universal target" (EventBridge Scheduler User Guide): the parameters of SendMessage, Publish or
PutEvents, made here as for a message that is sent at once, so that it arrives with its attributes and envelope.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from typing_extensions import override

from eip.channels import Sender
from eip.channels.schedules import Schedules
from eip.errors import ChannelNotFound, ConfigurationError, Conflict, InvalidMessage
from eip.message import Message
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws.eventbridge.bus import EventBridgeBus
from eip.transports.aws.scheduler._expressions import cron_expression, rate_expression
from eip.transports.aws.schedules import MESSAGE_PREFIX
from eip.transports.aws.sns.topic import SnsTopic
from eip.transports.aws.sqs.queue import SqsQueue

__all__ = ["EventBridgeSchedules"]

_MAX_INPUT_BYTES: Final = 256 * 1024
"""Of a schedule's input (Quotas, User Guide)."""
_KEYWORD: Final = "<aws.scheduler."
"""What the service replaces in an input."""
_SCHEDULED_TIME: Final = "<aws.scheduler.scheduled-time>"


class EventBridgeSchedules(Schedules):
    """Schedules of messages in one group; `AwsTransport.schedules` makes it.

    Seconds are the finest that the service knows; it sends within the minute that begins then.
    """

    def __init__(self, client: ServiceClient, *, group: str, role: str) -> None:
        self._client, self._group, self._role = client, group, role

    @override
    async def put(
        self,
        key: str,
        message: Message[Any],
        to: Sender,
        *,
        first: float,
        interval: float | None,
        cron: str | None,
        timezone: str,
    ) -> None:
        repeats = interval is not None or cron is not None
        action, parameters = await _call_of(to, _occurring(key, message) if repeats else message)
        text = json.dumps(parameters, ensure_ascii=False)
        _check_input(text, repeats=repeats)
        start = datetime.fromtimestamp(math.ceil(first), UTC)
        given: dict[str, Any] = {"ScheduleExpression": f"at({start:%Y-%m-%dT%H:%M:%S})"}
        if interval is not None:
            given = {"ScheduleExpression": rate_expression(interval), "StartDate": start}
        elif cron is not None:
            given = {"ScheduleExpression": cron_expression(cron), "ScheduleExpressionTimezone": timezone}
        target = {"Arn": f"arn:{self._client.partition}:scheduler:::aws-sdk:{action}", "RoleArn": self._role}
        await self._put(key, given | {"Target": {**target, "Input": text}})

    async def _put(self, key: str, given: Mapping[str, Any]) -> None:
        """Create the schedule, or replace it: two processes may do so at once."""
        everything = {
            **given,
            "Name": _name(key),
            "GroupName": self._group,
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "ActionAfterCompletion": "DELETE",
        }
        try:
            await self._client.call("scheduler", "CreateSchedule", **everything)
        except Conflict:
            try:
                await self._client.call("scheduler", "UpdateSchedule", **everything)
            except ChannelNotFound:  # it was sent in between
                await self._client.call("scheduler", "CreateSchedule", **everything)

    @override
    async def remove(self, key: str) -> bool:
        try:
            await self._client.call("scheduler", "DeleteSchedule", Name=_name(key), GroupName=self._group)
        except ChannelNotFound:
            return False
        return True

    def __repr__(self) -> str:
        return f"<EventBridgeSchedules {self._group}>"


def _name(key: str) -> str:
    """The schedule's name: a key may be any text, a name may not."""
    return f"{MESSAGE_PREFIX}{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:48]}"


def _occurring(key: str, message: Message[Any]) -> Message[Any]:
    """A repeated message: each sending has an id of its own, the same in each attempt."""
    if message.expires_at is not None:
        raise InvalidMessage(f"a message that repeats must not expire, got expires_at={message.expires_at!r}")
    identity = f"{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}.{_SCHEDULED_TIME}"
    return message.replace(id=identity, deduplication_id=None if message.group_id is None else identity)


def _check_text(message: Message[Any], parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters; a schedule keeps them as JSON, which has no bytes."""
    for name, each in parameters.get("MessageAttributes", {}).items():
        if "BinaryValue" in each:
            raise InvalidMessage(f"message {message.id}: attribute {name!r} must be a text for a schedule, got bytes")
    return parameters


async def _call_of(to: Sender, message: Message[Any]) -> tuple[str, Mapping[str, Any]]:
    """The service's call that sends the message, and its parameters."""
    match to:
        case SqsQueue():
            return "sqs:sendMessage", {"QueueUrl": await to.url(), **_check_text(message, await to.parameters(message))}
        case SnsTopic():
            return "sns:publish", {"TopicArn": to.address, **_check_text(message, await to.parameters(message))}
        case EventBridgeBus():
            entry = await to.parameters(message)
            entry.pop("Time")  # the time when it is sent
            return "eventbridge:putEvents", {"Entries": [entry]}
        case _:
            raise ConfigurationError(f"EventBridge Scheduler sends to queues, topics and buses of AWS, not to {to!r}")


def _check_input(text: str, *, repeats: bool) -> None:
    expected = len(re.findall(re.escape(_SCHEDULED_TIME), text)) if repeats else 0
    if text.count(_KEYWORD) != expected:
        raise InvalidMessage(f"message must not contain {_KEYWORD!r}, which EventBridge Scheduler replaces")
    size = len(text.encode())
    if size > _MAX_INPUT_BYTES:
        raise InvalidMessage(f"message must have at most {_MAX_INPUT_BYTES:,} bytes in a schedule, got {size:,}")
