"""Patterns and events of strangers take bounded work: whatever the operator, whatever the size."""

from __future__ import annotations

import json
import random
import time
from functools import cache
from typing import Any

import hypothesis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eip.errors import DecodeError, InvalidPattern
from eip.matching import EventPattern, FilterPolicy, RuleSet
from tests.matching.rule_sets import indexed_rules

A_MOMENT = 2.0
"""Seconds of this process's own time; what is refused or bounded takes a tenth of that, what is not takes minutes."""

MB = 1024 * 1024
LETTERS = "".join(chr(0x4E00 + number) for number in range(4000))


def several(operator: str, texts: list[Any]) -> dict[str, Any]:
    return {"a": [{operator: text} for text in texts]}


def branches(number: int, field: Any) -> dict[str, Any]:
    return {"$or": [{"a": field, f"b{each}": ["x"]} for each in range(number)]}


PATTERNS: dict[str, Any] = {
    "wildcards of many letters": several("wildcard", [f"*{LETTERS[at : at + 300]}*" for at in range(0, 2700, 300)]),
    "suffix wildcards": several("wildcard", [f"*{each}{each}x" for each in LETTERS[:1500]]),
    "infix wildcards": several("wildcard", [f"a{each}*b*c" for each in LETTERS[:1500]]),
    "nested prefixes": several("wildcard", ["a" * number + "*b" for number in range(1, 200)]),
    "repetitive": several("wildcard", ["*" + "ab" * 4000, "*" + "ba" * 4000]),
    "many stars": several("wildcard", ["a*" * 6000 + "b"]),
    "one wildcard again and again": several("wildcard", ["*a*b*"] * 2000),
    "unwanted wildcards": {"a": [{"anything-but": {"wildcard": [f"*{each}" for each in LETTERS[:2000]]}}]},
    "a suffix in any case": several("suffix", [{"equals-ignore-case": "a" * 4000}]),
    "suffixes in any case": several("suffix", [{"equals-ignore-case": "a" * number} for number in range(1, 230)]),
    "prefixes in any case": several("prefix", [{"equals-ignore-case": "a" * number} for number in range(1, 230)]),
    "equal in any case": several("equals-ignore-case", ["ß" * number for number in range(1, 230)]),
    "unwanted in any case": {"a": [{"anything-but": {"equals-ignore-case": ["a" * n for n in range(1, 230)]}}]},
    "prefixes": several("prefix", [f"{number}" for number in range(2000)]),
    "suffixes": several("suffix", [f"{number}" for number in range(2000)]),
    "addresses": {"a": [f"10.{number >> 8}.{number & 255}.1" for number in range(2000)]},
    "blocks": several("cidr", [f"10.{number >> 8}.{number & 255}.0/24" for number in range(1200)]),
    "ranges": several("numeric", [["<", number] for number in range(1200)]),
    "unwanted values": {"a": [{"anything-but": list(range(4000))}]},
    "unwanted lists": several("anything-but", [[number, number + 1] for number in range(1000)]),
    "branches that scan": branches(900, [{"wildcard": "*x*y*"}]),
    "branches that fold": branches(400, [{"suffix": {"equals-ignore-case": "a" * 30}}]),
    "branches by the hundred": {f"k{n}": {"$or": [{"x": ["1"]}, {"y": ["2"]}]} for n in range(9)}
    | {f"a{number}": ["x"] for number in range(1500)},
    "a path of dots": {".".join("a" * 3000): ["x"]},
    "deep": json.dumps({"a": ["x"]}).join(('{"a":' * 150, "}" * 150)),
    "elements that go together": {"a": {letter: [{"exists": True}] for letter in "bcdef"}},
    "elements that do not": {"a": {letter: [{"exists": False}, "x"] for letter in "bcdef"}},
    "fields by the thousand": {"a": {f"f{number}": ["x"] for number in range(2000)}},
    "large": {"a": ["x" * (255 * 1024)]},
}

EVENTS: dict[str, Any] = {
    "one letter": {"a": "a" * MB},
    "two letters": {"a": "ab" * (MB // 2)},
    "wide letters": {"a": LETTERS * 60},
    "many texts": {"a": [f"a{number}" for number in range(100_000)]},
    "many like texts": {"a": ["a" * 100] * 10_000},
    "many sharp letters": {"a": ["ß" * 100, "SS" * 100] * 3000},
    "many numbers": {"a": list(range(150_000))},
    "odd numbers": json.dumps({"a": [0]}).replace("0", ",".join(["1e-400", "9" * 300, "0e999999999"] * 300)),
    "addresses": {"a": [f"10.1.{number & 255}.1" for number in range(60_000)]},
    "elements": {"a": [dict.fromkeys("bcdef"[: 1 + number % 5], "x") for number in range(20_000)]},
    "odd elements": {"a": [{"b" if number % 2 else "c": number} for number in range(40_000)]},
    "arrays of arrays": {"a": [[[{"b": 1}, {"c": 2}] * 10] * 10] * 100},
    "deep arrays": json.dumps({"a": 1}).replace("1", "[" * 700 + "1" + "]" * 700),
    "deep objects": '{"a":' * 700 + "1" + "}" * 700,
    "long keys, deep": '{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaa":' * 700 + "1" + "}" * 700,
    "long keys, wide": json.dumps({"a" * 13_000: {f"{number}": 1 for number in range(50_000)}}),
    "doubled keys": "{" + ",".join('"a":{"b":1}' for _ in range(50_000)) + "}",
    "dotted keys": json.dumps({".".join("a" * 200): "x"}),
    "huge integers": {"a": [10**5000, -(10**5000)] * 20},
}


def some(choices: dict[str, Any], seed: str) -> list[tuple[str, Any]]:
    """A quarter of them, others for each seed; all of them when hypothesis is to look for long."""
    long = hypothesis.settings.get_current_profile_name() == "soak"
    return random.Random(seed).sample(list(choices.items()), len(choices) // (1 if long else 4))


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_of_any_size_is_compiled_and_evaluated_in_bounded_time(name):
    """Fault 9a: refused, or evaluated within a bound, for every operator and every event."""
    begun = time.process_time()
    try:
        pattern = EventPattern(PATTERNS[name])
    except InvalidPattern:
        return
    finally:
        assert time.process_time() - begun < A_MOMENT
    for event, given_event in some(EVENTS, name):
        begun = time.process_time()
        pattern.matches(given_event)
        assert time.process_time() - begun < A_MOMENT, event


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_of_any_form_is_matched_with_all_of_them_in_bounded_time(name):
    """Fault 9a: the same in a rule set, a rule at a time."""
    for _, pattern in some(PATTERNS, name):
        rules = indexed_rules()
        try:
            rules.add("rule", pattern)
        except InvalidPattern:
            continue
        begun = time.process_time()
        rules.match(EVENTS[name])
        assert time.process_time() - begun < A_MOMENT


@pytest.mark.parametrize("event", ["one letter", "two letters", "many like texts", "elements", "odd elements"])
def test_many_rules_that_cost_much_are_bounded_together(event):
    """Fault 9a: whatever their number; those that cost little match all the same, wherever they stand."""
    rules = RuleSet()
    for number in range(1000):
        rules.add(f"costly {number}", {"a": [{"wildcard": f"*a*{number}x"}, {"suffix": f"{number}y"}]})
        rules.add(f"many tests {number}", {"a": [{"anything-but": [number, number + 1]}], "y": ["no"]})
        rules.add(f"joined {number}", {"a": {letter: [{"anything-but": [number]}] for letter in "bcdef"}, "z": ["no"]})
        if number % 400 == 0:
            rules.add(f"cheap {number}", {"z": [{"exists": True}]})
    given = {**EVENTS[event], "z": "yes"}
    begun = time.process_time()
    names = rules.match(given)
    assert time.process_time() - begun < A_MOMENT
    assert names >= {"cheap 0", "cheap 400", "cheap 800"}


def test_policies_are_bounded_likewise():
    """Fault 9a: on attributes and on bodies of a megabyte."""
    attributes = {
        "a": {"Type": "String.Array", "Value": json.dumps([f"a{number}" for number in range(80_000)])},
        "b": {"Type": "String", "Value": "ab" * (MB // 2)},
        "c": {"Type": "Number", "Value": "9" * MB},
    }
    for operator in ("prefix", "suffix", "equals-ignore-case", "cidr"):
        for key in "abc":
            operands = [f"10.0.{number}.0/24" if operator == "cidr" else "a" for number in range(99)]
            policy = FilterPolicy({key: [{operator: each} for each in operands]})
            begun = time.process_time()
            policy.matches(attributes=attributes)
            FilterPolicy(policy.text, scope="MessageBody").matches(body=json.dumps({"a": "a" * MB}))
            assert time.process_time() - begun < A_MOMENT


def test_what_is_too_complex_is_refused():
    """Fault 9a: by a reason, before anything is evaluated."""
    for pattern in (
        branches(999, [{"prefix": str(number)} for number in range(200)]),
        PATTERNS["branches by the hundred"],
        {".".join("a" * 300): ["x"]},
        {"a": ["x" * (257 * 1024)]},
    ):
        with pytest.raises(InvalidPattern, match=r"too complex|not supported|are supported"):
            EventPattern(pattern)


def test_large_ordinary_patterns_and_events_still_match():
    """The bounds are far from what rules and events are made of."""
    names = [f"name-{number}" for number in range(2000)]
    assert EventPattern({"a": names}).matches({"a": names[::-1]})
    assert EventPattern(several("wildcard", [f"{name}-*" for name in names])).matches({"a": "name-1999-x"})
    assert EventPattern(several("wildcard", [f"*.{name}" for name in names[:150]])).matches({"a": "file.name-149"})
    assert EventPattern(several("prefix", [f"{name}-" for name in names])).matches({"a": "name-1999-x"})
    items = [{"sku": f"sku-{number}", "count": number} for number in range(20_000)]
    wanted = {"items": {"sku": ["sku-19999"], "count": [{"numeric": [">", 19_998]}]}}
    assert EventPattern(wanted).matches({"items": items})
    assert EventPattern(wanted).matches(json.dumps({"items": items}))
    assert not EventPattern({"items": {"sku": ["sku-7"], "count": [8]}}).matches({"items": items})


@pytest.mark.parametrize(
    ("text", "value", "matches"),
    [
        ("straße", "STRASSE", True),
        ("strasse", "straße", False),
        ("ß", "sS", False),
        ("ŉa", "\u02bcNA", True),
        ("İ", "i\u0307", True),
        ("ΐ", "\u0399\u0308\u0301", True),
        ("", "", True),
        ("𐐀", "𐐨", True),
    ],
)
def test_case_that_changes_lengths(text, value, matches):
    assert EventPattern(several("equals-ignore-case", [text])).matches({"a": value}) == matches
    for operator, padded in (("prefix", f"{value}zzz"), ("suffix", f"zzz{value}")):
        pattern = EventPattern(several(operator, [{"equals-ignore-case": text}]))
        assert pattern.matches({"a": padded}) == (matches or not text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.builds(lambda: 10**4999),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "a.b", "", "."]), inner),
    max_leaves=12,
)


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(["a", "b", "a.b", "", "."]), VALUES), st.integers(0, 2**32))
def test_no_event_makes_a_pattern_fail(event, seed):
    """Fault 9a: an event matches or does not, however odd it is."""
    name = random.Random(seed).choice(sorted(PATTERNS))
    if (pattern := compiled(name)) is not None:
        assert pattern.matches(event) in (True, False)


@cache
def compiled(name: str) -> EventPattern | None:
    """The pattern, compiled once for all events; None where it is refused."""
    try:
        return EventPattern(PATTERNS[name])
    except InvalidPattern:
        return None


@pytest.mark.parametrize(
    "event", ['{"a":' + "[" * 100_000, '{"a":[' + "9" * 100_000 + "]}", '{"a":"\\ud800"}', "[" * 9, '{"a":NaN}']
)
def test_odd_texts_are_events_or_decode_errors(event):
    try:
        assert EventPattern({"a": ["x"]}).matches(event) is False
    except DecodeError:
        return
