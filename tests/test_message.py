"""The message: immutable, lazily decoded, carried over by reply and derive."""

from __future__ import annotations

import pickle
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from eip import Message, SequenceInfo
from eip.clock import use_clock
from eip.codec import TEXT, TextCodec
from eip.errors import DecodeError, InvalidMessage
from tests.wire.messages import FULL

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class Ride(BaseModel):
    to: str


def test_a_message_needs_no_more_than_a_body():
    with use_clock(lambda: 1000.0):
        message = Message({"a": 1})
    assert message.body == {"a": 1}
    assert message.created_at == 1000.0
    assert (message.correlation_id, message.expires_at, dict(message.attributes)) == (None, None, {})


def test_ids_are_unguessable_and_unique():
    ids = {Message(None).id for _ in range(10_000)}
    assert len(ids) == 10_000
    assert min(map(len, ids)) >= 22  # 128 bits in base 64 or more


@pytest.mark.parametrize("name", ["body", "id", "attributes", "_body", "anything"])
def test_it_cannot_be_changed(name):
    message = Message(1)
    with pytest.raises(AttributeError):
        setattr(message, name, 2)
    with pytest.raises(AttributeError):
        delattr(message, name)


def test_its_attributes_are_a_copy_that_cannot_be_changed():
    given_attributes = {"kind": "a"}
    message = Message(1, attributes=given_attributes)
    given_attributes["kind"] = "b"
    assert message.attributes["kind"] == "a"
    with pytest.raises(TypeError):
        message.attributes["kind"] = "b"  # type: ignore[index]


def test_a_reply_carries_correlation_trace_group_and_expiry():
    request = Message(1, id="r", traceparent="t", group_id="g", expires_at=5.0, return_address="q")
    reply = request.reply(2)
    assert (reply.correlation_id, reply.traceparent, reply.group_id, reply.expires_at) == ("r", "t", "g", 5.0)
    assert reply.id != "r"
    assert reply.return_address is None
    assert request.replace(correlation_id="c").reply(2).correlation_id == "c"


def test_derive_lets_what_is_given_take_precedence():
    with use_clock(lambda: 100.0):
        derived = Message(1, group_id="g").derive(2, group_id="h", expires_in=timedelta(minutes=1))
    assert (derived.group_id, derived.expires_at) == ("h", 160.0)


def test_replace_keeps_the_id_and_refuses_what_is_no_field():
    message = Message(1, id="m")
    assert message.replace(type="T").id == "m"
    assert message.replace(attributes={"a": 1}).attributes == {"a": 1}
    with pytest.raises(TypeError, match="no colour"):
        message.replace(colour="red")


def test_a_received_body_is_decoded_at_the_first_look():
    message = Message.received(b'{"a":1}')
    assert not message.decoded
    assert message.body == {"a": 1}
    assert message.decoded


def test_a_body_that_cannot_be_decoded_says_so_when_it_is_looked_at():
    message = Message.received(b"{")
    with pytest.raises(DecodeError):
        message.body  # noqa: B018 - the look decodes it
    assert message.encode() == b"{"


def test_a_received_message_is_passed_on_to_the_letter():
    raw = b'{ "a" : 1.0e2 }'
    assert Message.received(raw).encode() == raw


def test_a_body_that_was_changed_is_sent_as_it_is():
    message = Message.received(b'{"a":1}')
    message.body["a"] = 2
    assert message.encode() == b'{"a":2}'


def test_models_decimals_and_big_integers_are_encoded():
    assert Message(Ride(to="x")).encode() == b'{"to":"x"}'
    assert Message({"price": Decimal("1.10"), "n": 2**80}).encode() == f'{{"price":1.10,"n":{2**80}}}'.encode()


def test_what_is_no_json_is_refused():
    with pytest.raises(InvalidMessage):
        Message(object()).encode()


def test_a_text_body():
    message = Message("grüße").with_codec(TextCodec())
    assert message.encode() == "grüße".encode()
    with pytest.raises(InvalidMessage):
        Message(1).with_codec(TextCodec()).encode()


def test_expiry():
    message = Message(1, expires_at=10.0)
    assert not message.expired(9.9)
    assert message.expired(10.0)
    assert not Message(1).expired(1e12)


def test_reprs_show_no_body():
    assert "secret" not in repr(Message("secret", type="T"))
    assert "type='T'" in repr(Message("secret", type="T"))


def test_messages_are_not_pickled():
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Message(1))


def test_equality_is_of_the_envelope_and_the_bytes():
    message = Message({"a": 1}, sequence=SequenceInfo("s", 0, 2))
    assert message == message.replace()
    assert message != message.with_body({"a": 2})
    assert message != 1
    assert len({message, message.replace()}) == 1


class NoCodec:
    content_type = "x/y"


@pytest.mark.parametrize("codec", [42, "json", TextCodec, NoCodec(), object()])
def test_what_is_no_codec_is_refused_at_once(codec):
    """Fault 18: for every field."""
    for make in (
        lambda: Message(1, codec=codec),
        lambda: Message(1).with_codec(codec),
        lambda: Message(1).with_encoded(b"1", codec=codec),
        lambda: Message.received(b"1", codec=codec),
    ):
        with pytest.raises(TypeError, match="codec must be a Codec"):
            make()


def test_a_codec_of_one_s_own_needs_three_names():
    class Own(NoCodec):
        def encode(self, body: object, /) -> bytes:
            return repr(body).encode()

        def decode(self, raw: bytes, /) -> object:
            return raw

    assert Message(1, codec=Own()).codec.content_type == "x/y"


@pytest.mark.parametrize("extensions", [42, "text", [("a", 1)], {1: "x"}], ids=repr)
def test_extensions_of_the_wrong_type_are_named(extensions):
    """Fault 18."""
    with pytest.raises(TypeError, match="extensions"):
        Message(1, extensions=extensions)
    with pytest.raises(TypeError, match="extensions"):
        Message(1).replace(extensions=extensions)


DEEP: list[object] = []
for _ in range(250):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "extensions",
    [{"a": object()}, {"a": float("nan")}, {"\ud800": 1}, {"a": ["\ud800"]}, {"v": 0}, {"v": "2"}, {"a": DEEP}]
    + [{key: "x"} for key in ("id", "at", "headers", "attrs", "types", "enc", "ct", "body")],
    ids=lambda value: repr(value)[:20],
)
def test_extensions_that_could_not_be_written_or_read_are_refused_at_once(extensions):
    """Fault 18: an extension with the key of a field would forge it, one that is not JSON fail at the send."""
    with pytest.raises(InvalidMessage, match="extensions"):
        Message(1, extensions=extensions)
    with pytest.raises(InvalidMessage, match="extensions"):
        Message(1).replace(extensions=extensions)


@given(JSON)
def test_json_bodies_come_back(body):
    assert Message.received(Message(body).encode()).body == body


def test_what_waits_at_rest_comes_back_as_it_was_each_time_by_itself():
    plain = Message({"a": [1]})
    for message in (plain, FULL.replace(extensions={"later": {"k": 1}}), Message(b"raw")):
        rest = message.at_rest()
        one, other = Message.woken(rest), Message.woken(rest)
        assert one == other == message == message.sealed()
        assert rest[:2] == (message.encode(), message.group_id)
    changed = Message.woken(plain.at_rest())
    changed.body["a"].append(2)
    assert changed.at_rest()[0] == b'{"a":[1,2]}'
    assert plain.body == {"a": [1]}


def test_a_woken_message_goes_to_rest_as_it_was_unless_something_has_changed():
    rest = Message({"a": 1}, headers={"h": "1"}).at_rest()
    woken = Message.woken(rest)
    assert woken.at_rest() is rest
    assert woken.body == {"a": 1}
    assert woken.at_rest() is rest
    assert woken.replace(type="t").at_rest()[4] == "t"
    assert woken.with_body(2).at_rest()[0] == b"2"
    assert woken.with_encoded(b"3").at_rest()[0] == b"3"
    woken.body["a"] = 2
    assert woken.at_rest()[0] == b'{"a":2}'
    other = Message.woken(rest)
    other.decode_with(TEXT)
    assert Message.woken(other.at_rest()).body == '{"a":1}'


def test_one_header_is_found_without_the_mapping():
    message = Message(1, headers={"a": "1", "b": "2"})
    assert [message.header(each) for each in "abc"] == ["1", "2", None]
    assert message.headers == {"a": "1", "b": "2"}
    assert message.replace(headers={"c": "3"}).header("c") == "3"
    assert message.replace(headers=None).headers == Message(1).headers == {}
    with pytest.raises(TypeError):
        message.headers["a"] = "2"  # type: ignore[index]
