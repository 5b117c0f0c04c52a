"""ActiveMQ Artemis, where its STOMP differs from Classic's.

What is sent and received is Classic's form, changed here on its way to and from a connection to Artemis. Source: the
chapter "STOMP" of its user manual, and its protocol module (2.40): a SEND without ``content-length`` makes a
TextMessage; ``destination-type`` and ``subscription-type`` choose the routing, with or without prefixes of the
acceptor; windows are in bytes; all headers of a SEND that it does not know come back with the message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from eip.transports.activemq._stomp.frames import Frame

__all__ = ["is_artemis", "received", "send_head", "subscribe_headers"]

_SERVER: Final = "ActiveMQ-Artemis/"
_CONTENT_LENGTH: Final = re.compile(rb"\ncontent-length:\d+(?=\n)")
_TEXT: Final = b"\namq-msg-type:text\n"
_TOPIC: Final = b"SEND\ndestination:/topic/"
_VIRTUAL_QUEUE: Final = re.compile(r"/queue/(Consumer\.[^.]+\.(VirtualTopic\..+))")
_WINDOW_PER_MESSAGE: Final = 1024
"""Bytes of the window for each message that a consumer holds; a larger message comes alone."""
_OF_SENDING: Final = frozenset(("destination-type", "receipt", "transaction", "__AMQ_CID"))
"""Headers of the SEND, and the broker's id of its connection, which Artemis keeps as properties."""
_GROUP: Final = "_AMQ_GROUP_ID"


def is_artemis(server: str) -> bool:
    """Return whether the ``server`` header of CONNECTED is Artemis's."""
    return server.startswith(_SERVER)


def send_head(head: bytes, body: bytes) -> bytes:
    """Return the head of a SEND with its routing type; that of a text without its length, so that it stays a text."""
    kind = b"MULTICAST" if head.startswith(_TOPIC) else b"ANYCAST"
    if _TEXT in head and b"\0" not in body:
        head = _CONTENT_LENGTH.sub(b"", head, count=1)
    return head + b"destination-type:" + kind + b"\n"


def subscribe_headers(headers: Mapping[str, str], *, capacity: int) -> dict[str, str]:
    """Return the headers of a SUBSCRIBE: the window in bytes, and the routing type.

    The queue of a virtual topic's subscription is a queue of the topic's address, named in full.

    Args:
        headers: as Classic takes them.
        capacity: messages that the consumer may hold.
    """
    changed = {name: value for name, value in headers.items() if name != "activemq.prefetchSize"}
    changed["consumer-window-size"] = str(capacity * _WINDOW_PER_MESSAGE)
    destination = headers["destination"]
    if (virtual := _VIRTUAL_QUEUE.fullmatch(destination)) is not None:
        destination = changed["destination"] = f"/topic/{virtual[2]}::{virtual[1]}"
    changed["subscription-type"] = "MULTICAST" if destination.startswith("/topic/") else "ANYCAST"
    return changed


def received(frame: Frame) -> Frame:
    """Return a MESSAGE as Classic would send it: without the headers of its sending, with its group."""
    headers = {name: value for name, value in frame.headers.items() if name not in _OF_SENDING}
    if (group := headers.pop(_GROUP, None)) is not None:
        headers.setdefault("JMSXGroupID", group)
    return frame._replace(headers=headers)
