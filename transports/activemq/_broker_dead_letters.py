"""Messages that nobody can read, or carry any further: the broker keeps them in its own dead-letter queue.

ActiveMQ Classic moves a message that is NACKed to its dead-letter queue (``ActiveMQ.DLQ`` by default), every byte and
type kept. Source: https://activemq.apache.org/components/classic/documentation/message-redelivery-and-dlq-handling
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from eip._logging import get_logger
from eip.transports.activemq._stomp.connection import MAY_BE_REFUSED, Connection
from eip.transports.activemq._stomp.frames import Frame, dump

__all__ = ["BrokerDeadLetters", "ack_ids_of"]

_log = get_logger("eip.activemq")
_ACK_LINE: Final = re.compile(rb"(?:^|\n)ack:([^\r\n\0]{1,500})")
_MAX_SCANNED_BYTES: Final = 1_000_000
"""Of a malformed frame's body, in which its ack header may be."""
_MAX_ACK_IDS: Final = 10
_MAX_LOGGED: Final = 1_000
"""Message ids that are remembered, so that each message is logged once."""


class BrokerDeadLetters:
    """Leaves single messages of a channel to the broker, and logs each once.

    Args:
        channel: its name, for logs.
    """

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._logged: OrderedDict[str, None] = OrderedDict()

    def move_unreadable(self, connection: Connection, frame: Frame, ack_ids: Sequence[str]) -> None:
        """Settle a frame that cannot be read at all: the broker keeps the message and does not send it again.

        Args:
            connection: over which the frame came.
            frame: incomplete, or without an ack header.
            ack_ids: the ids by which the message may be settled; see `ack_ids_of`.
        """
        reason = frame.error or "the frame has no ack header"
        message_id = frame.headers.get("message-id", "unknown")
        if not ack_ids or not connection.is_classic:
            self._log_once(message_id, reason, where="with the broker, which sends it again")
            return
        self._log_once(message_id, reason, where="the broker's dead-letter queue")
        *others, last = ack_ids
        self._nack(connection, others if not frame.complete else ack_ids)
        if not frame.complete:
            connection.last_request("NACK", {"id": last})

    def move(self, connection: Connection, ack_ids: Sequence[str], message_id: str, reason: str) -> bool:
        """Leave a message that no dead-letter channel of ours can carry; return False if the broker keeps none.

        Args:
            connection: over which the message came.
            ack_ids: as above.
            message_id: for the log.
            reason: why it cannot be carried.
        """
        if not connection.is_classic or not connection.open:
            return False
        self._log_once(message_id, reason, where="the broker's dead-letter queue")
        self._nack(connection, ack_ids)
        return True

    def _nack(self, connection: Connection, ack_ids: Sequence[str]) -> None:
        for ack_id in ack_ids:
            connection.write(dump("NACK", {"id": ack_id, "receipt": f"{MAY_BE_REFUSED}{ack_id}"}))

    def _log_once(self, message_id: str, reason: str, *, where: str) -> None:
        if message_id in self._logged:
            return
        self._logged[message_id] = None
        if len(self._logged) > _MAX_LOGGED:
            self._logged.popitem(last=False)
        _log.error("message_set_aside", channel=self._channel, message_id=message_id, reason=reason, where=where)


def ack_ids_of(frame: Frame) -> Sequence[str]:
    """Return the ids by which a message may be settled: one; several or none where its head is malformed.

    A line end in a property's name breaks the head in two, and may add lines that look like headers.
    """
    if frame.error is None and "ack" in frame.headers:
        return (frame.headers["ack"],)
    found = dict.fromkeys(_ACK_LINE.findall(frame.head + b"\n" + frame.body[:_MAX_SCANNED_BYTES]))
    ids = [_unescaped(each) for each in found]
    if "ack" in frame.headers and frame.headers["ack"] not in ids:
        ids.insert(0, frame.headers["ack"])
    return ids[:_MAX_ACK_IDS]


def _unescaped(value: bytes) -> str:
    text = value.decode(errors="replace")
    return text.replace("\\n", "\n").replace("\\r", "\r").replace("\\c", ":").replace("\\\\", "\\")
