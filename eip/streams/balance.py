"""Who should read which shard: a pure function of what a worker sees of the leases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = ["Moves", "Seen", "balance"]


class Seen(NamedTuple):
    """A shard that can be read now, as one worker sees it."""

    shard: str
    owner: str | None
    """None where it is free: never taken, given up, or its owner has gone silent."""
    wanted_by: str | None = None


class Moves(NamedTuple):
    """What the worker does next."""

    take: Sequence[str]
    """Free shards to take."""
    ask: Sequence[str]
    """Shards to ask their owners for."""


def balance(me: str, shards: Iterable[Seen]) -> Moves:
    """What brings the worker its share.

    Free shards are taken up to the fair share, rounded up. With none free, shards are asked for (stealing) of whoever
    has most, until this worker has its share rounded down and nobody more than it rounded up, so that shards come to
    rest.
    """
    seen = sorted(shards)
    load = Counter(each.owner for each in seen if each.owner is not None)
    coming = Counter(each.wanted_by for each in seen if each.wanted_by is not None and each.owner is not None)
    workers = {me, *load, *coming}
    least, rest = divmod(len(seen), len(workers))
    most = least + bool(rest)
    mine = load[me] + coming[me]
    free = [each.shard for each in seen if each.owner is None]
    take = free[: max(most - load[me], 0)]
    mine += len(take)
    ask: list[str] = []
    theirs = {owner: [] for owner in load if owner != me}  # type: dict[str, list[str]]
    for each in seen:
        if each.owner in theirs and each.wanted_by is None:
            theirs[each.owner].append(each.shard)
    kept = Counter(
        {owner: load[owner] - sum(e.owner == owner and e.wanted_by is not None for e in seen) for owner in theirs}
    )
    while theirs:
        richest = max(theirs, key=lambda owner: (kept[owner], owner))
        wanted = (mine < least and kept[richest] > least) or (mine < most and kept[richest] > most)
        if not wanted or not theirs[richest]:
            break
        ask.append(theirs[richest].pop())
        kept[richest] -= 1
        mine += 1
    return Moves(take, ask)
