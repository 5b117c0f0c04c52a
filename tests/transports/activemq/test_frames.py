"""Framing: what is written is read back however it is cut; what is no STOMP ends it, and neither hangs nor grows."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
import stompman
from hypothesis import given
from hypothesis import strategies as st

from eip.errors import AccessDenied, ChannelNotFound, ConnectionLost, InvalidMessage, Throttled
from eip.testing import VirtualTimeLoop
from eip.transports.activemq._stomp.errors import error_of
from eip.transports.activemq._stomp.frame_timeout import FrameTimeout
from eip.transports.activemq._stomp.frames import Frame, NotStomp, dump
from eip.transports.activemq._stomp.parser import Parser

text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
names = text.filter(lambda name: name not in ("content-length", ""))
places = st.lists(st.integers(0, 10_000), max_size=20)
frames = st.builds(
    Frame,
    command=st.sampled_from(["MESSAGE", "RECEIPT", "ERROR", "SEND"]),
    headers=st.dictionaries(names, text, max_size=5),
    body=st.binary(max_size=200),
    error=st.none(),
    head=st.just(b""),
    complete=st.just(True),
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
    """Fuzz: frames come out, or the reader fails; it never raises, and what it keeps is bounded."""
    parser = Parser(max_body=100, max_head=100)
    for piece in cut(data, places):
        for frame in parser.feed(piece):
            assert len(frame.body) <= 100
        assert len(parser._buffer) <= 400


@given(frames, st.integers(0, 10_000), st.integers(0, 255))
def test_a_damaged_byte_never_hangs_the_reader(frame, place, byte):
    """Mutation fuzz: whatever one byte becomes, what follows is read, refused, or still awaited."""
    data = bytearray(written(frame))
    data[place % len(data)] = byte
    parser = Parser()
    parser.feed(bytes(data))
    assert len(parser._buffer) <= len(data)


NEXT = b"MESSAGE\nack:2\n\nnext\0"


@pytest.mark.parametrize(
    ("data", "why", "body"),
    [
        (b"MESSAGE\nack:1\ncontent-length:3\n\nabcd\0", "content-length", b"abcd"),
        (b"MESSAGE\nack:1\ncontent-length:5\n\nabcd\0", "content-length", b"abcd"),
        (b"MESSAGE\nack:1\ncontent-length:-1\n\nab\0", "content-length", b"ab"),
        (b"MESSAGE\nack:1\ncontent-length:\xc2\xb2\n\nab\0", "content-length", b"ab"),
        (b"MESSAGE\nack:1\ncontent-length:99999999999999999999\n\nab\0", "content-length", b"ab"),
        (b"MESSAGE\nack:1\nno colon\n\nab\0", "no value", b"ab"),
        (b"MESSAGE\nack:1\na:\\t\n\nab\0", "escape", b"ab"),
        (b"MESSAGE\nack:1\na:\\\n\nab\0", "escape", b"ab"),
        (b"MESSAGE\nack:1\n\xff:1\n\nab\0", "UTF-8", b"ab"),
        (b"MESSAGE\nack:1\nack:3\n\nab\0", "twice", b"ab"),
    ],
)
def test_a_malformed_frame_is_one_messages_own(data, why, body):
    """Fault 5: it comes out with its error and its bytes, by which it can be settled; the next one is read."""
    for pieces in ([data + NEXT], [data[:12], data[12:], NEXT], [bytes((each,)) for each in data + b"\n" + NEXT]):
        parser = Parser(max_body=1_000_000)
        got = [frame for piece in pieces for frame in parser.feed(piece)]
        assert [(each.body, each.complete) for each in got] == [(body, True), (b"next", True)]
        assert why in str(got[0].error)
        assert (got[0].headers["ack"], got[1].error) == ("1", None)
        assert parser.failure is None


@pytest.mark.parametrize("data", [b"MESSAGE\na:\0\nack:1\n\n\0", b"MESSAGE\nb\\t:x\nack:1\n\n\0"])
def test_what_a_jms_producer_may_set_is_read(data):
    """A NUL in a value, which STOMP 1.2 allows; a backslash in a name, which ActiveMQ does not escape."""
    (frame,) = Parser().feed(data)
    assert frame.error is None


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"MESSAGE\nack:1\ncontent-length:4000000000\n\n", "exceeds"),
        (b"MESSAGE\nack:1\n\n" + b"x" * 1_100_000, "exceeds"),
        (b"MESSAGE\nack:1\na:" + b"x" * 1_800_000 + b"\n\n", "headers"),
        (b"MESSAGE\na:" + b"x" * 1_800_000 + b"\nack:1\nb:2\n\n", "headers"),
        (b"MESSAGE\nack:1\ncontent-length:1\n\nab\0forged\0", "content-length"),
    ],
)
def test_a_frame_without_a_certain_end_fails_the_reader_and_can_be_settled(data, why):
    """Fault 5: nothing behind it can be trusted, but its ack header is found, in bounded memory."""
    for size in (len(data), 1000):
        parser = Parser(max_body=1_000_000, max_head=1_000_000)
        got = []
        for start in range(0, len(data), size):
            got += parser.feed(data[start : start + size])
            assert len(parser._buffer) <= 1_000_000 + 2 * size
        assert [(each.headers["ack"], each.complete) for each in got] == [("1", False)]
        assert parser.failure is not None
        assert why in f"{parser.failure} {got[0].error}"
        assert parser.feed(NEXT) == []


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0", b"X" * 100, b"\x15\x03\x03\0\2\2\x50", b"\0ab"]
)
def test_what_is_not_stomp_fails_the_reader_at_once(data):
    parser = Parser()
    assert parser.feed(data) == []
    assert isinstance(parser.failure, NotStomp)


def test_a_frame_whose_end_does_not_come_can_be_given_up():
    """A length that is too long swallows what follows; the reader can be told to stop waiting."""
    parser = Parser()
    assert parser.feed(b"MESSAGE\nack:1\ncontent-length:500\n\nab\0" + NEXT) == []
    assert not parser.idle
    frame = parser.give_up("too slow")
    assert frame is not None
    assert (frame.headers["ack"], frame.complete, frame.error) == ("1", False, "too slow")


@pytest.mark.parametrize("size", [700, 10_000_000])
def test_of_an_oversized_head_all_that_settles_it_is_found(size):
    """Fault 5: whether the broker keeps what is NACKed depends on headers that may come behind a property of 2 MB."""
    parser = Parser(max_body=1_000_000, max_head=1_000_000)
    lines = {"ack": "a\\c1", "big": "x" * 1_500_000, "message-id": "m\\c1", "persistent": "true", "last": "x" * 400_000}
    data = b"MESSAGE\n" + b"".join(f"{name}:{value}\n".encode() for name, value in lines.items())
    got = []
    for start in range(0, len(data), size):
        got += parser.feed(data[start : start + size])
    assert got == []
    frame = parser.give_up("too slow")
    assert frame is not None
    assert frame.headers == {"ack": "a:1", "message-id": "m:1", "persistent": "true"}
    assert frame.error == "too slow"


def test_a_frame_is_given_up_while_the_broker_is_alive_and_only_then():
    """Kind of fault 5: a message is not set aside for a stall in the middle of its frame."""

    async def main() -> None:
        parser, given_up, loop = Parser(), list[float](), asyncio.get_running_loop()
        watch = FrameTimeout(parser, lambda _: given_up.append(loop.time()), expects_beats=lambda: True)
        start = loop.time()

        def feed(data: bytes) -> None:
            watch.fed(data, len(parser.feed(data)))

        feed(b"MESSAGE\nack:1\ncontent-length:500\n\nab")
        await asyncio.sleep(100)  # a broker that stalls sends no heart-beat: its silence ends the connection
        assert not given_up
        feed(b"c")
        await asyncio.sleep(5)
        feed(b"\n")
        await asyncio.sleep(50)
        assert len(given_up) == 1
        assert 110 <= given_up[0] - start <= 120
        watch.stop()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())


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


@pytest.mark.parametrize(
    ("trace", "reason", "kind"),
    [
        ("javax.jms.ResourceAllocationException", "Usage Manager is full: queue://password-resets", Throttled),
        ("java.lang.SecurityException", "not authorized to write to: queue://usage manager", AccessDenied),
        ("javax.jms.InvalidDestinationException", "queue://authentication.audit does not exist", ChannelNotFound),
        ("javax.jms.JMSException", "No credentials: the password is wrong", AccessDenied),
        ("javax.jms.InvalidClientIDException", "Client: prices.s already connected", ConnectionLost),
        ("org.apache.activemq.broker.BrokerStoppedException", "authenticator is stopped", ConnectionLost),
        ("java.io.IOException", "Journal is closed: queue://password-resets", ConnectionLost),
    ],
)
def test_an_error_is_what_its_exception_says_whatever_the_channel_is_called(trace, reason, kind):
    """Kind of fault 8: a channel's name is part of the text, and must not make a full broker a refused password."""
    found = error_of(Frame("ERROR", {"message": reason}, f"{trace}: {reason}\n\tat ...".encode()))
    assert type(found) is kind
    assert reason in str(found)
