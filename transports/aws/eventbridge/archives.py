"""Archives and replays of an EventBridge bus."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from typing_extensions import override

from eip.errors import ChannelNotFound, ConfigurationError, ConnectionLost
from eip.matching import EventPattern
from eip.topology import ArchiveSpec
from eip.topology.archives import Archives, ArchiveStatus, ReplayState, ReplayStatus, check_window
from eip.topology.events import check_description
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws.arns import Arns

__all__ = ["EventBridgeArchives"]


class EventBridgeArchives(Archives):
    """The archives of a bus; their names are unique in the account and region.

    An archive takes a few minutes until it keeps events. Replay windows are whole seconds, begun ones included.

    Args:
        client: makes the calls.
        arns: of the account and region.
        bus: name of the bus, or its ARN.
    """

    def __init__(self, client: ServiceClient, arns: Arns, bus: str) -> None:
        self._client, self._arns = client, arns
        self._address = arns.of("bus", bus)
        self._bus = self._address.partition(":event-bus/")[2]

    @override
    async def create(
        self,
        name: str,
        *,
        pattern: EventPattern | None = None,
        retention: timedelta | None = None,
        description: str = "",
    ) -> None:
        declared = ArchiveSpec(name, self._bus, pattern, retention, description)
        given: dict[str, Any] = {"RetentionDays": declared.retention_days, **_described(description)}
        if pattern is not None:
            given["EventPattern"] = pattern.text
        await self._call("CreateArchive", ArchiveName=name, EventSourceArn=self._address, **given)

    @override
    async def update(
        self,
        name: str,
        *,
        pattern: EventPattern | None = None,
        retention: timedelta | None = None,
        description: str | None = None,
    ) -> None:
        changed: dict[str, Any] = {}
        if pattern is not None:
            changed["EventPattern"] = pattern.text
        if retention is not None:
            changed["RetentionDays"] = ArchiveSpec(name, self._bus, retention=retention or None).retention_days
        if description is not None:
            changed["Description"] = check_description(description)
        if not changed:
            raise ConfigurationError("At least one of EventPattern, RetentionDays or Description must be provided.")
        await self._call("UpdateArchive", ArchiveName=name, **changed)

    @override
    async def delete(self, name: str) -> None:
        await self._call("DeleteArchive", ArchiveName=name)

    @override
    async def describe(self, name: str) -> ArchiveStatus:
        found = await self._call("DescribeArchive", ArchiveName=name)
        days = found.get("RetentionDays") or 0
        return ArchiveStatus(
            name=name,
            bus=str(found["EventSourceArn"]).partition(":event-bus/")[2],
            state=found["State"],
            pattern=EventPattern(found["EventPattern"]) if found.get("EventPattern") else None,
            retention=timedelta(days=days) if days else None,
            events=found.get("EventCount") or 0,
            size=found.get("SizeBytes") or 0,
            created_at=_seconds(found["CreationTime"]) or 0.0,
            description=found.get("Description") or "",
        )

    @override
    async def list(self) -> Sequence[ArchiveStatus]:
        found = await self._pages("ListArchives", "Archives", EventSourceArn=self._address)
        listed = []
        for name in sorted(each["ArchiveName"] for each in found):
            try:
                listed.append(await self.describe(name))  # the list has neither pattern nor description
            except ChannelNotFound:
                continue  # deleted since it was listed
        return listed

    @override
    async def start_replay(
        self,
        name: str,
        *,
        archive: str,
        start: float,
        end: float,
        rules: Collection[str] = (),
        description: str = "",
    ) -> ReplayStatus:
        check_window(start, end)
        check_description(description)
        destination: dict[str, Any] = {"Arn": self._address}
        if rules:
            destination["FilterArns"] = [self._arns.rule(self._bus, each) for each in rules]
        try:
            await self._call(
                "StartReplay",
                retry=False,  # it would be refused as a double where only the answer was lost
                ReplayName=name,
                EventSourceArn=self._arns.archive(archive),
                EventStartTime=math.floor(start),
                EventEndTime=math.ceil(end),
                Destination=destination,
                **_described(description),
            )
        except ConnectionLost as lost:
            try:
                return await self.describe_replay(name)  # it began, and only the answer was lost
            except ChannelNotFound:
                raise lost from None
        return await self.describe_replay(name)

    @override
    async def describe_replay(self, name: str) -> ReplayStatus:
        return _replay_status(await self._call("DescribeReplay", ReplayName=name))

    @override
    async def list_replays(self, archive: str | None = None) -> Sequence[ReplayStatus]:
        of_archive = {} if archive is None else {"EventSourceArn": self._arns.archive(archive)}
        found = map(_replay_status, await self._pages("ListReplays", "Replays", **of_archive))
        return sorted(found, key=lambda each: each.started_at or 0.0, reverse=True)

    @override
    async def cancel_replay(self, name: str) -> ReplayStatus:
        await self._call("CancelReplay", ReplayName=name)
        return await self.describe_replay(name)

    async def _pages(self, operation: str, listed: str, **parameters: Any) -> Sequence[Mapping[str, Any]]:
        """Return what all pages of a list hold."""
        found: list[Mapping[str, Any]] = []
        token: dict[str, str] = {}
        while True:
            page = await self._call(operation, **parameters, **token)
            found += page.get(listed) or ()
            if not page.get("NextToken"):
                return found
            token = {"NextToken": page["NextToken"]}

    async def _call(self, operation: str, **parameters: Any) -> Mapping[str, Any]:
        return await self._client.call("events", operation, channel=self._bus, **parameters)


def _replay_status(found: Mapping[str, Any]) -> ReplayStatus:
    rules = (found.get("Destination") or {}).get("FilterArns") or ()
    return ReplayStatus(
        name=found["ReplayName"],
        archive=found["EventSourceArn"].rpartition("/")[2],
        state=ReplayState(found["State"]),
        start=_seconds(found.get("EventStartTime")) or 0.0,
        end=_seconds(found.get("EventEndTime")) or 0.0,
        rules=tuple(each.rpartition("/")[2] for each in rules),
        started_at=_seconds(found.get("ReplayStartTime")),
        ended_at=_seconds(found.get("ReplayEndTime")),
        last_replayed=_seconds(found.get("EventLastReplayedTime")),
        reason=found.get("StateReason") or "",
        description=found.get("Description") or "",
    )


def _described(description: str) -> dict[str, str]:
    return {"Description": description} if description else {}


def _seconds(time: Any) -> float | None:
    return time.timestamp() if isinstance(time, datetime) else None
