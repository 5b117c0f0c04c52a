"""Attributes: plain values for handlers and filters, a foreign type, label and digits for whoever is next."""

from __future__ import annotations

import copy
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eip import Message
from eip.attributes import (
    check_attributes,
    dump_attributes,
    from_native,
    from_wire,
    is_native,
    load_attributes,
    to_native,
    to_wire,
)
from eip.codec import dump_json
from eip.envelope import dump_fields, dump_message, load_message
from eip.errors import DecodeError, InvalidMessage
from eip.matching import FilterPolicy

FOREIGN: list[tuple[str, Any, Any]] = [
    ("Number.int", "007", 7),
    ("Number", "1.10", 1.1),
    ("Number", "+5", 5),
    ("Number", "-0", 0),
    ("Number", "1E3", 1000.0),
    ("Number", "9" * 38, int("9" * 38)),
    ("Number", "0." + "3" * 38, Decimal("0." + "3" * 38)),
    ("Number", "1e400", Decimal("1e400")),
    ("Number.java.lang.Long", "42", 42),
    ("Number", "not a number", "not a number"),
    ("Number", "1" * 5000, "1" * 5000),
    ("String.UUID", "8a1b", "8a1b"),
    ("String.Array", '["a", 1.10, null]', ["a", 1.1, None]),
    ("String.Array", "[1,", "[1,"),
    ("Binary.gif", b"GIF89a", b"GIF89a"),
    ("Custom", "x", "x"),
]


@pytest.mark.parametrize(("data_type", "value", "plain"), FOREIGN)
def test_a_foreign_value_is_passed_on_as_it_came(data_type, value, plain):
    """Fault 10: 007, 1.10, 38 digits and labels survive handlers, envelopes and stores."""
    read = from_native(data_type, value)
    assert read == plain
    message = Message(1).replace(attributes={**Message(1, attributes={"a": read}).attributes})
    stored = load_message(dump_message(message)).attributes["a"]
    enveloped = from_wire(to_wire(copy.deepcopy(read)))
    for passed in (read, message.attributes["a"], stored, enveloped):
        assert to_native(passed)[:2] == (data_type, value)
        assert passed == plain


OURS: list[Any] = ["", "text", 7, -(2**70), 1.5, 2.0, 1e300, Decimal("1.10"), True, False, b"\0", ["a", 1]]


@pytest.mark.parametrize("value", OURS)
def test_our_own_values_stay_plain(value: Any):
    native: Any = to_native(value)
    read = from_native(native.data_type, native.value, native.note)
    assert (read, type(read)) == (value, type(value))
    enveloped = from_wire(to_wire(value))
    assert (enveloped, type(enveloped)) == (value, type(value))


BEYOND: list[Any] = [
    10**38 + 1,
    -(2**200),
    1e300,
    -1e127,
    5e-324,
    Decimal("1." + "3" * 40),
    Decimal("1E-129"),
    Decimal("1E+127"),
    Decimal("0E+999"),
]
WITHIN: list[Any] = [10**38 - 1, 10**126, 12 * 10**40, 1e126, 1e-128, 0.0, Decimal("0.1000"), Decimal("1E+100")]


@pytest.mark.parametrize("value", BEYOND)
def test_a_number_beyond_the_services_range_travels_as_text_and_is_read_back_exactly(value):
    """Fault 11: SQS and SNS take 38 digits, and 10**-128 to 10**126; the rest was refused by the service."""
    native = to_native(value)
    assert native.data_type == "String.eip"
    read = from_native(*native)
    assert (read, type(read), str(read)) == (value, type(value), str(value))


@pytest.mark.parametrize("value", WITHIN)
def test_a_number_within_the_services_range_stays_a_number(value):
    native = to_native(value)
    assert native.data_type == "Number"
    assert is_native(native)
    read = from_native(*native)
    assert (read, type(read)) == (value, type(value))


@given(
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(allow_nan=False, allow_infinity=False)
)
def test_any_number_becomes_what_the_services_take(value):
    native = to_native(value)
    assert is_native(native)
    if native.data_type == "Number":
        number = Decimal(str(native.value))
        assert len("".join(map(str, number.as_tuple().digits)).strip("0")) <= 38
        assert -128 <= number.adjusted() <= 126
    read = from_native(*native)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("data_type", "value", "taken"),
    [
        ("Number", "not a number", False),
        ("Number.int", "1" * 39, False),
        ("Number", "1e400", False),
        ("Number.int", "007", True),
        ("Custom", "x", False),
        ("String." + "x" * 250, "x", False),
        ("Binary", "text", False),
        ("String", b"bytes", False),
        ("Binary.gif", b"GIF89a", True),
        ("String.UUID", "8a1b", True),
    ],
)
def test_what_the_services_take_of_a_stranger_is_known_before_sending(data_type, value, taken):
    assert is_native(to_native(from_native(data_type, value))) is taken


def test_filters_see_plain_values():
    attributes = {"n": from_native("Number.int", "007"), "s": from_native("String.UUID", "x")}
    assert FilterPolicy({"n": [{"numeric": ["=", 7]}]}).matches(attributes)
    assert FilterPolicy({"s": ["x"]}).matches(attributes)
    assert not FilterPolicy({"n": [8]}).matches(attributes)


def test_foreign_values_can_be_a_part_of_a_body():
    assert dump_json([from_native(data_type, value) for data_type, value, _ in FOREIGN[:4]]) == b"[7,1.1,5,0]"


def test_a_foreign_list_that_was_changed_is_written_as_it_is_now():
    listed: Any = from_native("String.Array", '["a", "b"]')
    listed.append("c")
    assert to_native(listed).value == '["a","b","c"]'
    assert to_wire(listed) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "value",
    [
        None,
        math.nan,
        -math.inf,
        Decimal("NaN"),
        "\ud800",
        10**5000,
        {},
        object(),
        [math.nan],
        ["\udfff"],
        [b"x"],
        [[1]],
        {1},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_no_channel_can_carry_is_refused_at_once_by_name(value):
    """Fault 17: NaN, Infinity, lone surrogates, None and 5,000 digits, nested ones, too."""
    with pytest.raises(InvalidMessage, match="'price'"):
        Message(1, attributes={"price": value})
    with pytest.raises(InvalidMessage, match="'price'"):
        Message(1).replace(attributes={"price": value})


@pytest.mark.parametrize("attributes", [42, "text", [("a", 1)], {1: "x"}])
def test_attributes_of_the_wrong_type_are_named(attributes):
    """Fault 18."""
    with pytest.raises(TypeError, match="attributes"):
        Message(1, attributes=attributes)


@pytest.mark.parametrize("digits", [64, 65, 128, 12_000])
def test_integers_beyond_64_bits_are_carried(digits):
    """Fault 11."""
    message = Message(1, attributes={"n": 2**digits - 1})
    assert load_message(dump_message(message)) == message
    assert load_attributes(dump_attributes(message.attributes)) == message.attributes


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["type", "text", "bytes", "decimal", "x"]), inner),
)


@given(JSON)
def test_whatever_a_stranger_s_envelope_holds_is_read_and_can_be_written_or_is_refused(value):
    try:
        read = from_wire(value)
    except DecodeError:
        return
    check_attributes({"a": read})
    assert from_wire(to_wire(read)) == read
    dump_fields({"attrs": dump_attributes({"a": read})})


@given(st.text(), st.text() | st.binary(), st.text() | st.sampled_from(["", "bool", "float", "decimal"]))
def test_reading_a_native_attribute_never_fails(data_type, value, note):
    read = from_native(data_type, value, note)
    assert to_native(read)[:2] == (data_type, value)
