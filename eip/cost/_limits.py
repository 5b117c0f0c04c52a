"""Reasons why a service cannot carry a flow: its quotas, and abilities that it lacks."""

from __future__ import annotations

import math
from collections.abc import Iterator

from eip.cost._carried import Load
from eip.cost.alternatives import Packing
from eip.cost.profile import Profile
from eip.cost.services import quota

__all__ = ["broker_limits", "bus_limits", "fifo_limits", "lost", "needs_fan_out", "shards", "stream_limits", "unfit"]


def unfit(profile: Profile, service: str, *, fifo: bool) -> Iterator[str]:
    """Why a service cannot carry the flow as described."""
    if profile.ordered and not fifo:
        yield "order is not kept"
    most = quota(service, "message_bytes")
    if profile.size > most:
        yield f"a message has at most {most:,} bytes (claim check)"
    days = quota("kinesis" if service == "kinesis" else "sqs", "retention_days")
    if service != "mq" and profile.retention_days > days and not (service == "eventbridge" and profile.replay):
        yield f"kept for at most {days} days"
    if service == "kinesis" and quota("kinesis", "cheap_retention_days") < profile.retention_days <= days:
        yield "more than 7 days are priced by the gigabyte, which is not counted here"
    if profile.replay and service in ("sqs", "sns", "mq"):
        yield "no replay"


def fifo_limits(profile: Profile, service: str, carried: Load) -> Iterator[str]:
    """Quotas of FIFO channels that the flow meets."""
    most, wanted = quota(service, "fifo_per_second"), profile.busiest * carried.per_message
    if wanted > most:
        yield f"{wanted:,.0f} a second; FIFO: {most:,}"
    elif service == "sqs" and wanted > (plain := quota("sqs", "fifo_per_second_by_default")):
        yield f"{wanted:,.0f} a second; FIFO: {plain:,} without high throughput (deduplication_scope='group')"
    at_once = quota("sqs", "fifo_groups_in_flight")
    if profile.groups > at_once:
        yield f"{at_once:,} messages of a FIFO queue in flight"


def bus_limits(profile: Profile, carried: Load) -> Iterator[str]:
    """Quotas of a bus that the flow meets."""
    most, wanted = quota("eventbridge", "per_second"), profile.busiest * carried.per_message
    if wanted > most:
        yield f"{wanted:,.0f} PutEvents a second; {most:,} by default"
    per_rule, rules = quota("eventbridge", "targets_per_rule"), quota("eventbridge", "rules")
    if profile.endpoints > per_rule * rules:
        yield f"{profile.endpoints:,} targets; a bus has {per_rule * rules:,}: fan out by SNS behind it"
    elif profile.endpoints > per_rule:
        yield f"more than {per_rule} targets: several rules, or SNS behind one"


def broker_limits(profile: Profile) -> Iterator[str]:
    """The load beyond one mq.m5.large, by assumption: its network has 10 Gbit/s, the rest is an assumption."""
    handled = profile.busiest * (1 + profile.consumers)
    if handled > (most := quota("mq", "broker_per_second")):
        yield f"{handled:,.0f} in and out a second; one mq.m5.large is assumed to carry {most:,}: measure it"
    if handled * profile.size > quota("mq", "broker_bytes"):
        yield "more bytes than the network of one mq.m5.large carries"


def shards(profile: Profile, carried: Load) -> int:
    """Shards that the busiest second needs: bytes and records in, bytes out where consumers share them."""
    records = profile.busiest * carried.per_message
    size = records * carried.size
    needs = [size / quota("kinesis", "shard_in_bytes"), records / quota("kinesis", "shard_in_records"), 1]
    if not needs_fan_out(profile):
        needs.append(size * profile.consumers / quota("kinesis", "shard_out_bytes"))
    return math.ceil(max(needs))


def needs_fan_out(profile: Profile) -> bool:
    """Whether there are more consumers than may poll a shard once a second."""
    return profile.consumers > quota("kinesis", "shard_reads")


def stream_limits(profile: Profile, count: int) -> Iterator[str]:
    """The shards that a stream needs for the flow."""
    if needs_fan_out(profile):
        yield f"more than {quota('kinesis', 'shard_reads')} consumers: enhanced fan-out"
    if count > 1:
        yield f"{count:,} shards"


def lost(profile: Profile, packing: Packing, *lost: str, fifo: bool) -> Iterator[str]:
    """Abilities of other ways that this one lacks."""
    yield from lost
    if not fifo:
        yield "order"
    if packing:
        yield f"immediacy, up to {profile.linger:g} s until a pack is full"
        yield "readers without this library"
