"""The HTTP client of the fast path: it reads answers in any pieces, and uses a connection again only if it may."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eip._aws.http_pool import HttpPool
from eip._aws.http_response import (
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    MalformedResponse,
    Response,
    ResponseParser,
)
from tests.runtime.scripted import until
from tests.support.certificates import Authority

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

# Reading.


def parsed(raw: bytes, cuts: list[int], *, eof: bool = False) -> tuple[Response | None, bool]:
    """The response of the pieces that the cuts make, and whether the connection may be used again."""
    parser, at = ResponseParser(), 0
    response: Response | None = None
    for cut in (*sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)):
        assert response is None or cut == at or not parser.keep_alive
        piece, at = raw[at:cut], cut
        if piece and response is None:
            response = parser.feed(piece)
        elif piece:
            parser.keep_alive = False
    if response is None and eof:
        response = parser.feed_eof()
    return response, parser.keep_alive


def chunked(pieces: list[bytes], *, trailers: str = "") -> bytes:
    body = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(each), each) for each in pieces if each)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n" + trailers.encode() + b"\r\n"


CUTS = st.lists(st.integers(0, 10_000), max_size=12)
BODIES = st.binary(max_size=300)


@given(BODIES, CUTS, st.sampled_from((b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 X\r\nLink: a\r\n\r\n")))
def test_an_answer_of_a_length_is_read_in_any_pieces(body, cuts, before):
    raw = before + b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Y:  z \r\n\r\n%b" % (len(body), body)
    response, again = parsed(raw, cuts)
    assert response == (200, {"content-length": str(len(body)), "x-y": "z"}, body)
    assert again


@given(st.lists(BODIES, max_size=4), CUTS, st.sampled_from(("", "Expires: never\r\n", "A: b\r\nC: d\r\n")))
def test_a_chunked_answer_is_read_in_any_pieces(pieces, cuts, trailers):
    response, again = parsed(chunked(pieces, trailers=trailers), cuts)
    assert response is not None
    assert response.body == b"".join(pieces)
    assert again


@given(BODIES, CUTS)
def test_an_answer_without_a_length_ends_with_its_connection(body, cuts):
    response, again = parsed(b"HTTP/1.1 503 Slow\r\nDate: x\r\n\r\n" + body, cuts, eof=True)
    assert response == (503, {"date": "x"}, body)
    assert not again


@given(st.integers(0, 2**31))
def test_an_answer_that_is_cut_short_is_none(seed):
    for raw in (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        chunked([b"hello", b"world"], trailers="A: b\r\n"),
    ):
        short = raw[: seed % len(raw)]
        parser = ResponseParser()
        assert not short or parser.feed(short) is None
        with pytest.raises(ConnectionResetError):
            parser.feed_eof()


@pytest.mark.parametrize(
    ("head", "again"),
    [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0", True),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close", False),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, close", False),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0", False),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive", True),
        ("HTTP/1.1 204 No Content", True),
        ("HTTP/1.1 304 ", True),
    ],
)
def test_a_connection_is_used_again_if_the_answer_allows_it(head, again):
    assert parsed(f"{head}\r\n\r\n".encode(), [])[1] is again


def test_what_follows_an_answer_uninvited_ends_the_connection():
    for raw in (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab", chunked([b"a"]) + b"HTTP/1.1 200 OK\r\n"):
        response, again = parsed(raw, [])
        assert response is not None
        assert response.body == b"a"
        assert not again


def test_chunks_and_a_length_at_once_end_the_connection():
    """RFC 9112, section 6.1: it may be an attempt to smuggle a response in."""
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
    response, again = parsed(raw, [])
    assert response is not None
    assert (response.body, again) == (b"a", False)


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 0200 OK\r\n\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: empty\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * (MAX_HEAD_BYTES + 5),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a" * (MAX_HEAD_BYTES + 5),
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * MAX_HEAD_BYTES,
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * MAX_HEAD_BYTES + b"\r\n\r\n",
    ],
)
def test_garbage_is_refused(raw):
    parser = ResponseParser()
    with pytest.raises(MalformedResponse):
        parser.feed(raw)


def test_a_body_without_a_length_is_bounded():
    parser, piece = ResponseParser(), bytes(MAX_BODY_BYTES // 2)
    assert parser.feed(b"HTTP/1.1 200 OK\r\n\r\n" + piece) is None
    assert parser.feed(piece) is None
    with pytest.raises(MalformedResponse):
        parser.feed(b"x")


# Connections.

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n"


class Server:
    """Counts its connections; each request, of a head and 4 bytes, is left to `answer`."""

    def __init__(self) -> None:
        self.connections = self.requests = 0
        self.answer: Answer = self.ok
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()

    @staticmethod
    async def ok(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(4)
                self.requests += 1
                await self.answer(reader, writer)
        writer.close()

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers.clear()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    async with await asyncio.start_server(made, "127.0.0.1", 0) as listening:
        made.port = listening.sockets[0].getsockname()[1]
        yield made
        made.hang_up()


@pytest.fixture
async def pool(server) -> AsyncIterator[HttpPool]:
    made = HttpPool("127.0.0.1", server.port, tls=None, max_connections=2)
    yield made
    await made.aclose()
    assert not made._waiters


async def test_requests_use_the_same_connections(server, pool):
    for _ in range(5):
        assert (await pool.post(HEAD, b"body")).body == b"ok"
    assert server.connections == 1
    answers = await asyncio.gather(*(pool.post(HEAD, b"body") for _ in range(20)))
    assert len(answers) == 20
    assert server.connections == 2
    assert pool._free == 0


async def test_those_who_wait_are_served_in_turn_and_may_leave(server, pool):
    go, order = asyncio.Event(), []

    async def wait(_, writer):
        await go.wait()
        writer.write(OK)

    server.answer = wait

    async def post(number: int) -> None:
        await pool.post(HEAD, b"body")
        order.append(number)

    tasks = [asyncio.create_task(post(number)) for number in range(6)]
    while server.requests < 2:
        await asyncio.sleep(0)
    tasks[3].cancel()
    await asyncio.wait([tasks[3]])
    go.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(order) == [0, 1, 2, 4, 5]
    assert order[2:] == [2, 4, 5]
    assert len(pool._idle) == 2


@pytest.mark.parametrize("moment", range(12))
async def test_cancelled_at_any_moment_a_request_takes_no_connection_with_it(server, pool, moment):
    """Whatever it was waiting for: its turn, a connection, the end of its writing, or the answer."""
    body = b"body" + bytes(4_000_000 if moment % 2 else 0)

    async def read_all(reader, writer):
        await reader.readexactly(len(body) - 4)
        writer.write(OK)

    server.answer = read_all
    tasks = [asyncio.create_task(pool.post(HEAD, body)) for _ in range(4)]
    for _ in range(moment):
        await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.wait(tasks)
    assert [task.cancelled() for task in tasks] == [True, False, True, False] or moment > 8
    server.answer = server.ok
    for _ in range(5):
        assert (await pool.post(HEAD, b"body")).body == b"ok"
    assert pool._free + len(pool._idle) == 2


async def test_a_connection_that_the_server_closed_is_not_used_again(server, pool):
    await pool.post(HEAD, b"body")
    server.hang_up()
    await until(lambda: not pool._idle[0].usable, within=10)
    await pool.post(HEAD, b"body")
    assert server.connections == 2


async def test_a_connection_half_open_costs_one_request_its_time_and_no_other(server, pool):
    """The peer is gone without a word: nothing comes, not even an end. The kernel asks for a sign of life meanwhile."""
    await pool.post(HEAD, b"body")
    assert pool._idle[0]._transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    async def silent(*_: object) -> None:
        await asyncio.Future()

    server.answer = silent
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await pool.post(HEAD, b"body")
    server.answer = server.ok
    assert (await pool.post(HEAD, b"body")).body == b"ok"
    assert (server.connections, pool._free + len(pool._idle)) == (2, 2)


async def test_a_large_body_is_written_as_the_peer_reads_it(server, pool):
    """A peer that does not read leaves a piece and what fills the buffers in memory, not another copy of the body."""
    size = 16 * 1024 * 1024
    go = asyncio.Event()

    async def late(reader, writer):
        await go.wait()
        await reader.readexactly(size - 4)
        writer.write(OK)

    server.answer = late
    post = asyncio.create_task(pool.post(HEAD, bytes(size)))
    while not pool._open or not next(iter(pool._open))._paused:
        await asyncio.sleep(0)
    assert next(iter(pool._open))._transport.get_write_buffer_size() < 1024 * 1024
    go.set()
    assert (await post).body == b"ok"


async def test_a_connection_that_ends_with_its_answer_is_not_used_again(server, pool):
    """As over TLS, where the end can come in the same segment, and the transport closes only a moment later."""
    await pool.post(HEAD, b"body")
    connection = pool._idle[-1]
    received = connection.data_received

    def with_end(data: bytes) -> None:
        received(data)
        connection.eof_received()

    connection.data_received = with_end
    connection._transport.set_protocol(connection)
    await pool.post(HEAD, b"body")
    assert not pool._idle
    assert (await pool.post(HEAD, b"body")).body == b"ok"
    assert server.connections == 2


async def test_a_connection_that_ends_while_it_changes_hands_costs_no_request(server, pool):
    """Whoever waits for it has sent nothing yet: a new connection is made in its place."""
    go = asyncio.Event()

    async def wait(_, writer):
        await go.wait()
        writer.write(OK)

    server.answer = wait
    give = pool._give

    def give_and_end(connection) -> None:
        waiting = bool(pool._waiters)
        give(connection)
        if waiting and connection is not None:
            connection.eof_received()

    pool._give = give_and_end
    tasks = [asyncio.create_task(pool.post(HEAD, b"body")) for _ in range(4)]
    while server.requests < 2:
        await asyncio.sleep(0)
    go.set()
    assert [each.body for each in await asyncio.gather(*tasks)] == [b"ok"] * 4
    assert server.connections == 4
    assert len(pool._open) == len(pool._idle) == 2


async def test_an_idle_connection_is_closed_after_a_while(server, pool, monkeypatch):
    monkeypatch.setattr("eip._aws.http_pool._IDLE_S", 0.02)
    await pool.post(HEAD, b"body")
    await until(lambda: pool._free == 2, within=10)
    await pool.post(HEAD, b"body")
    assert server.connections == 2


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", ConnectionResetError),
        (b"HTTP/1.1 200", ConnectionResetError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", ConnectionResetError),
        (b"garbage\r\n\r\n", MalformedResponse),
    ],
)
async def test_an_answer_that_breaks_off_fails_its_request_alone(server, pool, raw, error):
    async def break_off(_, writer):
        writer.write(raw)
        await writer.drain()
        writer.close()

    server.answer = break_off
    with pytest.raises(error):
        await pool.post(HEAD, b"body")
    server.answer = server.ok
    assert (await pool.post(HEAD, b"body")).status == 200
    assert server.requests == 2  # nothing is sent again by itself


async def test_what_comes_uninvited_is_no_answer_to_the_next_request(server, pool):
    async def twice(_, writer):
        writer.write(OK)
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(OK.replace(b"ok", b"no"))

    server.answer = twice
    await pool.post(HEAD, b"body")
    await until(lambda: not pool._idle[0].usable, within=10)
    server.answer = server.ok
    assert (await pool.post(HEAD, b"body")).body == b"ok"
    assert server.connections == 2


async def test_an_answer_before_the_end_of_the_request_ends_the_connection(server, pool):
    async def refuse(_, writer):
        writer.write(b"HTTP/1.1 413 Too large\r\nContent-Length: 0\r\n\r\n")
        await asyncio.sleep(3600)

    server.answer = refuse
    assert (await pool.post(HEAD, b"body" + bytes(30_000_000))).status == 413
    assert pool._free == 2


async def test_nobody_listens(server):
    pool = HttpPool("127.0.0.1", 9, tls=None, max_connections=1)
    for _ in range(3):
        with pytest.raises(OSError, match=r"\w"):
            await pool.post(HEAD, b"body")
    await pool.aclose()
    await pool.aclose()
    with pytest.raises(ConnectionError, match="closed"):
        await pool.post(HEAD, b"body")


async def test_closing_fails_what_is_in_flight_and_what_waits(server, pool):
    async def never(*_):
        await asyncio.sleep(3600)

    server.answer = never
    tasks = [asyncio.create_task(pool.post(HEAD, b"body")) for _ in range(4)]
    while server.requests < 2:
        await asyncio.sleep(0)
    await pool.aclose()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, ConnectionError)


async def test_over_tls_with_a_large_body(tmp_path):
    authority = Authority(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.issue("localhost"))
    server = Server()
    large = b"body" + bytes(3_000_000)

    async def read_all(reader, writer):
        await reader.readexactly(len(large) - 4)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(large), large))

    server.answer = read_all
    async with await asyncio.start_server(server, "127.0.0.1", 0, ssl=context) as listening:
        port = listening.sockets[0].getsockname()[1]
        for authorities in (authority.certificate, None):
            trusted = ssl.create_default_context(cafile=authorities)
            pool = HttpPool("localhost", port, tls=trusted, max_connections=1)
            if authorities:
                for _ in range(2):
                    assert (await pool.post(HEAD, large)).body == large
            else:
                with pytest.raises(ssl.SSLCertVerificationError):
                    await pool.post(HEAD, large)
            await pool.aclose()
        server.hang_up()
    assert server.connections == 1
