"""The conclusions of `diagnose`: where the load is uneven, and who is late because of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from eip.streams._report import Diagnosis, Finding, GroupLag, KeyShare, ShardLoad
from eip.streams.log import ShardLimits

__all__ = ["conclude"]

_HOT: Final = 2.0
"""Times the mean of the other shards."""
_HOT_KEY: Final = 0.5
"""Of its shard's records."""
_LEAST: Final = 20
"""Records that a shard must have got before its load means anything."""
_FULL, _BUSY = 0.8, 0.5
"""Of what a shard takes."""


class Load:
    """The shards of a stream beside each other."""

    def __init__(self, shards: Sequence[ShardLoad], limits: ShardLimits | None) -> None:
        self.by_id = {each.shard: each for each in shards}
        self._limits = limits
        self.hot = {each.shard: ratio for each in shards if (ratio := self._ratio(each)) >= _HOT}
        """How many times the mean of the others each hot shard gets."""

    def _ratio(self, shard: ShardLoad) -> float:
        others = [each for each in self.by_id.values() if each.shard != shard.shard]
        if not others or shard.records < _LEAST:
            return 0.0
        records = sum(each.records_per_second for each in others) / len(others)
        size = sum(each.bytes_per_second for each in others) / len(others)
        return max(
            shard.records_per_second / records if records else _HOT,
            shard.bytes_per_second / size if size else 0.0,
        )

    def use(self, shard: str) -> float | None:
        """The part of what the shard takes that it gets, where its limits are known."""
        if self._limits is None:
            return None
        load = self.by_id[shard]
        return max(load.puts_per_second / self._limits.records, load.bytes_per_second / self._limits.bytes)

    def hot_key(self, shard: str) -> KeyShare | None:
        """The key that has most of the shard's records."""
        load = self.by_id.get(shard)
        if load is None or load.records < _LEAST or not load.keys or load.keys[0].share < _HOT_KEY:
            return None
        return load.keys[0]

    @property
    def full(self) -> bool:
        """Whether all shards are near what they take."""
        return bool(self.by_id) and all((self.use(each) or 0.0) >= _FULL for each in self.by_id)


def conclude(
    stream: str,
    shards: Sequence[ShardLoad],
    groups: Sequence[GroupLag],
    *,
    limits: ShardLimits | None,
    max_age: float,
) -> Diagnosis:
    """The whole report."""
    load = Load(shards, limits)
    judged = tuple(replace(each, finding=_of_group(each, load, max_age)) for each in groups)
    finding = _overall(load, judged)
    return Diagnosis(
        stream=stream,
        shards=tuple(replace(each, use=load.use(each.shard)) for each in shards),
        groups=judged,
        finding=finding,
        advice=_advice(finding, load, judged, max_age),
    )


def _of_group(group: GroupLag, load: Load, max_age: float) -> Finding:
    late = _late(group.ages, max_age)
    if not late:
        return "healthy"
    if all(each in load.hot for each in late) or len(group.ages) == 1:
        if any(load.hot_key(each) for each in late):
            return "hot key"
        if any(each in load.hot for each in late):
            return "hot shard"
    return "slow consumer" if 2 * len(late) > len(group.ages) or len(group.ages) == 1 else "stuck shard"


def _late(ages: Mapping[str, float], max_age: float) -> list[str]:
    return [shard for shard, age in ages.items() if age > max_age]


def _overall(load: Load, groups: Sequence[GroupLag]) -> Finding:
    found = {each.finding for each in groups}
    if "hot key" in found or "hot shard" in found:
        return "hot key" if "hot key" in found else "hot shard"
    if load.full:
        return "too few shards"
    for finding in ("slow consumer", "stuck shard"):
        if finding in found:
            return finding
    hot = [each for each in load.hot if (load.use(each) or 0.0) >= _BUSY or (not groups and load.use(each) is None)]
    if hot:
        return "hot key" if any(map(load.hot_key, hot)) else "hot shard"
    return "healthy" if any(each.records for each in load.by_id.values()) else "idle"


def _advice(finding: Finding, load: Load, groups: Sequence[GroupLag], max_age: float) -> str:
    """One sentence."""
    late = [each for each in groups if each.finding == finding]
    hot = sorted(load.hot, key=load.hot.__getitem__, reverse=True)
    match finding:
        case "hot key":
            text = _hot_key_advice(load, hot)
        case "hot shard":
            text = f"Split shard {hot[0]}: it gets {load.hot[hot[0]]:.1f} times the mean of the others, over many keys."
        case "too few shards":
            text = f"Add shards: each of the {len(load.by_id)} gets more than {_FULL:.0%} of what a shard takes."
        case "slow consumer":
            text = (
                f"Make the group {late[0].group} faster, which is more than {max_age:g} s late though no shard is hot: "
                f"raise its batch size or parallelization, or add workers ({late[0].workers} for {len(late[0].ages)} "
                "shards)."
            )
        case "stuck shard":
            text = (
                f"Look for a record that fails, or a worker that is blocked: the group {late[0].group} is late at "
                f"{', '.join(_late(late[0].ages, max_age))} alone, which is not hot."
            )
        case "idle":
            text = "Nothing came: look at the producers, or take a longer window."
        case "healthy":
            text = "Nothing is to be done: the shards have room, and no group is late."
    return text


def _hot_key_advice(load: Load, hot: Sequence[str]) -> str:
    shard, key = next((each, key) for each in (*hot, *load.by_id) if (key := load.hot_key(each)) is not None)
    return (
        f"Divide the key {key.key!r} where it is sent (eip.streams.KeySubdivider): it has {key.share:.0%} of shard "
        f"{shard}, and no lever of a consumer splits a key."
    )
