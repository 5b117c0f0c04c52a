"""Framing: what is written is read back however it is cut; what is no STOMP ends it, and neither hangs nor grows."""

from __future__ import annotations

from itertools import pairwise

import pytest
import stompman
from hypothesis import given
from hypothesis import strategies as st

from eip.errors import InvalidMessage
from eip.transports.activemq._frames import Frame, Parser, ProtocolError, dump

text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
names = text.filter(lambda name: name not in ("content-length", ""))
places = st.lists(st.integers(0, 10_000), max_size=20)
frames = st.builds(
    Frame,
    command=st.sampled_from(["MESSAGE", "RECEIPT", "ERROR", "SEND"]),
    headers=st.dictionaries(names, text, max_size=5),
    body=st.binary(max_size=200),
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def written(frame: Frame) -> bytes:
    return dump(frame.command, {**frame.headers, "content-length": str(len(frame.body))}, frame.body)


@given(st.lists(frames, max_size=4), places, st.sampled_from([b"", b"\n", b"\r\n"]))
def test_frames_are_read_however_they_are_cut(sent, places, beat):
    """Heart-beats between frames vanish; escapes, NULs in bodies and every character survive."""
    data = beat + beat.join(written(each) for each in sent) + beat
    parser, got = Parser(), []
    for piece in cut(data, places):
        got += parser.feed(piece)
    expected = [each._replace(headers={**each.headers, "content-length": str(len(each.body))}) for each in sent]
    assert got == expected
    assert parser.feed(b"") == []


@given(st.binary(max_size=300).filter(lambda body: 0 not in body), places)
def test_without_a_length_the_body_ends_at_the_first_nul(body, places):
    data = dump("MESSAGE", {"a": "b"}, body) * 2
    parser, got = Parser(), []
    for piece in cut(data, places):
        got += parser.feed(piece)
    assert got == [Frame("MESSAGE", {"a": "b"}, body)] * 2


@given(frames)
def test_stompman_reads_what_we_write(frame):
    """Another implementation agrees, where it can: it drops carriage returns and colons of STOMP 1.0."""
    if any("\r" in each or ":" in each for pair in frame.headers.items() for each in pair):
        return
    (other,) = [
        each
        for each in stompman.FrameParser().parse_frames_from_chunk(written(frame))
        if not isinstance(each, stompman.HeartbeatFrame)
    ]
    assert other.headers == {**frame.headers, "content-length": str(len(frame.body))}


@given(st.binary(max_size=400), st.lists(st.integers(0, 10_000), max_size=10))
def test_no_bytes_do_more_than_end_the_connection(data, places):
    """Fuzz: frames come out, or `ProtocolError`; and what is kept is bounded by what came."""
    parser = Parser(most_body=100, most_head=100)
    try:
        for piece in cut(data, places):
            for frame in parser.feed(piece):
                assert len(frame.body) <= 100
    except ProtocolError:
        return
    assert len(parser._buffer) <= min(len(data), 203)


@given(frames, st.integers(0, 10_000), st.integers(0, 255))
def test_a_damaged_byte_never_hangs_the_reader(frame, place, byte):
    """Mutation fuzz: whatever one byte becomes, what follows is read, refused, or still awaited."""
    data = bytearray(written(frame))
    data[place % len(data)] = byte
    parser = Parser()
    try:
        parser.feed(bytes(data))
    except ProtocolError:
        return
    assert len(parser._buffer) <= len(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"MESSAGE\ncontent-length:3\n\nabcd\0", "content-length"),
        (b"MESSAGE\ncontent-length:-1\n\n\0", "content-length"),
        (b"MESSAGE\ncontent-length:\xc2\xb2\n\n\0", "content-length"),
        (b"MESSAGE\ncontent-length:99999999999999999999\n\n", "content-length"),
        (b"MESSAGE\ncontent-length:4000000000\n\n", "exceeds"),
        (b"MESSAGE\nno colon\n\n\0", "no value"),
        (b"MESSAGE\na:\\t\n\n\0", "escape"),
        (b"MESSAGE\na:\\\n\n\0", "escape"),
        (b"MESSAGE\n\xff:1\n\n\0", "UTF-8"),
        (b"MESSAGE\na:\0\n\n\0", "command"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "command"),
        (b"\0", None),
        (b"MESSAGE\n" + b"a:" + b"x" * 2_000_000, "headers"),
        (b"X" * 2_000_000, "headers"),
    ],
)
def test_what_is_refused(data, why):
    """Lies, undefined escapes and endless headers are named; nothing is guessed."""
    parser = Parser(most_body=1_000_000)
    if why is None:
        assert parser.feed(data) == []
        with pytest.raises(ProtocolError):
            parser.feed(b"\n\n")
        return
    with pytest.raises(ProtocolError, match=why):
        parser.feed(data)


def test_an_endless_body_is_refused_when_it_passes_the_limit():
    parser = Parser(most_body=1000)
    parser.feed(b"MESSAGE\n\n" + b"x" * 900)
    with pytest.raises(ProtocolError, match="body"):
        parser.feed(b"x" * 200)


def test_of_a_repeated_header_the_first_counts():
    (frame,) = Parser().feed(b"MESSAGE\na:1\na:2\n\n\0")
    assert frame.headers == {"a": "1"}


def test_ends_of_lines_may_have_a_carriage_return():
    got = Parser().feed(b"MESSAGE\r\na:1\r\n\r\nbody\0\r\nRECEIPT\r\nreceipt-id:7\r\n\r\n\0")
    assert got == [Frame("MESSAGE", {"a": "1"}, b"body"), Frame("RECEIPT", {"receipt-id": "7"}, b"")]


def test_headers_of_connected_are_not_escaped():
    (frame,) = Parser().feed(b"CONNECTED\nversion:1.2\nsession:a\\b:c\n\n\0")
    assert frame.headers["session"] == "a\\b:c"


def test_a_nul_in_a_header_is_not_written():
    with pytest.raises(InvalidMessage):
        dump("SEND", {"a": "\0"})
