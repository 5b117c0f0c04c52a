"""One filter, many places, the same result."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eip import Message
from eip.matching import EventPattern, FilterPolicy, as_predicate
from eip.matching.pushdown import push_down, pushed_down

ATTRIBUTES = FilterPolicy({"kind": ["a", {"prefix": "b_%"}], "size": [{"numeric": [">", 3]}]})
BODY = FilterPolicy({"n": [1]}, scope="MessageBody")
PATTERN = EventPattern({"detail": {"n": [1]}})
TYPED = EventPattern({"detail-type": ["Sold"], "detail": {"n": [1]}})
WILD = EventPattern({"detail": {"n": [{"wildcard": "a*"}]}})
ABSENT = EventPattern({"detail": {"n": [{"exists": False}]}})


@pytest.mark.parametrize(
    ("wanted", "target", "pushed", "exact"),
    [
        (ATTRIBUTES, "sns", ATTRIBUTES.text, True),
        (BODY, "sns", '{"n": [1]}', True),
        (PATTERN, "sns", '{"n": [1]}', True),
        (TYPED, "sns", None, False),
        (WILD, "sns", None, False),
        (ABSENT, "sns", None, False),
        (TYPED, "eventbridge", TYPED.text, True),
        (BODY, "eventbridge", '{"detail": {"n": [1]}}', True),
        (ATTRIBUTES, "eventbridge", None, False),
        (BODY, "lambda-sqs", '{"body": {"n": [1]}}', True),
        (PATTERN, "lambda-kinesis", '{"data": {"n": [1]}}', True),
        (PATTERN, "lambda-mq", '{"data": {"n": [1]}}', True),
        (PATTERN, "lambda-kafka", '{"value": {"n": [1]}}', True),
        (ATTRIBUTES, "lambda-sqs", None, False),
        (ABSENT, "lambda-sqs", None, False),
        (BODY, "jms", None, False),
        (PATTERN, "jms", None, False),
    ],
)
def test_what_is_pushed_and_what_stays(wanted, target, pushed, exact):
    found = push_down(wanted, target)
    assert found.pushed == pushed
    assert (found.local is None) is exact
    assert ("there" if pushed else "here") in found.explain()
    assert found.explain().endswith(f"as {found.reason}.")


def test_a_selector_sorts_out_and_the_filter_decides():
    found = push_down(ATTRIBUTES, "jms")
    assert found.pushed == "(kind = 'a' OR kind LIKE 'b\\_\\%%' ESCAPE '\\' OR kind LIKE '[%') AND size IS NOT NULL"
    assert found.local is ATTRIBUTES


def test_a_selector_cannot_be_injected_into():
    found = push_down(FilterPolicy({"kind": ["' OR 1=1 --"], "a OR 1=1": ["x"]}), "jms")
    assert found.pushed == "(kind = ''' OR 1=1 --' OR kind LIKE '[%')"


def test_a_predicate_stays():
    assert [each.pushed for each in pushed_down(lambda message: True)] == [None] * 7


VALUES = st.sampled_from(["a", "b_%x", "bx", "c", "", 4, 3, ["a"], ["x"], True])


@given(st.dictionaries(st.sampled_from(["kind", "size"]), VALUES, min_size=1))
def test_what_passes_the_filter_passes_the_selector(attributes):
    selector = push_down(ATTRIBUTES, "jms").pushed or ""
    if as_predicate(ATTRIBUTES)(Message(1, attributes=attributes)):
        assert _selects(selector, {name: _header(value) for name, value in attributes.items()})


def _header(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _selects(selector: str, headers: dict[str, str]) -> bool:
    """A selector's meaning, for the shapes that are generated."""

    def term(text: str) -> bool:
        found = re.fullmatch(r"(\w+) (?:(IS NOT NULL)|(IS NULL)|= '(.*)'|LIKE '(.*?)'(?: ESCAPE '\\')?)", text)
        assert found is not None, text
        name, present, absent, equal, like = found.groups()
        value = headers.get(name)
        if present or absent:
            return (value is not None) == bool(present)
        if value is None:
            return False
        if equal is not None:
            return value == equal
        expression = re.sub(r"\\(.)|%|(.)", lambda m: re.escape(m[1] or m[2]) if m[1] or m[2] else ".*", like)
        return re.fullmatch(expression, value, re.DOTALL) is not None

    return all(any(term(each) for each in clause.strip("()").split(" OR ")) for clause in selector.split(" AND "))
