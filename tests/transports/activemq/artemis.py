"""A broker that speaks STOMP as ActiveMQ Artemis does, after its manual and its source; nothing is on a disk.

It keeps what the driver must cope with: unknown headers of a SEND come back with the message, types follow from the
content length, windows are in bytes, a NACK is an ACK, queues are addresses with routing types, and a browser is no
browser.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from itertools import count
from typing import Any, Self

from eip.transports.activemq._stomp.frames import dump, parse_head

__all__ = ["Artemis"]

KNOWN = {"correlation-id", "type", "priority", "persistent", "expires", "reply-to", "destination", "content-length"}
MAX_DELIVERY_ATTEMPTS = 10


class Artemis:
    """Listens on a free port of the loopback."""

    def __init__(self) -> None:
        self.queues: dict[str, list[dict[str, Any]]] = defaultdict(list)
        """Messages by queue; one with ``::`` in its name is of the address before it."""
        self.sent: list[tuple[dict[str, str], bytes]] = []
        """What clients sent: headers and bodies of SEND."""
        self.commands: list[str] = []
        self.subscribed: list[dict[str, str]] = []
        self.dead: list[dict[str, Any]] = []
        """Messages at its dead-letter address."""
        self._numbers = count(1)
        self._sessions: list[Session] = []
        self._serving: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"stomp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for each in self._sessions:
            each.writer.close()
        if self._serving:
            await asyncio.wait(self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session, task = Session(self, writer), asyncio.current_task()
        assert task is not None
        self._sessions.append(session)
        self._serving.add(task)
        try:
            while (head := await reader.readuntil(b"\n\n")).strip():
                frame = parse_head(head.strip(b"\n"))
                length = frame.headers.get("content-length")
                body = await reader.readexactly(int(length)) if length else (await reader.readuntil(b"\0"))[:-1]
                if length:
                    await reader.readexactly(1)
                session.take(frame.command, frame.headers, body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            session.end()
            self._sessions.remove(session)
            self._serving.discard(task)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def put(self, headers: dict[str, str], body: bytes) -> None:
        """Route a message by its routing type."""
        message = {"id": str(next(self._numbers)), "headers": headers, "body": body, "deliveries": 0}
        destination = headers["destination"]
        if headers.get("destination-type", "MULTICAST") == "ANYCAST":
            self.queues[destination].append(message)
        else:
            for name in [each for each in self.queues if each.startswith(f"{destination}::")]:
                self.queues[name].append({**message, "id": str(next(self._numbers))})
        self.dispatch()

    def dispatch(self) -> None:
        """Hand out what the windows have room for."""
        for session in self._sessions:
            session.hand_out()


class Session:
    """A connection of a client."""

    def __init__(self, broker: Artemis, writer: asyncio.StreamWriter) -> None:
        self.broker, self.writer = broker, writer
        self.subscription: dict[str, str] | None = None
        self.window = 0
        self.out: dict[str, dict[str, Any]] = {}
        self.transactions: dict[str, list[tuple[dict[str, str], bytes]]] = {}

    def take(self, command: str, headers: dict[str, str], body: bytes) -> None:
        """Process a frame."""
        self.broker.commands.append(command)
        match command:
            case "CONNECT":
                greeting = {"version": "1.2", "server": "ActiveMQ-Artemis/2.40.0 ActiveMQ Artemis Messaging Engine"}
                self.writer.write(dump("CONNECTED", {**greeting, "heart-beat": "0,0"}))
            case "SEND" if "transaction" in headers:
                self.transactions[headers["transaction"]].append((headers, body))
            case "SEND":
                self._send(headers, body)
            case "BEGIN":
                self.transactions[headers["transaction"]] = []
            case "COMMIT":
                for each in self.transactions.pop(headers["transaction"]):
                    self._send(*each)
            case "ABORT":
                del self.transactions[headers["transaction"]]
            case "SUBSCRIBE":
                self._subscribe(headers)
            case "ACK" | "NACK":  # it discards what is NACKed
                message = self.out.pop(headers["id"])
                self.window += len(message["body"])
        if "receipt" in headers:
            self.writer.write(dump("RECEIPT", {"receipt-id": headers["receipt"]}))
        self.hand_out()

    def _send(self, headers: dict[str, str], body: bytes) -> None:
        self.broker.sent.append((headers, body))
        self.broker.put(headers, body)

    def _subscribe(self, headers: dict[str, str]) -> None:
        self.broker.subscribed.append(headers)
        self.subscription = headers
        self.window = int(headers.get("consumer-window-size", headers.get("activemq.prefetchSize", "10240")))
        _ = self.broker.queues[headers["destination"]]

    def hand_out(self) -> None:
        """Send messages while the window has room."""
        if self.subscription is None:
            return
        waiting = self.broker.queues[self.subscription["destination"]]
        while waiting and self.window > 0:
            message = waiting.pop(0)
            message["deliveries"] += 1
            self.window -= len(message["body"])
            self.out[message["id"]] = message
            self.writer.write(dump("MESSAGE", self._headers(message), message["body"]))

    def _headers(self, message: dict[str, Any]) -> dict[str, str]:
        sent = message["headers"]
        assert self.subscription is not None
        made = {"subscription": self.subscription["id"], "ack": message["id"], "message-id": message["id"]}
        made |= {"redelivered": str(message["deliveries"] > 1).lower(), "timestamp": "1764000000000"}
        made |= {name: sent[name] for name in sent if name in KNOWN and name != "content-length"}
        if "content-length" in sent:
            made["content-length"] = str(len(message["body"]))
        made |= {"expires": "0", "priority": "4"} | made
        if "JMSXGroupID" in sent:
            made["_AMQ_GROUP_ID"] = sent["JMSXGroupID"]
        return made | {name: value for name, value in sent.items() if name not in KNOWN | {"JMSXGroupID"}}

    def end(self) -> None:
        """Put back what was not acknowledged."""
        if self.subscription is not None:
            back = self.broker.queues[self.subscription["destination"]]
            back[:0] = [each for each in self.out.values() if each["deliveries"] < MAX_DELIVERY_ATTEMPTS]
            self.broker.dead += [each for each in self.out.values() if each not in back]
            self.subscription = None
            self.broker.dispatch()
