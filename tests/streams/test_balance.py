"""How shards are shared out: fairly, with few moves, and coming to rest."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from eip.streams.balance import Seen, balance


def test_a_lone_worker_takes_all():
    moves = balance("me", [Seen("1", None), Seen("2", None)])
    assert moves == (["1", "2"], [])


def test_free_shards_are_taken_up_to_the_fair_share():
    seen = [Seen("1", "other"), Seen("2", None), Seen("3", None), Seen("4", None)]
    assert balance("me", seen) == (["2", "3"], [])


def test_a_newcomer_asks_the_richest():
    seen = [Seen(str(each), "a" if each < 4 else "b") for each in range(6)]
    take, ask = balance("me", seen)
    assert not take
    assert len(ask) == 2
    assert set(ask) <= {"0", "1", "2", "3"}


def test_what_was_asked_for_counts_and_is_not_asked_for_again():
    seen = [Seen("1", "a", "me"), Seen("2", "a"), Seen("3", "a"), Seen("4", "a")]
    _, ask = balance("me", seen)
    assert len(ask) == 1
    assert balance("me", [Seen("1", "a", "me"), Seen("2", "a", "me"), Seen("3", "a"), Seen("4", "a")]).ask == []


def test_one_shard_more_is_nobody_s_business():
    assert balance("me", [Seen("1", "a"), Seen("2", "a"), Seen("3", "me")]) == ([], [])


@given(st.integers(0, 40), st.integers(1, 8), st.randoms(use_true_random=False))
def test_workers_come_to_rest_with_equal_shares(shards, workers, dice):
    owner: dict[str, str | None] = {}
    owner |= {str(shard): dice.choice([None, *map(str, range(workers))]) for shard in range(shards)}
    wanted: dict[str, str] = {}
    for _ in range(30):
        before = dict(owner)
        for me in dice.sample([str(each) for each in range(workers)], workers):
            seen = [Seen(shard, owner[shard], wanted.get(shard)) for shard in owner]
            moves = balance(me, seen)
            for shard in moves.take:
                assert owner[shard] is None
                owner[shard] = me
            for shard in moves.ask:
                assert owner[shard] not in (None, me)
                wanted[shard] = me
        owner.update(wanted)
        wanted.clear()
        if owner == before:
            break
    else:
        raise AssertionError("shards keep moving")
    load = Counter(owner.values())
    counts = [load.get(str(worker), 0) for worker in range(workers)]
    assert sum(counts) == shards
    assert max(counts) - min(counts) <= 1
