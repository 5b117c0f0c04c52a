"""The wire form of packs, and what hostile ones do: nothing."""

from __future__ import annotations

import base64
import json
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eip import Message
from eip.codec import TextCodec
from eip.errors import DecodeError
from eip.packs import PACK_HEADER, Bounds, entry_of, is_pack, pack, unpack, unreadable


def received(made: Message) -> Message:
    """The pack as the other side gets it."""
    return made.sealed()


def packed(*messages: Message, **options) -> Message:
    form = options.get("format", "eip")
    return received(pack([entry_of(each, format=form) for each in messages], messages[0], **options))


MESSAGES = [
    Message(
        {"n": number, "text": "grüße"},
        correlation_id=f"c{number}",
        deduplication_id=f"d{number}",
        traceparent="00-a-b-01",
        expires_at=5e9,
        group_id="g",
        type="T",
        source="S",
        attributes={"kind": "a", "size": 3},
        headers={"attempts": "2"},
    )
    for number in range(20)
]


@pytest.mark.parametrize(
    "options",
    [{}, {"encoding": "gzip"}, {"encoding": "zstd"}, {"format": "cloudevents"}],
    ids=["identity", "gzip", "zstd", "cloudevents"],
)
def test_every_message_comes_back_whole(options):
    outer = packed(*MESSAGES, **options)
    assert is_pack(outer)
    assert (outer.type, outer.source, outer.group_id, outer.attributes) == ("T", "S", "g", MESSAGES[0].attributes)
    # An event's time is text, with microseconds; ours is a number.
    at = [message.created_at for message in unpack(outer)]
    assert at == pytest.approx([message.created_at for message in MESSAGES], abs=1e-6)
    assert [message.replace(created_at=0) for message in unpack(outer)] == [
        message.replace(created_at=0) for message in MESSAGES
    ]


def test_what_all_share_is_said_once_and_each_has_it():
    made = received(pack([entry_of(each, shared=True) for each in MESSAGES], MESSAGES[0], shared=True))
    assert unpack(made) == MESSAGES
    assert made.encode().count(b'"T"') == 1
    bare = Message.received(made.encode())  # as it is found where the envelope beside it was lost
    assert [(each.type, each.source, each.group_id) for each in unpack(bare)] == [("T", "S", "g")] * 20


def test_compression_makes_it_smaller():
    assert len(packed(*MESSAGES, encoding="zstd").encode()) < len(packed(*MESSAGES).encode()) / 3


def test_text_bodies_come_back_as_text():
    message = Message("plain").with_codec(TextCodec())
    (inner,) = unpack(packed(message))
    assert (inner.body, inner.codec.content_type) == ("plain", "text/plain")


def test_a_foreign_cloudevents_batch_is_read():
    batch = [
        {"specversion": "1.0", "id": "1", "source": "/shop", "type": "sold", "data": {"n": 1}},
        {"specversion": "1.0", "id": "2", "source": "/shop", "type": "sold", "data_base64": "eyJuIjoyfQ=="},
    ]
    foreign = Message.received(json.dumps(batch).encode())
    assert is_pack(foreign)
    assert [(each.id, each.source, each.type, each.body) for each in unpack(foreign)] == [
        ("1", "/shop", "sold", {"n": 1}),
        ("2", "/shop", "sold", {"n": 2}),
    ]


def test_an_ordinary_message_is_no_pack():
    assert not is_pack(Message([1]).sealed())
    assert not is_pack(Message({"a": {"eip-pack": 1}}).sealed())


def test_a_pack_is_known_by_its_body_alone():
    assert is_pack(Message.received(packed(*MESSAGES).encode()))


def data(text: bytes, *, encoding: str = "gzip", count: int = 1) -> dict:
    return {"eip-pack": {"version": 1, "encoding": encoding, "count": count}, "data": base64.b64encode(text).decode()}


BOMB = zlib.compress(b"[" + b"0," * 20_000_000 + b"0]", 9, wbits=31)
HOSTILE = {
    "no pack at all": {"a": 1},
    "no version": {"eip-pack": {"version": 0, "encoding": "identity", "count": 0}, "messages": []},
    "an encoding of a later version": {"eip-pack": {"version": 2, "encoding": "lz4", "count": 0}, "data": ""},
    "no count": {"eip-pack": {"version": 1, "encoding": "identity"}, "messages": []},
    "a wrong count": {
        "eip-pack": {"version": 1, "encoding": "identity", "count": 2},
        "messages": [{"id": "a", "b": 1}],
    },
    "nothing sensible for all": {
        "eip-pack": {"version": 1, "encoding": "identity", "count": 1, "all": 7},
        "messages": [{"id": "a", "b": 1}],
    },
    "a bad type for all": {
        "eip-pack": {"version": 1, "encoding": "identity", "count": 1, "all": {"type": 7}},
        "messages": [{"id": "a", "b": 1}],
    },
    "no messages": {"eip-pack": {"version": 1, "encoding": "identity", "count": 0}},
    "an unknown encoding": data(b"x", encoding="rar"),
    "not base64": {"eip-pack": {"version": 1, "encoding": "gzip", "count": 1}, "data": "%%%"},
    "not gzip": data(b"not gzip"),
    "not zstd": data(b"not zstd", encoding="zstd"),
    "a truncated stream": data(zlib.compress(b"[" + b"1," * 1000 + b"1]", wbits=31)[:-12], count=1001),
    "a bomb": data(BOMB, count=20_000_001),
    "something that is no array": data(zlib.compress(b"{}", wbits=31)),
    "something that is no message": {"eip-pack": {"version": 1, "encoding": "identity", "count": 1}, "messages": [1]},
    "a bad envelope": {"eip-pack": {"version": 1, "encoding": "identity", "count": 1}, "messages": [{"id": 1, "b": 1}]},
    "a pack inside a pack": {
        "eip-pack": {"version": 1, "encoding": "identity", "count": 1},
        "messages": [{"id": "a", "b": 1, "headers": {PACK_HEADER: "1 identity 1"}}],
    },
    "an unreadable body": {
        "eip-pack": {"version": 1, "encoding": "identity", "count": 1},
        "messages": [{"id": "a", "b": 1, "ct": "application/pickle"}],
    },
    "an event of no version": [{"specversion": "9", "id": "1", "source": "s", "type": "t"}],
    "an event with bad base64": [{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data_base64": 7}],
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_hostile_packs_are_decode_errors(body):
    with pytest.raises(DecodeError):
        _ = [each.body for each in unpack(Message.received(json.dumps(body).encode(), headers={PACK_HEADER: "1"}))]


def test_a_zstd_bomb_is_refused_before_it_takes_memory():
    import zstandard

    bomb = data(zstandard.ZstdCompressor(level=19).compress(b"[" + b"0," * 50_000_000 + b"0]"), encoding="zstd")
    with pytest.raises(DecodeError, match="more than"):
        unpack(Message(bomb), bounds=Bounds(size=1_000_000))


def test_too_many_messages_are_refused_before_anything_is_decompressed():
    with pytest.raises(DecodeError, match="exceeds"):
        unpack(packed(*MESSAGES), bounds=Bounds(count=19))
    with pytest.raises(DecodeError, match="exceeds"):
        unpack(Message(data(b"not even gzip", count=10_001)))
    with pytest.raises(DecodeError, match="exceeds"):
        unpack(Message.received(json.dumps([{"specversion": "1.0"}] * 20).encode()), bounds=Bounds(count=19))


@pytest.mark.parametrize("text", ["[],", '{"a":[]},'], ids=["lists", "dicts"])
def test_memory_stays_bounded_whatever_the_pack_unpacks_to(text):
    bomb = zlib.compress(b"[" + text.encode() * (6_000_000 // len(text)) + b"0]", 9, wbits=31)
    dense = zlib.compress(b"[" + text.encode() * (4_000_000 // len(text)) + b"0]", 9, wbits=31)
    for pressed in (bomb, dense):
        pack_ = Message(data(pressed, count=10_000))
        tracemalloc.start()
        with pytest.raises(DecodeError):
            unpack(pack_)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < 150 * 1024 * 1024


@given(st.recursive(st.none() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)))
def test_whatever_json_comes_is_unpacked_or_refused(body):
    for value in (
        body,
        {"eip-pack": body},
        {"eip-pack": {"version": 1, "encoding": "identity", "count": 1}, "messages": body},
    ):
        try:
            unpack(Message.received(json.dumps(value).encode()))
        except DecodeError:
            continue


ODD_BODIES = [
    b'{"n": 1.10000000000000000001}',
    b"1e400",
    b'{"a":1,"a":2}',
    b"plain",
    b"\xff\0",
    b"",
    b"[" * 300,
    b'{"a":1}',
]


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("body", ODD_BODIES)
def test_a_body_in_a_pack_stays_the_same_bytes(body, encoding):
    """Faults 3 and 12, for packs: what is no JSON, and what JSON would write in another way."""
    sent = [Message.received(b'{"x":1}'), Message.received(body), Message(b"bytes"), Message("text")]
    packed = pack([entry_of(each) for each in sent], sent[0], encoding=encoding)
    assert [each.encode() for each in unpack(packed.sealed())] == [each.encode() for each in sent]


def test_an_odd_entry_of_a_pack_fails_alone():
    """Fault 1, for packs: a stranger's entry does not take its neighbours with it."""
    entries = [entry_of(Message(1)), b'{"b":1,"cid":7}', b"null", b'{"id":"x"}', entry_of(Message(2))]
    made = unpack(pack(entries, Message(0)))
    assert [each.encode() for each in made] == [b"1", b'{"b":1,"cid":7}', b"null", b'{"id":"x"}', b"2"]
    assert [unreadable(each) is None for each in made] == [True, False, False, False, True]
    assert len({each.id for each in made}) == 5
    with pytest.raises(DecodeError):
        _ = made[1].body


@pytest.mark.parametrize(
    "odd",
    [
        '{"id": "x", "at": 1e400, "b": 1}',
        '{"id":"x","exp":1e400,"b":{"k":1e400}}',
        "[ 1e400 ]",
        "1e400",
        '{"id":"x","v":1e3,"b":1}',
        '{"b":1, "b":2,"id":3}',
        '{"id":"x","enc":"base64","b":"@@"}',
        '{"id":"x","headers":{"pack":"1"},"b":1}',
    ],
)
def test_an_odd_entry_fails_alone_with_its_own_bytes(odd):
    """Fault 12: an entry whose value cannot be written again (1e400) made its whole pack unreadable."""
    raw = '{"eip-pack":{"version":1,"encoding":"identity","count":3},"messages":[{"id":"a","b":1},%s,{"id":"c","b":3}]}'
    found = unpack(Message.received((raw % odd).encode(), id="p", created_at=5.0))
    assert [each.body for each in (found[0], found[2])] == [1, 3]
    assert unreadable(found[1]) is not None
    assert (found[1].id, found[1].created_at, found[1].encode()) == ("p-1", 5.0, odd.encode())


def test_an_odd_cloud_event_fails_alone_with_its_own_bytes():
    """Fault 12, a neighbour: an extension that is an infinity."""
    fine = '{"specversion":"1.0","id":"%s","source":"s","type":"t","data":{"k":1}}'
    odd = '{"specversion":"1.0", "id":"x","source":"s","type":"t","ext":1e400}'
    found = unpack(Message.received(f"[{fine % 'a'},{odd},{fine % 'b'}]".encode()))
    assert [each.id for each in (found[0], found[2])] == ["a", "b"]
    assert found[1].encode() == odd.encode()


def test_an_entry_without_an_id_has_the_same_one_each_time():
    """Otherwise its attempts are never counted together, and the head of a message group is tried for ever."""
    outer = Message.received(
        b'{"eip-pack":{"version":1,"encoding":"identity","count":1},"messages":[{"b":1}]}', id="p", created_at=5.0
    )
    first, again = unpack(outer)[0], unpack(outer)[0]
    assert (first.id, first.created_at) == (again.id, again.created_at) == ("p-0", 5.0)
