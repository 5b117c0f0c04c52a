"""Vectors, pointers, attributes, limits, and hostile input."""

from __future__ import annotations

import json
import time
from collections import OrderedDict, UserDict
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from eip import Message
from eip.errors import ConfigurationError, DecodeError, InvalidPattern
from eip.matching import EventPattern, FilterPolicy, InputTransformer, RuleSet, as_predicate
from tests.matching import vectors

VECTORS = Path(__file__).parents[3] / "shared" / "vectors"


@pytest.mark.skipif(not VECTORS.is_dir(), reason="the vectors are not beside the project")
def test_every_vector_agrees(capsys):
    assert vectors.main(VECTORS) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("pattern", "pointer", "reason"),
    [
        ({"a": {"b": [{"prefix": 1}]}}, "/a/b/0/prefix", "prefix match pattern must be a string"),
        ({"a": ["x", {"numeric": [">", 3, "<", 1]}]}, "/a/1/numeric/3", "Bottom must be less than top"),
        ({"a": 1}, "/a", '"a" must be an object or an array'),
    ],
)
def test_an_error_points_to_its_place(pattern, pointer, reason):
    with pytest.raises(InvalidPattern) as caught:
        EventPattern(pattern)
    assert caught.value.reason == reason
    assert pointer.startswith(caught.value.pointer)
    assert caught.value.pointer


def test_patterns_and_events_come_as_dict_text_or_bytes():
    for pattern in ({"a": ["x"]}, '{"a":["x"]}', b'{"a":["x"]}'):
        for event in ({"a": "x"}, '{"a":"x"}', b'{"a":"x"}'):
            assert EventPattern(pattern).matches(event)


@pytest.mark.parametrize("event", ["{", b"\xff", "[" * 100_000, '{"a":NaN}'])
def test_an_event_that_is_no_json_is_a_decode_error(event):
    with pytest.raises(DecodeError):
        EventPattern({"a": ["x"]}).matches(event)


@pytest.mark.parametrize("event", ["[]", "1", "null", '"a"'])
def test_an_event_that_is_no_object_matches_nothing(event):
    assert not EventPattern({"a": [{"exists": False}]}).matches(event)
    rules = RuleSet()
    rules.add("r", {"a": [{"exists": False}]})
    assert rules.match(event) == set()


@pytest.mark.parametrize(
    ("value", "policy", "passes"),
    [
        ("x", ["x"], True),
        (5, [5], True),
        (5, ["5"], False),
        (Decimal("1.10"), [1.1], True),
        (2.5, [{"numeric": [">", 2]}], True),
        (True, ["true"], True),
        (b"bytes", [{"exists": True}], False),
        (["a", "b"], ["b"], True),
        ([1, 2], [{"numeric": ["=", 2]}], True),
        ({"Type": "Number", "Value": "3.015e2"}, [301.5], True),
        ({"DataType": "String.Array", "StringValue": '["a", 1]'}, [1], True),
        ({"DataType": "String.Array", "StringValue": "not JSON"}, [{"exists": True}], False),
        ({"DataType": "Binary", "BinaryValue": b"x"}, [{"exists": True}], False),
        ({"DataType": "Number", "StringValue": '"5"'}, ["5"], False),
    ],
)
def test_attributes_as_python_values_and_as_on_the_wire(value, policy, passes):
    assert FilterPolicy({"a": policy}).matches(attributes={"a": value}) is passes


def test_a_message_without_attributes_passes_no_policy_but_the_empty_one():
    assert not FilterPolicy({"a": [{"exists": False}]}).matches(attributes={})
    assert FilterPolicy({}).matches(attributes={})


@pytest.mark.parametrize("body", ["plain", '"text"', "[1]", b"\xff", None, 5])
def test_a_body_that_is_no_object_passes_no_policy(body):
    assert not FilterPolicy({"a": [{"exists": False}]}, scope="MessageBody").matches(body=body)


def test_the_limits_of_policies():
    with pytest.raises(InvalidPattern, match="more than 5 keys"):
        FilterPolicy({str(number): ["x"] for number in range(6)})
    FilterPolicy({"a": list(range(15)), "b": list(range(10))})
    with pytest.raises(InvalidPattern, match="too complex"):
        FilterPolicy({"a": list(range(151))})
    with pytest.raises(InvalidPattern, match="nested"):
        FilterPolicy({"a": {"b": ["x"]}})
    with pytest.raises(InvalidPattern, match="FilterPolicyScope"):
        FilterPolicy({"a": ["x"]}, scope="Elsewhere")  # type: ignore[arg-type]


def test_test_wants_a_complete_event():
    with pytest.raises(DecodeError, match="Parameter Event is not valid"):
        EventPattern({"a": ["x"]}).test({"a": "x"})


def test_rules_are_replaced_and_removed():
    rules = RuleSet()
    rules.add("r", {"a": ["x"]})
    rules.add("r", {"a": ["y"]})
    assert rules.match({"a": "x"}) == set()
    assert rules.match({"a": "y"}) == {"r"}
    with pytest.raises(InvalidPattern):
        rules.add("r", {"a": []})
    assert rules.match({"a": "y"}) == {"r"}
    rules.remove("r")
    rules.remove("never there")
    assert (rules.match({"a": "y"}), len(rules)) == (set(), 0)


def test_mappings_of_any_class_are_matched_alike():
    pattern = EventPattern({"a": {"b": ["x"]}, "c": [{"exists": False}]})
    nested = OrderedDict(a=OrderedDict(b=["y", "x"]))
    rules = RuleSet()
    rules.add("r", pattern.text)
    for event in (nested, MappingProxyType(nested), {"a": nested["a"]}, {"a": [nested["a"]]}):
        assert pattern.matches(event), event
        assert rules.match(event) == {"r"}
    assert not pattern.matches({"a": {"b": nested}})


class Asked(UserDict[str, Any]):
    """An event that notes which fields it was asked for."""

    def __init__(self, event: dict[str, Any]) -> None:
        super().__init__(event)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        return super().__getitem__(name)


@pytest.mark.parametrize("count", [1, 5, 6, 50])
def test_an_event_is_asked_only_for_the_fields_that_rules_name(count):
    rules, event = RuleSet(), Asked({"a": "x", "b": "y", "c": {"d": [1]}})
    for number in range(count):
        rules.add(str(number), {"a": ["x"], "missing": [{"exists": False}]})
    assert len(rules.match(event)) == count
    assert event.names <= {"a", "missing"}


def test_predicates_of_each_kind():
    message = Message({"n": 1}, type="Sold", source="shop", attributes={"kind": "a"})
    assert as_predicate(FilterPolicy({"kind": ["a"]}))(message)
    assert as_predicate(FilterPolicy({"n": [1]}, scope="MessageBody"))(message)
    assert as_predicate(EventPattern({"source": ["shop"], "detail-type": ["Sold"], "detail": {"n": [1]}}))(message)
    assert not as_predicate(lambda each: each.type == "Lost")(message)
    assert not as_predicate(FilterPolicy({"n": [1]}, scope="MessageBody"))(Message.received(b"{"))
    with pytest.raises(ConfigurationError):
        as_predicate(5)  # type: ignore[arg-type]


# Hostile input: bounded time and memory, never a crash.


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


HOSTILE_PATTERNS = {
    "deep objects": '{"a":' * 100_000,
    "deep arrays": '{"a":' + "[" * 100_000,
    "many stars": json.dumps({"a": [{"wildcard": "*a" * 1000}]}),
    "many wildcards": json.dumps({"a": [{"wildcard": f"*{number}*x*y*"} for number in range(100)]}),
    "a product of $or": json.dumps(
        {
            "a": {"$or": [{"x": ["1"]}, {"y": ["2"]}]},
            **{f"k{n}": {"$or": [{"x": ["1"]}, {"y": ["2"]}]} for n in range(40)},
        }
    ),
    "a huge number": '{"a":[{"numeric":["=",' + "9" * 100_000 + "]}]}",
    "a huge exponent": '{"a":[{"numeric":["=",1e999999999]}]}',
    "a huge mask": '{"a":[{"cidr":"10.0.0.0/99999999999999999999"}]}',
    "no text": "",
    "not a pattern": "\x00",
}


@pytest.mark.parametrize("text", HOSTILE_PATTERNS.values(), ids=HOSTILE_PATTERNS)
def test_hostile_patterns_are_refused_quickly(text):
    start = time.process_time()
    with pytest.raises(InvalidPattern):
        EventPattern(text)
    assert time.process_time() - start < 3


def test_lone_surrogates_and_regular_expressions_are_only_text():
    assert EventPattern('{"a":["\\ud800"]}').matches('{"a":"\\ud800"}')
    assert EventPattern({"a": [{"wildcard": "\\*\\\\d+("}]}).matches({"a": "*\\d+("})
    assert EventPattern({"a": [{"equals-ignore-case": "(.*"}]}).matches({"a": "(.*"})
    assert not EventPattern({"a": [{"equals-ignore-case": "(.*"}]}).matches({"a": "(xx"})


HOSTILE_EVENTS = {
    "a deep tree": nested(900),
    "a huge array": json.dumps({"a": list(range(100_000))}),
    "an array of objects": json.dumps({"a": [{"b": number, "c": number + 1} for number in range(2000)]}),
    "huge numbers": '{"a":[1e400,' + "9" * 5000 + ",1e-400]}",
    "duplicate keys": "{" + ",".join('"a":1' for _ in range(10_000)) + "}",
    "wildcard bait": json.dumps({"a": "ab" * 50_000}),
}


@pytest.mark.parametrize("text", HOSTILE_EVENTS.values(), ids=HOSTILE_EVENTS)
def test_hostile_events_take_bounded_time(text):
    patterns = [
        {"a": ["x"]},
        {"a": {"b": [1], "c": [1]}},
        {"a": [{"wildcard": "*ab*ba*ab*"}]},
        {"a": [{"anything-but": "x"}], "b": [{"exists": False}]},
    ]
    rules = RuleSet()
    start = time.process_time()
    for number, pattern in enumerate(patterns):
        EventPattern(pattern).matches(text)
        rules.add(str(number), pattern)
    rules.match(text)
    assert time.process_time() - start < 5


def test_an_event_that_nests_without_end_is_a_decode_error():
    with pytest.raises(DecodeError):
        EventPattern({"a": ["x"]}).matches(nested(100_000))


# Input transformers, beyond the vectors.

EVENT = {"id": "1", "detail-type": "T", "time": "t", "detail": {"list": [{"n": 1}, {"n": 2}], "text": 'say "hi"'}}


def test_the_input_is_the_event_a_constant_a_path_or_a_template():
    assert json.loads(InputTransformer().transform(EVENT) or "") == EVENT
    assert InputTransformer(constant='{"fixed":1}').transform(EVENT) == '{"fixed":1}'
    assert InputTransformer(path="$.detail.list[1].n").transform(EVENT) == "2"
    assert InputTransformer(path="$.detail.list[*].n").transform(EVENT) == "[1,2]"
    assert InputTransformer(path="$['detail-type']").transform(EVENT) == '"T"'
    assert InputTransformer(path="$.nowhere").transform(EVENT) is None


def test_a_template_of_several_lines():
    made = InputTransformer(paths={"n": "$.detail.list[0].n"}, template='"first <n>"\n"second <n>"').transform(EVENT)
    assert made == '"first 1"\n"second 1"'


def test_the_rule_is_known_to_templates():
    made = InputTransformer(template='{"by": "<aws.events.rule-name>"}', rule_name="r").transform(EVENT)
    assert made == '{"by": "r"}'


@pytest.mark.parametrize(
    "options",
    [
        {"constant": "1", "path": "$.a"},
        {"path": "detail"},
        {"path": "$.a["},
        {"template": "<unknown>"},
        {"paths": {"aws.events.event": "$.a"}, "template": "x"},
        {"paths": {str(number): "$.a" for number in range(101)}, "template": "x"},
    ],
)
def test_transformers_that_the_service_would_refuse(options):
    with pytest.raises(InvalidPattern):
        InputTransformer(**options)
