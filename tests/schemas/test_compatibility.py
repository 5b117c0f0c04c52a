"""Which consumer or producer breaks when a schema changes, and why; in both directions."""

from __future__ import annotations

import enum
import json
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field

from eip.errors import ConfigurationError
from eip.schemas import compare
from eip.schemas._alternatives import Schemas
from eip.schemas._subset import Subset
from eip.schemas.compatibility import compare_with


def differences(sent: Any, accepted: Any) -> set[tuple[str, str]]:
    """Kind and path of each."""
    found = Subset(Schemas(sent), Schemas(accepted)).differences(sent, accepted)
    return {(each.kind, each.path) for each in found}


def both(old: Any, new: Any) -> dict[str, set[tuple[str, str]]]:
    """What breaks when a model changes: for consumers of what is sent, and for producers of what is taken."""
    found = compare(old.model_json_schema(), new.model_json_schema())
    return {side: {(each.kind, each.path) for each in found if each.side == side} for side in ("consumer", "producer")}


class Line(BaseModel):
    sku: str


class Order(BaseModel):
    id: str
    cents: int
    lines: list[Line] = []
    note: str | None = None


def test_the_same_breaks_nobody():
    assert compare(Order.model_json_schema(), Order.model_json_schema()) == []


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class MoreColours(enum.StrEnum):
    RED = "red"
    BLUE = "blue"
    GREEN = "green"


def model(kind: Any, default: Any = ..., **config: Any) -> Any:
    """A model with one field of a kind."""
    from pydantic import create_model

    made = ConfigDict(**config)  # type: ignore[typeddict-item]
    return create_model("M", __config__=made, f=(kind, default))


CHANGES: dict[str, tuple[Any, Any, set[tuple[str, str]], set[tuple[str, str]]]] = {
    "a required field becomes optional": (model(int), model(int, 0), {("optional", "/f")}, set()),
    "an optional field becomes required": (model(int, 0), model(int), set(), {("optional", "/f")}),
    "null is allowed": (model(int), model(int | None), {("type", "/f")}, set()),
    "null is forbidden": (model(int | None), model(int), set(), {("type", "/f")}),
    "a type widens": (model(int), model(float), {("type", "/f")}, set()),
    "a type narrows": (model(float), model(int), set(), {("type", "/f")}),
    "another type": (model(int), model(str), {("type", "/f")}, {("type", "/f")}),
    "an enumeration grows": (model(Colour), model(MoreColours), {("enum", "/f")}, set()),
    "an enumeration shrinks": (model(MoreColours), model(Colour), set(), {("enum", "/f")}),
    "a text becomes an enumeration": (model(str), model(Colour), set(), {("enum", "/f")}),
    "an enumeration becomes a text": (model(Colour), model(str), {("enum", "/f")}, set()),
    "a literal changes": (model(Literal["a"]), model(Literal["b"]), {("enum", "/f")}, {("enum", "/f")}),
    "a literal joins": (model(Literal["a"]), model(Literal["a", "b"]), {("enum", "/f")}, set()),
    "a format is asked for": (model(str), model(datetime), set(), {("format", "/f")}),
    "a format changes": (model(datetime), model(date), {("format", "/f")}, {("format", "/f")}),
    "a limit rises": (model(Annotated[int, Field(le=5)]), model(Annotated[int, Field(le=9)]), {("limit", "/f")}, set()),
    "a limit appears": (model(str), model(Annotated[str, Field(max_length=9)]), set(), {("limit", "/f")}),
    "a pattern changes": (
        model(Annotated[str, Field(pattern="^a")]),
        model(Annotated[str, Field(pattern="^b")]),
        {("pattern", "/f")},
        {("pattern", "/f")},
    ),
    "items change": (model(list[int]), model(list[str]), {("type", "/f/*")}, {("type", "/f/*")}),
    "a list becomes one": (model(list[int]), model(int), {("type", "/f")}, {("type", "/f")}),
    "values of a mapping change": (
        model(dict[str, int]),
        model(dict[str, str]),
        {("type", "/f/*")},
        {("type", "/f/*")},
    ),
    "a tuple's part changes": (model(tuple[int, str]), model(tuple[int, int]), {("type", "/f/1")}, {("type", "/f/1")}),
    "other fields are refused": (model(int, extra="allow"), model(int, extra="forbid"), set(), {("type", "/*")}),
    "a number becomes a decimal": (model(float), model(Decimal), {("type", "/f")}, set()),
    "anything narrows": (model(Any), model(int), set(), {("type", "/f")}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_breaks_those_who_do_not_expect_it(change):
    old, new, consumer, producer = CHANGES[change]
    assert both(old, new) == {"consumer": consumer, "producer": producer}


def test_a_renamed_field_is_missing_on_both_sides():
    class Renamed(BaseModel):
        id: str
        amount: int
        lines: list[Line] = []
        note: str | None = None

    assert both(Order, Renamed) == {"consumer": {("missing", "/cents")}, "producer": {("missing", "/amount")}}
    texts = [str(each) for each in compare(Order.model_json_schema(), Renamed.model_json_schema())]
    assert texts[0] == "consumers of any channel, the message: /cents is required and not sent (removed or renamed?)"


def test_what_is_new_and_optional_breaks_nobody():
    class More(Order):
        gift: bool = False

    assert compare(Order.model_json_schema(), More.model_json_schema()) == []


def test_fields_inside_of_others_are_named_by_their_path():
    class LineWithPrice(Line):
        price: Annotated[int, Field(ge=0)]

    class Priced(Order):
        lines: list[LineWithPrice] = []  # type: ignore[assignment]

    assert both(Order, Priced) == {"consumer": set(), "producer": {("missing", "/lines/*/price")}}


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


class TallTree(BaseModel):
    name: str
    height: int
    children: list[TallTree] = []


def test_recursive_schemas_are_compared_once():
    assert compare(Tree.model_json_schema(), Tree.model_json_schema()) == []
    assert both(Tree, TallTree)["producer"] == {("missing", "/height")}


@pytest.mark.parametrize("keyword", ["not", "if", "patternProperties", "contains"])
def test_what_is_not_compared_counts_as_a_change(keyword):
    """A difference that cannot be judged must not pass for none."""
    old, new = {"type": "object"}, {"type": "object", keyword: {"type": "string"}}
    assert differences(old, new) == {("unknown", "")}
    assert differences(new, new) == set()
    assert differences(new, old) == set()


def test_all_of_and_one_of_and_references_are_followed():
    base = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    composed = {"allOf": [{"$ref": "#/$defs/base"}, {"required": ["b"]}], "$defs": {"base": base}}
    assert differences(base, composed) == {("missing", "/b")}
    either = {"oneOf": [{"type": "integer"}, {"type": "string", "maxLength": 3}]}
    assert differences({"type": "string"}, either) == {("limit", "")}
    assert differences({"enum": [1, None]}, either) == {("type", "")}
    assert differences({"type": ["integer", "null"]}, {"type": ["null", "number"]}) == set()


# Both kinds of documents.


def document(**operations: Any) -> dict[str, Any]:
    """An AsyncAPI document with operations by name: (action, channel, message, schema)."""
    made: dict[str, Any] = {"asyncapi": "3.0.0", "info": {"title": "shop", "version": "1"}, "channels": {}}
    made["operations"] = {}
    for name, (action, channel, message, schema) in operations.items():
        here = made["channels"].setdefault(channel, {"address": channel, "messages": {}})
        here["messages"][message] = {"name": message, "payload": schema}
        made["operations"][name] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{channel}"},
            "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
        }
    return made


NUMBER, TEXT = {"type": "integer"}, {"type": "string"}


def test_messages_that_go_break_those_who_expect_them():
    old = document(out=("send", "orders", "Placed", NUMBER), inn=("receive", "stock", "Ask", TEXT))
    found = [(each.side, each.channel, each.message, each.kind) for each in compare(old, document())]
    assert found == [("consumer", "orders", "Placed", "removed"), ("producer", "stock", "Ask", "removed")]
    more = document(out=("send", "orders", "Placed", NUMBER), new=("send", "orders", "Paid", NUMBER))
    assert compare(document(out=("send", "orders", "Placed", NUMBER)), more) == []
    anything = document(inn=("receive", "stock", "any message", True))
    assert compare(document(inn=("receive", "stock", "Ask", TEXT)), anything) == []


def test_what_breaks_by_several_subscriptions_is_named_once():
    def of(schema):
        found = document(a=("receive", "orders", "Placed", schema), b=("receive", "orders", "Placed", schema))
        for name in "ab":
            found["operations"][name]["x-eip-subscription"] = name
        return found

    assert len(compare(of({"type": ["integer", "null"]}), of(NUMBER))) == 1


def test_directions_are_told_apart():
    def of(action, schema):
        return document(o=(action, "orders", "Placed", schema))

    wide, narrow = {"type": ["integer", "null"]}, NUMBER
    assert [each.side for each in compare(of("send", narrow), of("send", wide))] == ["consumer"]
    assert compare(of("send", wide), of("send", narrow)) == []
    assert [each.side for each in compare(of("receive", wide), of("receive", narrow))] == ["producer"]
    assert compare(of("receive", narrow), of("receive", wide)) == []


def test_the_other_service_s_own_document_says_what_it_understands():
    """The old schema promised more than this consumer reads: it breaks only by what it reads itself."""
    new = document(out=("send", "orders", "Placed", {"type": "object", "properties": {"id": TEXT}, "required": ["id"]}))
    reads_id = document(inn=("receive", "orders", "Placed", {"type": "object", "required": ["id"]}))
    reads_cents = document(inn=("receive", "orders", "Placed", {"type": "object", "required": ["cents"]}))
    reads_cents["info"]["title"] = "billing"
    assert compare_with(new, reads_id) == []
    (found,) = compare_with(new, reads_cents)
    assert (found.who, found.side, found.path, found.kind) == ("billing", "consumer", "/cents", "missing")
    asks = document(out=("send", "stock", "Ask", NUMBER))
    (found,) = compare_with(document(inn=("receive", "stock", "Ask", TEXT)), asks)
    assert (found.side, found.kind) == ("producer", "type")


def test_replies_are_part_of_the_interface():
    def answering(schema):
        made = document(ask=("receive", "stock", "Ask", TEXT))
        made["channels"]["r"] = {"address": None, "messages": {"A": {"name": "Answer", "payload": schema}}}
        made["operations"]["ask"]["reply"] = {"channel": {"$ref": "#/channels/r"}}
        return made

    (found,) = compare(answering(NUMBER), answering({"type": ["integer", "null"]}))
    assert (found.side, found.message) == ("consumer", "Answer")


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        7,
        "text",
        {},
        {"asyncapi": "2.6.0"},
        {"openapi": "3.1.0"},
        {"asyncapi": "3.0.0", "operations": []},
        {"asyncapi": "3.0.0", "operations": {"o": {"action": "shout"}}},
        {"asyncapi": "3.0.0", "operations": {"o": {"action": "send", "channel": {"$ref": "#/channels/none"}}}},
        {"asyncapi": "3.0.0", "operations": {"o": {"action": "send", "channel": {"$ref": "http://x/y"}}}},
        {"asyncapi": "3.0.0", "operations": {"o": {"$ref": "#/operations/o"}}},
        document(o=("send", "c", "M", {"$ref": "#/nowhere"})),
        document(o=("send", "c", "M", 7)),
        document(o=("send", "c", "M", {"type": "object", "properties": []})),
        document(o=("send", "c", "M", {"anyOf": {}})),
        document(o=("send", "c", "M", {"allOf": [{"anyOf": [NUMBER] * 20}] * 5})),
    ],
    ids=lambda each: json.dumps(each)[:60],
)
def test_a_malformed_document_is_an_error_in_a_short_text(wrong):
    fine = document(o=("send", "c", "M", {"type": "object", "properties": {"a": NUMBER}}))
    for pair in (
        ((wrong, fine), (fine, wrong)) if isinstance(wrong, dict) and "operations" in wrong else ((wrong, fine),)
    ):
        with pytest.raises(ConfigurationError) as raised:
            compare(*pair)
        assert len(str(raised.value)) < 500


def test_hostile_schemas_end_in_bounded_time():
    deep: dict[str, Any] = NUMBER
    for _ in range(900):
        deep = {"type": "array", "items": deep}
    with pytest.raises(ConfigurationError, match="nested"):
        compare(document(o=("send", "c", "M", deep)), document(o=("send", "c", "M", json.loads(json.dumps(deep)))))
    names = [f"N{each}" for each in range(300)]
    web = {
        name: {"type": "object", "properties": {other: {"$ref": f"#/$defs/{other}"} for other in names}}
        for name in names
    }
    schema = {"$ref": "#/$defs/N0", "$defs": web}
    with pytest.raises(ConfigurationError, match=r"work|nested"):
        compare(schema, json.loads(json.dumps(schema)))


# What is found to be compatible, is.

SIMPLE = st.sampled_from(
    [
        {"type": "integer"},
        {"type": "number"},
        {"type": "string"},
        {"type": "null"},
        {"type": "boolean"},
        {"type": "string", "maxLength": 2},
        {"type": "integer", "minimum": 1},
        {"enum": [1, "a", None]},
        {"const": "a"},
        {"type": ["integer", "null"]},
        True,
    ]
)


def _composed(inner):
    names = st.sampled_from(["a", "b"])
    objects = st.fixed_dictionaries(
        {"type": st.just("object"), "properties": st.dictionaries(names, inner, max_size=2)},
        optional={"required": st.lists(names, unique=True), "additionalProperties": st.booleans()},
    )
    arrays = st.fixed_dictionaries({"type": st.just("array"), "items": inner}, optional={"maxItems": st.integers(0, 2)})
    return objects | arrays | st.builds(lambda parts: {"anyOf": parts}, st.lists(inner, min_size=1, max_size=3))


SCHEMAS = st.recursive(SIMPLE, _composed, max_leaves=6)
VALUES = st.recursive(
    st.sampled_from([0, 1, 2, 1.5, "", "a", "abc", None, True]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(SCHEMAS, SCHEMAS, st.lists(VALUES, min_size=5, max_size=20))
def test_what_one_allows_and_no_difference_forbids_the_other_accepts(sent, accepted, values):
    if differences(sent, accepted):
        return
    allows, accepts = Draft202012Validator(sent), Draft202012Validator(accepted)
    for value in values:
        if allows.is_valid(value) and not _undeclared(sent, value):
            assert accepts.is_valid(value)


def _undeclared(schema: Any, value: Any) -> bool:
    """Whether a value has fields that its schema does not name: they are not taken for sent."""
    text = json.dumps(schema)
    return isinstance(value, (dict, list)) and any(
        f'"{key}": ' not in text for key in ("a", "b") if key in json.dumps(value)
    )


@settings(max_examples=100, deadline=None)
@given(SCHEMAS)
def test_a_schema_accepts_what_it_allows_itself(schema):
    assert differences(schema, json.loads(json.dumps(schema))) == set()
