"""STOMP frames and headers: neighbours are read, the odd one can be settled, and has its bytes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st

from eip import Message
from eip.codec import dump_json
from eip.errors import InvalidMessage
from eip.transports.activemq._bodies import body_read
from eip.transports.activemq._broker_dead_letters import ack_ids_of
from eip.transports.activemq._decoding import from_frame
from eip.transports.activemq._encoding import encoded, retry_copy
from eip.transports.activemq._stomp.frames import Frame, _parse_odd, _parse_plain
from eip.transports.activemq._stomp.parser import Parser
from tests.fuzz import bounded_time, fuzz, mutated, odd_json, odd_text

DESTINATION = "/queue/q"
SENT = Message(
    {"n": 1},
    type="T",
    group_id="g",
    correlation_id="c:1",
    return_address="activemq:queue/answers",
    expires_at=9e9,
    headers={"long": "é" * 4_000},
    attributes={"n": 7, "s": "a:b", "f": 1.5, "l": ["a", 1], "odd name": "x", "expires": "1"},
)


def delivered(ack: str, message: Message) -> bytes:
    """The message as a broker delivers it."""
    head, body = encoded(message, destination=DESTINATION)
    lines = head.removeprefix(b"SEND\n")
    return b"MESSAGE\nack:%b\nsubscription:s\nmessage-id:ID\\c1\n%b\n%b\0\n" % (ack.encode(), lines, body)


ODD = [
    delivered("odd", SENT),
    delivered("odd", Message(b"\xff\0\xfe")),
    b"MESSAGE\nack:odd\nsubscription:s\nexpires:0\ntype:t\\c\n\nplain text \xed\xa0\xbe\xed\xb6\x84\0\n",
    b"MESSAGE\nack:odd\nsubscription:s\neip:[\ncontent-length:3\npriority:4\n\nabc\0\n",
]
FIRST, LAST = delivered("first", Message("first")), delivered("last", Message("last"))


@fuzz(mutated(ODD), st.lists(st.integers(0, 10_000), max_size=4), short=400)
def test_an_odd_frame_harms_no_neighbour(odd, places):
    """Fault 5: those before are read; those behind are read, or the reader fails, so that they come again."""
    data = FIRST + odd + LAST
    edges = [0, *sorted(place % len(data) for place in places), len(data)]
    parser = Parser(max_body=20_000, max_head=20_000)
    with bounded_time():
        frames = [frame for start, end in pairwise(edges) for frame in parser.feed(data[start:end])]
        read = [(frame, from_frame(frame)) for frame in frames if frame.command == "MESSAGE"]
    assert read[0][1].message.body == "first"
    for frame, received in read[1:]:
        assert frame.complete or parser.failure is not None
        assert ack_ids_of(frame) or "ack" not in frame.headers
        assert received.message.raw is not None
    intact = parser.failure is None and parser.idle
    assert not intact or frames[-1].body.endswith(b'"last"')


headers = st.dictionaries(
    st.sampled_from(["eip", "eip-1", "expires", "timestamp", "priority", "reply-to", "type", "content-type", "eip-due"])
    | odd_text,
    odd_text | st.sampled_from(["0", "60000", "true", "/queue/x", '{"v":1,"attrs":{"a":1}}', '{"types":{"n":"int"}}']),
    max_size=8,
)


@fuzz(mutated([b'MESSAGE\nack:ID\\c1\nsubscription:s\neip:{"v"\\c1}\nx:a\\nb', b"ERROR\r\nmessage:no\r\nack:1\nack:2"]))
def test_the_short_way_of_reading_a_head_reads_what_the_long_one_does(head):
    plain = _parse_plain(head)
    assert plain is None or plain == _parse_odd(head)


@fuzz(headers, st.binary(max_size=40), short=400)
def test_whatever_the_headers_are_the_message_is_passed_on_or_refused(found, body):
    """Faults 5, 9b and 14: reading never fails; a copy has no header that was made of a property."""
    frame = Frame("MESSAGE", {"ack": "1", "message-id": "ID:1", **found}, body)
    received = from_frame(frame)
    try:
        head, copy = retry_copy(received.message, frame.headers, destination=DESTINATION, attempts=1, delay=0.0)
    except InvalidMessage:
        return
    (again,) = Parser().feed(head.replace(b"SEND", b"MESSAGE", 1) + b"\n" + copy + b"\0")
    assert again.headers["destination"] == DESTINATION
    assert again.headers["eip-attempts"] == "1"
    assert "AMQ_SCHEDULED_DELAY" not in again.headers
    back = from_frame(again)
    assert back.message.attributes == received.message.attributes
    assert back.message.raw == received.message.raw
    assert (back.error is None) == (received.error is None)


@fuzz(odd_json("v", "id", "attrs", "types", "headers", "at", "exp", "seq", "cid"))
def test_any_envelope_is_read_or_the_messages_own_error(value):
    """Fault 5."""
    try:
        text = dump_json(value).decode()
    except InvalidMessage:
        return
    received = from_frame(Frame("MESSAGE", {"ack": "1", "message-id": "ID:1", "eip": text}, b"1"))
    assert received.message.raw == b"1"


@fuzz(st.text(max_size=40))
def test_any_text_is_read_back_from_java(text):
    """Fault 13: Java's modified UTF-8, which the broker passes on as it is."""
    wide = text.encode("utf-16-le", "surrogatepass")
    java = b"".join(
        chr(int.from_bytes(wide[i : i + 2], "little")).encode("utf-8", "surrogatepass") for i in range(0, len(wide), 2)
    ).replace(b"\0", b"\xc0\x80")
    assert body_read(java, text=True) == text.encode()
