"""Whatever a server sends: the fast path's parser reads the same, in whatever pieces it comes, or refuses it."""

from __future__ import annotations

from hypothesis import strategies as st

from eip._aws.http_response import MalformedResponse, ResponseParser
from tests.fuzz import fuzz, mutated

ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nConnection: keep-alive\r\n\r\nhello world",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 500 Oops\r\nServer: x\r\n\r\nbody",
    b"HTTP/1.1 403 No\r\nx-amzn-query-error: A.B;Sender\r\nContent-Length: 2\r\n\r\n{}",
]


def outcome(raw: bytes, cuts: list[int]) -> object:
    """What is read of the pieces that the cuts make, and whether the connection may be used again; or the error."""
    parser, start = ResponseParser(), 0
    try:
        for cut in (*sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)):
            if start < cut and (response := parser.feed(raw[start:cut])) is not None:
                return response, parser.keep_alive and not raw[cut:]
            start = cut
        return parser.feed_eof(), False
    except (MalformedResponse, ConnectionResetError) as error:
        return type(error)


@fuzz(mutated(ANSWERS), st.lists(st.integers(0, 300), max_size=12))
def test_no_answer_is_read_differently_in_other_pieces(raw, cuts):
    assert outcome(raw, cuts) == outcome(raw, [])
