"""Archives and replays of an EventBridge bus."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from eip.errors import ChannelNotFound, ConfigurationError, ConnectionLost
from eip.matching import EventPattern
from eip.topology import ArchiveSpec
from eip.topology.archives import Archives, ArchiveStatus, ReplayState, ReplayStatus, check_window

if TYPE_CHECKING:
    from eip.transports.aws.eventbridge import EventBridgeBus
    from eip.transports.aws.transport import AwsTransport

__all__ = ["EventBridgeArchives"]


class EventBridgeArchives(Archives):
    """See `Archives`; names are unique in the account and region."""

    def __init__(self, transport: AwsTransport, bus: EventBridgeBus) -> None:
        self._transport, self._bus = transport, bus

    async def create(
        self, name: str, *, pattern: EventPattern | None = None, retention: timedelta | None = None
    ) -> None:
        """See `Archives.create`; EventBridge takes a few minutes until it keeps what comes."""
        declared = ArchiveSpec(name, self._bus.name, pattern, retention)
        given: dict[str, Any] = {"RetentionDays": declared.retention_days}
        if pattern is not None:
            given["EventPattern"] = pattern.text
        await self._call("CreateArchive", ArchiveName=name, EventSourceArn=self._bus.address, **given)

    async def update(
        self, name: str, *, pattern: EventPattern | None = None, retention: timedelta | None = None
    ) -> None:
        """See `Archives.update`."""
        changed: dict[str, Any] = {}
        if pattern is not None:
            changed["EventPattern"] = pattern.text
        if retention is not None:
            changed["RetentionDays"] = ArchiveSpec(name, self._bus.name, retention=retention or None).retention_days
        if not changed:
            raise ConfigurationError("At least one of EventPattern, RetentionDays or Description must be provided.")
        await self._call("UpdateArchive", ArchiveName=name, **changed)

    async def delete(self, name: str) -> None:
        """See `Archives.delete`."""
        await self._call("DeleteArchive", ArchiveName=name)

    async def describe(self, name: str) -> ArchiveStatus:
        """See `Archives.describe`."""
        found = await self._call("DescribeArchive", ArchiveName=name)
        days = found.get("RetentionDays") or 0
        return ArchiveStatus(
            name=name,
            state=found["State"],
            pattern=EventPattern(found["EventPattern"]) if found.get("EventPattern") else None,
            retention=timedelta(days=days) if days else None,
            events=found.get("EventCount") or 0,
            size=found.get("SizeBytes") or 0,
            created_at=_seconds(found["CreationTime"]) or 0.0,
        )

    async def start_replay(
        self, name: str, *, archive: str, start: float, end: float, rules: Collection[str] = ()
    ) -> ReplayStatus:
        """See `Archives.start_replay`; times count in whole seconds, the window's begun ones included."""
        check_window(start, end)
        destination: dict[str, Any] = {"Arn": self._bus.address}
        if rules:
            destination["FilterArns"] = [self._transport.rule_arn(self._bus.name, each) for each in rules]
        try:
            await self._call(
                "StartReplay",
                retry=False,  # begun, its answer lost, it would be told to exist
                ReplayName=name,
                EventSourceArn=self._transport.events_arn("archive", archive),
                EventStartTime=math.floor(start),
                EventEndTime=math.ceil(end),
                Destination=destination,
            )
        except ConnectionLost as lost:
            try:
                return await self.describe_replay(name)  # it began, and only the answer was lost
            except ChannelNotFound:
                raise lost from None
        return await self.describe_replay(name)

    async def describe_replay(self, name: str) -> ReplayStatus:
        """See `Archives.describe_replay`."""
        found = await self._call("DescribeReplay", ReplayName=name)
        rules = (found.get("Destination") or {}).get("FilterArns") or ()
        return ReplayStatus(
            name=name,
            archive=found["EventSourceArn"].rpartition("/")[2],
            state=ReplayState(found["State"]),
            start=_seconds(found["EventStartTime"]) or 0.0,
            end=_seconds(found["EventEndTime"]) or 0.0,
            rules=tuple(each.rpartition("/")[2] for each in rules),
            started_at=_seconds(found.get("ReplayStartTime")),
            ended_at=_seconds(found.get("ReplayEndTime")),
            last_replayed=_seconds(found.get("EventLastReplayedTime")),
            reason=found.get("StateReason") or "",
        )

    async def cancel_replay(self, name: str) -> ReplayStatus:
        """See `Archives.cancel_replay`."""
        await self._call("CancelReplay", ReplayName=name)
        return await self.describe_replay(name)

    async def _call(self, operation: str, **parameters: Any) -> Mapping[str, Any]:
        return await self._transport.call("events", operation, channel=self._bus.name, **parameters)


def _seconds(time: Any) -> float | None:
    return time.timestamp() if isinstance(time, datetime) else None
