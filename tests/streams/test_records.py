"""Messages as the data of records: the user's JSON, readable without this library."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eip import Message
from eip.codec import TextCodec
from eip.errors import DecodeError
from eip.transports.aws.kinesis.records import dump_record, load_record

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.just("eip"), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_any_body_comes_back(body):
    sent = Message(body, group_id="k", type="T", headers={"hop": "1"}, attributes={"a": [1, "b"]})
    got, error = load_record(dump_record(sent), key="k", id="other", headers={"shard": "s"})
    assert error is None
    assert got.replace(headers={"hop": "1"}) == sent
    assert dict(got.headers) == {"hop": "1", "shard": "s"}


def test_an_object_is_readable_by_anyone():
    data = json.loads(dump_record(Message({"page": "/", "user": 7}, id="i", created_at=1.0)))
    assert data == {"eip": {"v": 1, "id": "i", "at": 1.0}, "page": "/", "user": 7}
    assert json.loads(dump_record(Message([1], id="i", created_at=1.0)))["body"] == [1]


def test_text_stays_text():
    got, error = load_record(dump_record(Message('a "b"\n').with_codec(TextCodec())), key="k", id="i")
    assert (got.body, got.codec.content_type, error) == ('a "b"\n', "text/plain", None)


def test_a_message_without_a_group_has_none_again():
    sent: Message = Message({})
    got, _ = load_record(dump_record(sent), key=sent.id, id="i")
    assert got.group_id is None


def test_a_foreign_record_is_all_body():
    got, error = load_record(b'{"n": 1}', key="k", id="shard:1", created_at=2.0)
    assert (got.body, got.id, got.group_id, got.created_at, error) == ({"n": 1}, "shard:1", "k", 2.0, None)


def test_a_record_written_anew_by_someone_else_is_read():
    got, error = load_record(b'{"eip": {"id": "i"}, "n": 1}', key="k", id="x")
    assert (got.id, got.body, error) == ("i", {"n": 1}, None)
    got, error = load_record(b'{"eip": {"id": "i", "in": "body"}, "body": [1]}', key="k", id="x")
    assert (got.id, got.body, error) == ("i", [1], None)


@pytest.mark.parametrize(
    "data",
    [
        b'{"eip":',
        b'{"eip":{"id":7},"n":1}',
        b'{"eip":[]}',
        b'{"eip":{"id":"i"',
        b'{"eip":{"attrs":[]}}',
        b'{"eip":\xff}',
    ],
)
def test_a_broken_envelope_is_said_and_the_data_kept(data):
    got, error = load_record(data, key="k", id="shard:1")
    assert isinstance(error, DecodeError)
    assert (got.raw, got.id) == (data, "shard:1")
