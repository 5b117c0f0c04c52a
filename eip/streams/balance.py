"""The fair share of shards, as a pure function of what a worker sees of the leases."""

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
    """The worker's next step."""

    take: Sequence[str]
    """Free shards to take."""
    ask: Sequence[str]
    """Shards to ask their owners for."""


def balance(me: str, shards: Iterable[Seen]) -> Moves:
    """The moves that bring the worker its fair share.

    Free shards are taken up to the fair share, rounded up. With none free, shards are asked for (stealing) of whoever
    has the largest number, until this worker has its share rounded down and nobody has more than it rounded up.

    Args:
        me: the worker's id.
        shards: all that can be read now.
    """
    # Each worker computes this alone, from leases that others change meanwhile. It comes to rest all the same, because
    # a move is only made where it brings the counts closer together: from one with more than the rounded-down share to
    # one with less, or from more than the rounded-up share. A difference of one shard is left as it is: whoever took
    # that shard would make the same difference the other way round, and the shard would move for ever.
    seen = sorted(shards)
    load = Counter(each.owner for each in seen if each.owner is not None)
    coming = Counter(each.wanted_by for each in seen if each.wanted_by is not None and each.owner is not None)
    workers = {me, *load, *coming}
    floor, rest = divmod(len(seen), len(workers))
    ceiling = floor + bool(rest)
    mine = load[me] + coming[me]  # what was asked for counts: it is not asked for twice
    free = [each.shard for each in seen if each.owner is None]
    take = free[: max(ceiling - load[me], 0)]
    mine += len(take)
    ask: list[str] = []
    theirs: dict[str, list[str]] = {owner: [] for owner in load if owner != me}
    for each in seen:
        if each.owner in theirs and each.wanted_by is None:
            theirs[each.owner].append(each.shard)
    kept = Counter(
        {owner: load[owner] - sum(e.owner == owner and e.wanted_by is not None for e in seen) for owner in theirs}
    )
    while theirs:
        richest = max(theirs, key=lambda owner: (kept[owner], owner))
        wanted = (mine < floor and kept[richest] > floor) or (mine < ceiling and kept[richest] > ceiling)
        if not wanted or not theirs[richest]:
            break
        ask.append(theirs[richest].pop())
        kept[richest] -= 1
        mine += 1
    return Moves(take, ask)
