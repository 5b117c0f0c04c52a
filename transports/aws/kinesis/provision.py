"""Makes the streams that a topology declares, and compares them with what there is."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from eip.errors import ChannelNotFound, TransportError
from eip.topology import Step, StreamSpec

if TYPE_CHECKING:
    from eip.transports.aws.transport import AwsTransport

__all__ = ["provision_stream"]

_LOOK_AGAIN: Final = 1.0
_ACTIVE_WITHIN: Final = 600
"""Seconds that a stream may take to be made or changed."""
_DAY: Final = 24


async def provision_stream(aws: AwsTransport, stream: StreamSpec, *, apply: bool) -> Step:
    """See `eip.topology.Provisioner.provision`."""
    hours = round(stream.retention / timedelta(hours=1))
    try:
        found = await _summary(aws, stream)
    except ChannelNotFound:
        if apply:
            mode = (
                {"ShardCount": stream.shards} if stream.shards else {"StreamModeDetails": {"StreamMode": "ON_DEMAND"}}
            )
            await _call(aws, "CreateStream", stream, **mode)
            await _active(aws, stream)
            await _retain(aws, stream, before=_DAY, hours=hours)
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
        await _retain(aws, stream, before=kept, hours=hours)
        if on_demand != (stream.shards is None):
            await _change_mode(aws, stream)
        if stream.shards is not None:
            await _reshard(aws, stream, count)
    return Step("change", "stream", stream.name, ", ".join(changes))


async def _retain(aws: AwsTransport, stream: StreamSpec, *, before: int, hours: int) -> None:
    if hours != before:
        operation = f"{'Increase' if hours > before else 'Decrease'}StreamRetentionPeriod"
        await _call(aws, operation, stream, RetentionPeriodHours=hours)
        await _active(aws, stream)


async def _change_mode(aws: AwsTransport, stream: StreamSpec) -> None:
    mode = {"StreamMode": "ON_DEMAND" if stream.shards is None else "PROVISIONED"}
    arn = (await _summary(aws, stream))["StreamARN"]
    await aws.call("kinesis", "UpdateStreamMode", channel=stream.name, StreamARN=arn, StreamModeDetails=mode, units=0)
    await _active(aws, stream)


async def _reshard(aws: AwsTransport, stream: StreamSpec, count: int) -> None:
    """To the declared number, in as many steps as it takes: one at most doubles or halves it."""
    wanted = stream.shards or count
    while count != wanted:
        count = min(wanted, 2 * count) if wanted > count else max(wanted, -(-count // 2))
        await _call(aws, "UpdateShardCount", stream, TargetShardCount=count, ScalingType="UNIFORM_SCALING")
        await _active(aws, stream)


async def _active(aws: AwsTransport, stream: StreamSpec) -> None:
    for _ in range(_ACTIVE_WITHIN):
        if (await _summary(aws, stream))["StreamStatus"] == "ACTIVE":
            return
        await asyncio.sleep(_LOOK_AGAIN)
    raise TransportError(f"stream {stream.name} does not become active")


async def _summary(aws: AwsTransport, stream: StreamSpec) -> dict[str, Any]:
    found: dict[str, Any] = (await _call(aws, "DescribeStreamSummary", stream))["StreamDescriptionSummary"]
    return found


async def _call(aws: AwsTransport, operation: str, stream: StreamSpec, **parameters: Any) -> dict[str, Any]:
    return await aws.call("kinesis", operation, channel=stream.name, units=0, StreamName=stream.name, **parameters)
