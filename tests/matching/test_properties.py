"""The compiled matcher against the interpreter of the specification, and many rules at once against one by one."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from eip.errors import InvalidPattern
from eip.matching import EventPattern, FilterPolicy, RuleSet
from tests.matching import interpreter
from tests.matching.rule_sets import indexed_rules

KEYS = st.sampled_from(["a", "b", "c", "a.b", "é"])
TEXTS = st.sampled_from(["", "x", "xy", "xyx", "X", "300", "10.0.0.5", "10.0.0.05", "a*b", "é", "É"])
NUMBERS = st.sampled_from([0, 1, -1, 300, 300.0, 0.1, 1e22, 2**53 + 1])
SCALARS = TEXTS | NUMBERS | st.booleans() | st.none()
COMPARABLE = st.sampled_from([0, 1, -1, 300, 0.5])
WILDCARDS = st.sampled_from(["*", "x*", "*x", "x*x", "*y*", "a\\*b", ""])
MATCHERS = st.one_of(
    SCALARS,
    st.builds(lambda text: {"prefix": text}, TEXTS),
    st.builds(lambda text: {"suffix": text}, TEXTS),
    st.builds(lambda text: {"exactly": text}, TEXTS),
    st.builds(lambda text: {"equals-ignore-case": text}, TEXTS),
    st.builds(lambda text: {"wildcard": text}, WILDCARDS),
    st.builds(lambda exists: {"exists": exists}, st.booleans()),
    st.builds(lambda sign, value: {"numeric": [sign, value]}, st.sampled_from(["=", "<", "<=", ">", ">="]), COMPARABLE),
    st.builds(lambda low, size: {"numeric": [">", low, "<=", low + size]}, COMPARABLE, st.sampled_from([1, 300])),
    st.builds(
        lambda unwanted: {"anything-but": unwanted}, TEXTS | COMPARABLE | st.lists(TEXTS, min_size=1, max_size=2)
    ),
    st.builds(lambda text: {"anything-but": {"prefix": text}}, TEXTS.filter(bool)),
    st.builds(lambda text: {"anything-but": {"wildcard": text}}, WILDCARDS),
)
FIELDS = st.lists(MATCHERS, min_size=1, max_size=3)
PATTERNS: st.SearchStrategy[Any] = st.recursive(
    st.dictionaries(KEYS, FIELDS, min_size=1, max_size=3),
    lambda inner: st.one_of(
        st.dictionaries(KEYS, inner | FIELDS, min_size=1, max_size=3),
        st.builds(
            lambda one, two, more: {**more, "$or": [one, two]}, inner, inner, st.dictionaries(KEYS, FIELDS, max_size=1)
        ),
    ),
    max_leaves=4,
)
EVENTS = st.dictionaries(
    KEYS,
    st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
    ),
    max_size=4,
)


@settings(max_examples=300)
@given(PATTERNS, EVENTS)
def test_the_compiled_matcher_is_the_specification(pattern, event):
    expected = interpreter.matches(pattern, event)
    compiled = EventPattern(pattern)
    assert compiled.matches(event) == expected
    assert compiled.matches(json.dumps(event)) == expected
    assert compiled._matcher.matches_flat(event) == expected


@settings(max_examples=60)
@given(
    st.lists(PATTERNS, min_size=1, max_size=12),
    st.lists(EVENTS, min_size=1, max_size=4),
    st.sets(st.integers(0, 11)),
    st.booleans(),
)
def test_a_rule_set_says_what_its_patterns_say_one_by_one(patterns, events, removed, indexed):
    rules = indexed_rules() if indexed else RuleSet()
    for number, pattern in enumerate(patterns):
        rules.add(str(number), pattern)
    for number in removed:
        rules.remove(str(number))
    for event in events:
        expected = {
            str(number)
            for number, pattern in enumerate(patterns)
            if number not in removed and EventPattern(pattern).matches(event)
        }
        assert rules.match(event) == expected
        assert rules.match(json.dumps(event)) == expected


@given(PATTERNS, EVENTS)
def test_a_policy_on_the_body_is_the_pattern_where_sns_knows_its_operators(pattern, event):
    try:
        policy = FilterPolicy(pattern, scope="MessageBody")
    except InvalidPattern:
        return
    assert policy.matches(body=event) == interpreter.matches(pattern, event)


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["prefix", "numeric", "$or"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["a", "prefix", "anything-but", "numeric", "cidr", "exists", "$or", "wildcard"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300)
@given(JUNK)
def test_any_json_is_a_pattern_or_an_invalid_one(junk):
    try:
        text = json.dumps(junk, allow_nan=False)
    except ValueError:
        return
    for make in (EventPattern, FilterPolicy):
        try:
            make(text)
        except InvalidPattern:
            continue
