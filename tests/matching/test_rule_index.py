"""The index of a rule set finds each rule that matches, and looks at few others, whatever kinds of tests rules have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eip.errors import InvalidPattern
from eip.matching import EventPattern, RuleSet
from tests.matching.rule_sets import indexed_rules
from tests.support.operations import operations

NUMBERS = st.sampled_from([-1e300, -5, -0.0, 0, 1e-300, 0.5, 1, 7, 300, 1e300]) | st.floats(-10, 10)
WORDS = st.text(alphabet="aAbßsSıIİiςΣσé", max_size=4) | st.sampled_from(["x" * 40, "x" * 32 + "y"])  # noqa: RUF001 - letters of odd cases
ADDRESSES = st.sampled_from(["10.0.0.5", "10.0.1.5", "10.1.0.0", "192.168.0.1", "::1", "2001:db8::5", "010.0.0.5"])


def pattern(kind: str, number: int) -> dict[str, Any]:
    """The rule of that number; of its kind, an event matches one of many."""
    tests: dict[str, Any] = {
        "exact": f"v{number}",
        "prefix": {"prefix": f"v{number}-"},
        "suffix": {"suffix": f"-v{number}"},
        "ignore case": {"equals-ignore-case": f"V{number}"},
        "prefix ignore case": {"prefix": {"equals-ignore-case": f"V{number}-"}},
        "numeric": {"numeric": [">=", number, "<", number + 1]},
        "cidr": {"cidr": f"10.{number // 256}.{number % 256}.0/24"},
        "wildcard": {"wildcard": f"*v{number}-*"},
        "wildcard suffix": {"wildcard": f"*-v{number}"},
        "anything-but": {"anything-but": ["same", f"v{number}"]},
        "anything-but prefix": {"anything-but": {"prefix": ["same", f"v{number}-"]}},
    }
    return {"detail": {"field": [tests[kind]]}}


EVENTS: dict[str, Any] = {
    "exact": "v77",
    "prefix": "v77-x",
    "suffix": "x-v77",
    "ignore case": "v77",
    "prefix ignore case": "v77-X",
    "numeric": 77.5,
    "cidr": "10.0.77.9",
    "wildcard": "x-v77-y",
    "wildcard suffix": "x-v77",
    "anything-but": "same",
    "anything-but prefix": "same thing",
}


def rule_set(make: Callable[[int], dict[str, Any]], count: int) -> RuleSet:
    rules = RuleSet()
    for number in range(count):
        rules.add(str(number), make(number))
    return rules


@pytest.mark.parametrize("kind", EVENTS)
def test_an_event_costs_the_same_however_many_rules_it_does_not_match(kind):
    event = {"detail": {"field": EVENTS[kind]}}
    few, many = (rule_set(lambda number: pattern(kind, number), count) for count in (100, 2000))
    assert many.match(event) == few.match(event) == (set() if kind.startswith("anything") else {"77"})
    assert operations(lambda: many.match(event)) < 2 * operations(lambda: few.match(event))


@pytest.mark.parametrize("kind", EVENTS)
def test_adding_a_rule_costs_the_same_however_many_there_are_and_removing_leaves_nothing(kind):
    few, many = (rule_set(lambda number: pattern(kind, number), count) for count in (100, 2000))
    costly = operations(lambda: many.add("new", pattern(kind, 50)))
    assert costly < 1.5 * operations(lambda: few.add("new", pattern(kind, 50)))
    for number in range(2000):
        many.remove(str(number))
    assert many.match({"detail": {"field": EVENTS[kind]}}) <= {"new"}


def all_but(number: int) -> list[Any]:
    return [{"anything-but": ["same", f"v{number}"]}]


def above(number: int) -> list[Any]:
    return [{"numeric": [">=", -1 - number]}]


SHARED: dict[str, Callable[[int], dict[str, Any]]] = {
    "value, and anything-but": lambda number: {"type": ["T"], "c": all_but(number)},
    "two values, and anything-but": lambda number: {"type": ["T"], "source": ["s"], "c": all_but(number)},
    "three values, and ranges": lambda number: {"type": ["T"], "source": ["s"], "c": ["same"], "n": above(number)},
    "anything-but, and ranges": lambda number: {"type": [{"anything-but": ["U"]}], "n": above(number)},
}


@pytest.mark.parametrize("kind", SHARED)
def test_rules_that_share_what_one_path_wants_are_told_apart_by_their_others(kind):
    """The event fits all of them in some paths, and none of them in all."""
    few, many = (rule_set(SHARED[kind], count) for count in (300, 1500))
    for changed in ({}, {"type": "U"}, {"source": "t"}, {"c": "other"}):
        event = {"type": "T", "source": "s", "c": "same", "n": -1e6, **changed}
        if not many.match(event):
            cost = operations(lambda: many.match(event))  # noqa: B023 - called at once
            assert cost < 1.5 * operations(lambda: few.match(event)), changed  # noqa: B023


def test_rules_whose_long_texts_begin_alike_can_be_removed():
    rules = indexed_rules()
    for number in range(100):
        alike = [{"prefix": "x" * 40}, {"prefix": "x" * 33}]
        rules.add(str(number), {"a": alike, "b": [{"anything-but": ["y"]}]})
    assert len(rules.match({"a": "x" * 50, "b": "x"})) == 100
    for number in range(100):
        rules.remove(str(number))
    assert rules.match({"a": "x" * 50, "b": "x"}) == set()


def test_ranges_that_overlap_are_found_by_all_that_is_in_them():
    rules = rule_set(lambda number: {"n": [{"numeric": [">", -number, "<", number]}]} if number else {"n": [0]}, 200)
    assert rules.match({"n": 10.5}) == {str(number) for number in range(11, 200)}
    assert rules.match({"n": -199}) == set()
    assert rules.match({"n": 0}) == {str(number) for number in range(200)}


def is_valid(pattern: dict[str, Any]) -> bool:
    """Wildcards may be too complex together."""
    try:
        EventPattern(pattern)
    except InvalidPattern:
        return False
    return True


TESTS = st.one_of(
    st.builds(lambda low, size: {"numeric": [">=", low, "<", low + size]}, st.floats(-9, 9), st.floats(0.5, 9)),
    st.builds(lambda sign, value: {"numeric": [sign, value]}, st.sampled_from(["<", "<=", ">", ">="]), NUMBERS),
    NUMBERS,
    ADDRESSES,
    st.builds(
        lambda address, bits: {"cidr": f"{address}/{bits}"},
        st.sampled_from(["10.0.0.0", "10.0.1.7", "192.168.0.0", "2001:db8::"]),
        st.integers(0, 31),
    ),
    st.builds(lambda text: {"prefix": text}, WORDS),
    st.builds(lambda text: {"suffix": text}, WORDS),
    st.builds(lambda text: {"equals-ignore-case": text}, WORDS),
    st.builds(lambda end, text: {end: {"equals-ignore-case": text}}, st.sampled_from(["prefix", "suffix"]), WORDS),
    st.builds(lambda one, two: {"wildcard": f"{one}*{two}"}, WORDS, WORDS),
    st.builds(lambda text: {"wildcard": f"*{text}*"}, WORDS.filter(bool)),
    st.builds(lambda values: {"anything-but": values}, st.lists(WORDS, min_size=1, max_size=3)),
    st.builds(lambda values: {"anything-but": values}, st.lists(st.integers(0, 9), min_size=1, max_size=3)),
    st.builds(
        lambda end, texts: {"anything-but": {end: texts}},
        st.sampled_from(["prefix", "suffix"]),
        st.lists(WORDS.filter(bool), min_size=1, max_size=2),
    ),
    st.builds(lambda text: {"anything-but": {"wildcard": f"{text}*"}}, WORDS),
)
LEAVES = NUMBERS | WORDS | ADDRESSES | st.booleans() | st.none() | st.integers(0, 9)
VALUES = LEAVES | st.lists(LEAVES, max_size=3) | st.lists(LEAVES, min_size=70, max_size=80)


@settings(max_examples=150)
@given(
    st.lists(st.lists(TESTS, min_size=1, max_size=3), min_size=1, max_size=25),
    st.lists(VALUES, min_size=1, max_size=4),
    st.sets(st.integers(0, 24)),
)
def test_the_index_finds_what_the_patterns_match_one_by_one(tests, values, removed):
    patterns, rules = [{"a": each} for each in tests if is_valid({"a": each})], indexed_rules()
    for number, each in enumerate(patterns):
        rules.add(str(number), each)
    for number in removed:
        rules.remove(str(number))
    for value in values:
        event = {"a": value}
        left = [number for number in range(len(patterns)) if number not in removed]
        assert rules.match(event) == {str(number) for number in left if EventPattern(patterns[number]).matches(event)}


FIELDS = st.sampled_from(
    [
        ["x"],
        ["y", "x"],
        [{"anything-but": ["x"]}],
        [{"anything-but": "y"}],
        [{"numeric": [">", 1]}],
        [{"exists": False}],
    ]
)
FEW_VALUES = st.sampled_from(["x", "y", "z", 1, 2, ["x", "y"], ["z", 2]])


@settings(max_examples=100)
@given(
    st.lists(st.dictionaries(st.sampled_from("abcdef"), FIELDS, min_size=1), min_size=1, max_size=40),
    st.lists(st.dictionaries(st.sampled_from("abcdef"), FEW_VALUES), min_size=1, max_size=6),
    st.sets(st.integers(0, 39)),
)
def test_rules_that_are_divided_are_found_and_removed_like_others(patterns, events, removed):
    rules = indexed_rules()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eip.matching._rule_index._MAX_GROUP", 1)
        for number, each in enumerate(patterns):
            rules.add(str(number), each)
    for number in removed:
        rules.remove(str(number))
    left = [number for number in range(len(patterns)) if number not in removed]
    for event in events:
        assert rules.match(event) == {str(number) for number in left if EventPattern(patterns[number]).matches(event)}
