"""What a user would pick instead of `eip.transports.activemq`: stomp.py, stompman, and a socket with ten lines of code.

Each receives and acknowledges, or sends confirmed, on the broker that the benchmark started; nothing is simulated. All
but the socket, which is the floor, encode each message.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, Self

import stomp
import stompman
from stompman.connection import AbstractConnection

from benchmarks._report import watch
from eip.transports.activemq._stomp.parser import Parser

__all__ = [
    "OurFraming",
    "raw_receive",
    "raw_send",
    "stomp_py_receive",
    "stomp_py_send",
    "stompman_receive",
    "stompman_send",
]

USER, PASSWORD = "eip", "eip-secret"
HEARTBEAT = stompman.Heartbeat(will_send_interval_ms=10_000, want_to_receive_interval_ms=10_000)
"""As services use it; with intervals of 0 stompman's tasks spin."""
WINDOW = 100
"""Messages that are received before they are acknowledged, or of a transaction."""
_FRAMES: dict[str, type[Any]] = {
    "CONNECTED": stompman.ConnectedFrame,
    "MESSAGE": stompman.MessageFrame,
    "RECEIPT": stompman.ReceiptFrame,
    "ERROR": stompman.ErrorFrame,
}


@dataclass(kw_only=True)
class OurFraming(AbstractConnection):
    """stompman with our parser, through its public ``connection_class``."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def connect(cls, *, host: str, port: int, **_: Any) -> Self:
        reader, writer = await asyncio.open_connection(host, port, limit=1 << 22)
        return cls(reader=reader, writer=writer)

    async def close(self) -> None:
        self.writer.close()

    def write_heartbeat(self) -> None:
        self.writer.write(b"\n")

    async def write_frame(self, frame: stompman.AnyClientFrame) -> None:
        self.writer.write(stompman.dump_frame(frame))
        await self.writer.drain()

    async def read_frames(self) -> AsyncGenerator[stompman.AnyServerFrame, None]:
        parser = Parser()
        while chunk := await self.reader.read(1 << 20):
            self.last_read_time = time.time()
            for frame in parser.feed(chunk):
                kind = _FRAMES[frame.command]
                more = {"body": frame.body} if frame.command == "MESSAGE" else {}
                yield kind(headers=frame.headers, **more)
        raise stompman.ConnectionLostError(reason="end of file")


def _client(port: int, framing: type[AbstractConnection] | None) -> stompman.Client:
    server = stompman.ConnectionParameters(host="127.0.0.1", port=port, login=USER, passcode=PASSWORD)
    more: dict[str, Any] = {} if framing is None else {"connection_class": framing}
    return stompman.Client(servers=[server], max_concurrent_handlers=None, heartbeat=HEARTBEAT, **more)


async def stompman_receive(port: int, queue: str, count: int, framing: type[AbstractConnection] | None = None) -> None:
    received, done = 0, asyncio.Event()

    async def handle(frame: stompman.AckableMessageFrame) -> None:
        nonlocal received
        await frame.ack()
        received += 1
        if received == count:
            done.set()

    async with _client(port, framing) as client:
        watch.start()
        subscription = await client.subscribe_with_manual_ack(
            f"/queue/{queue}", handle, headers={"activemq.prefetchSize": str(WINDOW)}
        )
        await done.wait()
        watch.stop()
        await subscription.unsubscribe()


async def stompman_send(port: int, queue: str, count: int, encode: Callable[[], bytes]) -> None:
    """A receipt for each, fifty at a time: its transactions have no receipt on their commit."""
    async with _client(port, OurFraming) as client:
        watch.start()
        numbers = iter(range(count))

        async def send() -> None:
            for _ in numbers:
                await client.send(encode(), f"/queue/{queue}", headers={"persistent": "true"}, receipt_timeout=60)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(50):
                tasks.create_task(send())
        watch.stop()


def stomp_py_receive(port: int, queue: str, count: int) -> None:
    done = threading.Event()

    class Listener(stomp.ConnectionListener):  # type: ignore[misc]  # no types are published
        received = 0

        def on_message(self, frame: Any) -> None:
            connection.ack(frame.headers["ack"])
            self.received += 1
            if self.received == count:
                done.set()

    connection = stomp.Connection12([("127.0.0.1", port)])
    connection.set_listener("", Listener())
    connection.connect(USER, PASSWORD, wait=True)
    watch.start()
    connection.subscribe(
        f"/queue/{queue}", id="s", ack="client-individual", headers={"activemq.prefetchSize": str(WINDOW)}
    )
    done.wait()
    watch.stop()
    connection.disconnect()


def stomp_py_send(port: int, queue: str, count: int, encode: Callable[[], bytes]) -> None:
    """Transactions of a hundred, the next one begun when the commit is confirmed."""
    confirmed = threading.Semaphore(0)

    class Listener(stomp.ConnectionListener):  # type: ignore[misc]  # as above
        def on_receipt(self, _: Any) -> None:
            confirmed.release()

    connection = stomp.Connection12([("127.0.0.1", port)])
    connection.set_listener("", Listener())
    connection.connect(USER, PASSWORD, wait=True)
    watch.start()
    for start in range(0, count, WINDOW):
        transaction = connection.begin()
        for _ in range(start, min(start + WINDOW, count)):
            connection.send(f"/queue/{queue}", encode().decode(), transaction=transaction, persistent="true")
        connection.commit(transaction, receipt=f"c{start}")
        confirmed.acquire()
    watch.stop()
    connection.set_listener("", stomp.ConnectionListener())
    connection.disconnect()


def _raw(port: int) -> socket.socket:
    raw = socket.create_connection(("127.0.0.1", port))
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.sendall(f"CONNECT\naccept-version:1.2\nhost:x\nlogin:{USER}\npasscode:{PASSWORD}\n\n\0".encode())
    assert raw.recv(4096).startswith(b"CONNECTED")
    return raw


def raw_receive(port: int, queue: str, count: int) -> None:
    """The least that can be done: find the ack id, find the end, acknowledge."""
    with _raw(port) as raw:
        watch.start()
        raw.sendall(
            f"SUBSCRIBE\nid:s\ndestination:/queue/{queue}\nack:client-individual\n"
            f"activemq.prefetchSize:{WINDOW}\n\n\0".encode()
        )
        buffer, received = bytearray(), 0
        while received < count:
            buffer += raw.recv(1 << 18)
            acks, at = [], 0
            while (end := buffer.find(0, at)) >= 0:
                ack = buffer.find(b"\nack:", at) + 5
                acks.append(b"ACK\nid:" + buffer[ack : buffer.find(b"\n", ack)] + b"\n\n\0")
                at = end + 1
            del buffer[:at]
            received += len(acks)
            raw.sendall(b"".join(acks))
        watch.stop()
        raw.sendall(b"DISCONNECT\nreceipt:d\n\n\0")
        raw.recv(4096)


def raw_send(port: int, queue: str, count: int, body: bytes) -> None:
    """Transactions of a hundred, the next one begun when the commit is confirmed."""
    with _raw(port) as raw:
        watch.start()
        for start in range(0, count, WINDOW):
            frame = (
                f"SEND\ndestination:/queue/{queue}\npersistent:true\ntransaction:t\ncontent-length:{len(body)}\n\n".encode()
                + body
                + b"\0"
            )
            frames = frame * min(WINDOW, count - start)
            raw.sendall(b"BEGIN\ntransaction:t\n\n\0" + frames + b"COMMIT\ntransaction:t\nreceipt:r\n\n\0")
            assert raw.recv(4096).lstrip(b"\n").startswith(b"RECEIPT")
        watch.stop()
