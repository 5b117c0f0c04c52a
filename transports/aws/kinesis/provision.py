"""Makes the streams that a topology declares, and compares them with what there is."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Final

from eip.errors import ChannelNotFound, TransportError
from eip.topology import Step, StreamSpec
from eip.transports.aws._client.service_client import ServiceClient

__all__ = ["provision_stream"]

_POLL_INTERVAL_S: Final = 1.0
_ACTIVE_WITHIN: Final = 600
"""Seconds that a stream may take to be made or changed."""
_DAY: Final = 24


async def provision_stream(client: ServiceClient, stream: StreamSpec, *, apply: bool) -> Step:
    """Compare the declared stream with the real one; with ``apply``, make or change it."""
    hours = round(stream.retention / timedelta(hours=1))
    try:
        found = await _summary(client, stream)
    except ChannelNotFound:
        if apply:
            mode = (
                {"ShardCount": stream.shards} if stream.shards else {"StreamModeDetails": {"StreamMode": "ON_DEMAND"}}
            )
            await _call(client, "CreateStream", stream, **mode)
            await _active(client, stream)
            await _retain(client, stream, before=_DAY, hours=hours)
        return Step("create", "stream", stream.name)
    kept, count = found["RetentionPeriodHours"], found["OpenShardCount"]
    on_demand = found.get("StreamModeDetails", {}).get("StreamMode") == "ON_DEMAND"
    changes = []
    if kept != hours:
        changes.append(f"retention: {kept} h -> {hours} h")
    if on_demand != (stream.shards is None):
        changes.append(f"mode: {'on demand -> provisioned' if on_demand else 'provisioned -> on demand'}")
    if stream.shards is not None and count != stream.shards:
        changes.append(f"shards: {count} -> {stream.shards}")
    if not changes:
        return Step("same", "stream", stream.name)
    if apply:
        await _retain(client, stream, before=kept, hours=hours)
        if on_demand != (stream.shards is None):
            await _change_mode(client, stream)
        if stream.shards is not None:
            await _reshard(client, stream, count)
    return Step("change", "stream", stream.name, ", ".join(changes))


async def _retain(client: ServiceClient, stream: StreamSpec, *, before: int, hours: int) -> None:
    if hours != before:
        operation = f"{'Increase' if hours > before else 'Decrease'}StreamRetentionPeriod"
        await _call(client, operation, stream, RetentionPeriodHours=hours)
        await _active(client, stream)


async def _change_mode(client: ServiceClient, stream: StreamSpec) -> None:
    mode = {"StreamMode": "ON_DEMAND" if stream.shards is None else "PROVISIONED"}
    arn = (await _summary(client, stream))["StreamARN"]
    await client.call(
        "kinesis", "UpdateStreamMode", channel=stream.name, StreamARN=arn, StreamModeDetails=mode, units=0
    )
    await _active(client, stream)


async def _reshard(client: ServiceClient, stream: StreamSpec, count: int) -> None:
    """To the declared number, in as many steps as it takes: one at most doubles or halves it."""
    wanted = stream.shards or count
    while count != wanted:
        count = min(wanted, 2 * count) if wanted > count else max(wanted, -(-count // 2))
        await _call(client, "UpdateShardCount", stream, TargetShardCount=count, ScalingType="UNIFORM_SCALING")
        await _active(client, stream)


async def _active(client: ServiceClient, stream: StreamSpec) -> None:
    for _ in range(_ACTIVE_WITHIN):
        if (await _summary(client, stream))["StreamStatus"] == "ACTIVE":
            return
        await asyncio.sleep(_POLL_INTERVAL_S)
    raise TransportError(f"stream {stream.name} does not become active")


async def _summary(client: ServiceClient, stream: StreamSpec) -> dict[str, Any]:
    found: dict[str, Any] = (await _call(client, "DescribeStreamSummary", stream))["StreamDescriptionSummary"]
    return found


async def _call(client: ServiceClient, operation: str, stream: StreamSpec, **parameters: Any) -> dict[str, Any]:
    return await client.call("kinesis", operation, channel=stream.name, units=0, StreamName=stream.name, **parameters)
