"""The window of a shard: order per lane, and a checkpoint that passes nothing undone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eip.streams.log import HORIZON, Position, Record
from eip.streams.window import Slot, Window


def record(number: int, key: str = "k", *, part: int = 0, last: bool = True) -> Record:
    return Record(str(number), key, float(number), 10, b"", part, last)


def take(window: Window) -> Slot:
    slot = window.take()
    assert slot is not None
    return slot


def test_a_lane_hands_out_one_after_the_other():
    window = Window(HORIZON, lambda key: key)
    window.add([record(1, "a"), record(2, "a"), record(3, "b")])
    first, other = take(window), take(window)
    assert (first.record.sequence, other.record.sequence) == ("1", "3")
    assert window.take() is None
    window.back([first])
    again = take(window)
    assert (again, again.attempts) == (first, 2)
    window.done([again])
    assert take(window).record.sequence == "2"


def test_the_checkpoint_waits_for_the_oldest():
    window = Window(HORIZON, lambda key: key)
    window.add([record(1, "a"), record(2, "b"), record(3, "c")])
    a, b, c = (take(window) for _ in range(3))
    window.done([c])
    window.done([b])
    assert (window.checkpoint, window.oldest, window.bytes) == (HORIZON, 1.0, 30)
    window.done([a])
    assert (window.checkpoint, window.oldest, window.bytes, window.out) == (Position(sequence="3"), None, 0, 0)


def test_within_an_aggregate_the_checkpoint_tells_the_part():
    window = Window(HORIZON, lambda key: key)
    window.add([record(1, str(part), part=part, last=part == 2) for part in range(3)])
    window.done([take(window)])
    assert window.checkpoint == Position(sequence="1", part=0)
    window.done([take(window)])
    window.done([take(window)])
    assert window.checkpoint == Position(sequence="1")


def test_what_is_done_ahead_of_the_checkpoint_is_not_done_again():
    window = Window(HORIZON, lambda key: key)
    records = [record(number, "abc"[number % 3]) for number in range(6)]
    window.add(records)
    _, b, c = (take(window) for _ in range(3))
    window.done([b])
    window.done([c])
    assert (window.done_ahead(9), window.done_ahead(1)) == (["1:0", "2:0"], ["1:0"])
    following = Window(window.checkpoint, lambda key: key, window.done_ahead(9))
    following.add(records)
    assert [take(following).record.sequence for _ in range(3)] == ["0", "4", "5"]
    whole = Window(HORIZON, lambda key: key, ["0:0", "1:0"])
    whole.add(records[:2])
    assert (whole.checkpoint, len(whole), whole.ahead) == (Position(sequence="1"), 0, set())


def test_a_lane_held_for_later_stays_busy_and_is_not_out():
    window = Window(HORIZON, lambda key: key)
    window.add([record(1), record(2)])
    slot = take(window)
    window.hold(slot)
    assert (window.out, window.take()) == (0, None)
    window.back([slot], held=True)
    assert take(window) is slot


@given(st.lists(st.sampled_from("abc"), max_size=30), st.randoms(use_true_random=False), st.integers(1, 3))
def test_every_record_is_done_once_in_the_order_of_its_lane(keys, dice, size):
    window = Window(HORIZON, lambda key: ord(key) % 2)
    rest = [record(number, key) for number, key in enumerate(keys)]
    out: list[list[Slot]] = []
    done: list[Record] = []
    while rest or out or len(window):
        step = dice.randrange(3)
        if step == 0 and rest:
            window.add([rest.pop(0)])
        elif step == 1:
            taken = window.take_lane(dice.randrange(2), size)
            if taken:
                out.append(taken)
        elif out:
            slots = out.pop(dice.randrange(len(out)))
            if dice.random() < 0.3:
                window.back(slots)
            else:
                window.done(slots)
                done += [slot.record for slot in slots]
        undone = [number for number in range(len(keys)) if not any(each.sequence == str(number) for each in done)]
        first = undone[0] if undone else len(keys)
        assert window.checkpoint == (HORIZON if first == 0 else Position(sequence=str(first - 1)))
    for lane in (0, 1):
        numbers = [int(each.sequence) for each in done if ord(each.key) % 2 == lane]
        assert numbers == sorted(numbers)
    assert len(done) == len(keys)
    assert window.bytes == window.out == 0
