"""Makes the streams that a topology declares, and compares them with what there is."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, NamedTuple

from eip.errors import ChannelNotFound, ConfigurationError, Conflict, TransportError
from eip.topology import Step, StreamSpec
from eip.transports.aws._client.service_client import ServiceClient
from eip.transports.aws._provisioning import changed_tags, describe_changes
from eip.transports.aws.options import DISTRIBUTIONS, SHARD_METRICS, KinesisOptions, ShardMetric, option_of

__all__ = ["provision_stream"]

_POLL_INTERVAL_S: Final = 1.0
_ACTIVE_WITHIN: Final = 600
"""Seconds that a stream may take to be made or changed."""


async def provision_stream(client: ServiceClient, stream: StreamSpec, *, apply: bool) -> Step:
    """Compare the declared stream with the real one; with ``apply``, make or change it."""
    _check(stream)
    try:
        found = await _summary(client, stream)
    except ChannelNotFound:
        if apply:
            await _create(client, stream)
            for change in await _changes(client, stream, await _summary(client, stream)):
                await change.make()
        return Step("create", "stream", stream.name)
    changes = await _changes(client, stream, found)
    if apply:
        for change in changes:
            await change.make()
    return Step("change" if changes else "same", "stream", stream.name, ", ".join(change.detail for change in changes))


def _check(stream: StreamSpec) -> None:
    """Validate what only a stream on demand has (UpdateStreamWarmThroughput, API reference)."""
    options = option_of(stream.options, KinesisOptions)
    for parameter in ("warm_throughput", "distribution"):
        if stream.shards is not None and getattr(options, parameter, None) is not None:
            raise ConfigurationError(f"stream {stream.name}: {parameter} needs a stream on demand: shards=None")


async def _create(client: ServiceClient, stream: StreamSpec) -> None:
    given: dict[str, Any] = {"Tags": dict(stream.tags)} if stream.tags else {}
    if stream.shards:
        given["ShardCount"] = stream.shards
    else:
        given["StreamModeDetails"] = {"StreamMode": "ON_DEMAND"}
    with suppress(Conflict):  # another process was first
        await _call(client, "CreateStream", stream, **given)
    await _active(client, stream)


class _Change(NamedTuple):
    """One difference, for people, and what ends it."""

    detail: str
    make: Callable[[], Awaitable[None]]


async def _changes(client: ServiceClient, stream: StreamSpec, found: dict[str, Any]) -> list[_Change]:
    """What differs, in the order in which it is changed."""
    changes = [*_changes_of_size(client, stream, found), *await _changes_of_tags(client, stream)]
    options = option_of(stream.options, KinesisOptions)
    return changes if options is None else changes + _changes_of_options(client, stream, options, found)


def _changes_of_size(client: ServiceClient, stream: StreamSpec, found: dict[str, Any]) -> Iterator[_Change]:
    hours, kept = round(stream.retention / timedelta(hours=1)), found["RetentionPeriodHours"]
    on_demand = found.get("StreamModeDetails", {}).get("StreamMode") == "ON_DEMAND"
    count = found["OpenShardCount"]
    if kept != hours:
        yield _Change(
            f"retention: {kept} h -> {hours} h", functools.partial(_retain, client, stream, before=kept, hours=hours)
        )
    if on_demand != (stream.shards is None):
        mode = "on demand -> provisioned" if on_demand else "provisioned -> on demand"
        yield _Change(f"mode: {mode}", functools.partial(_change_mode, client, stream))
    if stream.shards is not None and count != stream.shards:
        yield _Change(f"shards: {count} -> {stream.shards}", functools.partial(_reshard, client, stream, count))


async def _changes_of_tags(client: ServiceClient, stream: StreamSpec) -> list[_Change]:
    """The declared tags that differ."""
    changed = await changed_tags(
        client, stream.tags, "kinesis", "ListTagsForStream", channel=stream.name, units=0, StreamName=stream.name
    )
    if not changed:
        return []
    add = _caller(client, "AddTagsToStream", stream, Tags=dict(stream.tags))
    return [_Change(describe_changes(changed), add)]


def _changes_of_options(
    client: ServiceClient, stream: StreamSpec, options: KinesisOptions, found: dict[str, Any]
) -> list[_Change]:
    changes = [
        _change_of_key(client, stream, options.encryption, found),
        *_changes_of_metrics(client, stream, options.shard_metrics, found),
        *_changes_on_demand(client, stream, options, found),
    ]
    size, before = (options.max_record_bytes or 0) // 1024, found.get("MaxRecordSizeInKiB", 1024)
    if size and size != before:
        arn = found["StreamARN"]
        make = functools.partial(
            _change_then_wait, client, "UpdateMaxRecordSize", stream, StreamARN=arn, MaxRecordSizeInKiB=size
        )
        changes.append(_Change(f"record size: {before} KiB -> {size} KiB", make))
    return [each for each in changes if each is not None]


def _changes_on_demand(
    client: ServiceClient, stream: StreamSpec, options: KinesisOptions, found: dict[str, Any]
) -> Iterator[_Change]:
    arn, warm = found["StreamARN"], found.get("WarmThroughput", {}).get("TargetMiBps", 0)
    if options.warm_throughput not in (None, warm):
        given = {"StreamARN": arn, "WarmThroughputMiBps": options.warm_throughput}
        make = functools.partial(_change_then_wait, client, "UpdateStreamWarmThroughput", stream, **given)
        yield _Change(f"warm throughput: {warm} MiB/s -> {options.warm_throughput} MiB/s", make)
    before = found.get("RecordDistributionStrategy", "USER_PARTITION_KEY")
    if options.distribution is not None and (wanted := DISTRIBUTIONS[options.distribution]) != before:
        given = {"StreamARN": arn, "RecordDistributionStrategy": wanted}
        make = functools.partial(_change_then_wait, client, "UpdateStreamRecordDistributionStrategy", stream, **given)
        yield _Change(f"distribution: {before} -> {wanted}", make)


def _change_of_key(client: ServiceClient, stream: StreamSpec, key: str | None, found: dict[str, Any]) -> _Change | None:
    before = found.get("KeyId") or ""
    if key is None or key == before:
        return None
    operation = "StartStreamEncryption" if key else "StopStreamEncryption"
    make = functools.partial(
        _change_then_wait, client, operation, stream, StreamName=stream.name, EncryptionType="KMS", KeyId=key or before
    )
    return _Change(f"encryption: {before or 'none'} -> {key or 'none'}", make)


def _changes_of_metrics(
    client: ServiceClient, stream: StreamSpec, metrics: Sequence[ShardMetric] | None, found: dict[str, Any]
) -> Iterator[_Change]:
    """Those that are missing are switched on, those that are not declared off."""
    if metrics is None:
        return
    before = {name for each in found.get("EnhancedMonitoring", ()) for name in each.get("ShardLevelMetrics", ())}
    wanted = set(SHARD_METRICS if "ALL" in metrics else metrics)
    for verb, names in (("Enable", wanted - before), ("Disable", before - wanted - {"ALL"})):
        if names:
            make = functools.partial(
                _change_then_wait,
                client,
                f"{verb}EnhancedMonitoring",
                stream,
                StreamName=stream.name,
                ShardLevelMetrics=sorted(names),
            )
            yield _Change(f"shard metrics: {verb.lower()} {', '.join(sorted(names))}", make)


def _caller(
    client: ServiceClient, operation: str, stream: StreamSpec, **parameters: Any
) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        await _call(client, operation, stream, **parameters)

    return call


async def _change_then_wait(client: ServiceClient, operation: str, stream: StreamSpec, **parameters: Any) -> None:
    await client.call("kinesis", operation, channel=stream.name, units=0, **parameters)
    await _active(client, stream)


async def _retain(client: ServiceClient, stream: StreamSpec, *, before: int, hours: int) -> None:
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
