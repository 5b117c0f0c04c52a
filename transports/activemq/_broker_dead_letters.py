"""Messages that nobody can read, or carry any further: they stay with the broker, every byte and type kept.

ActiveMQ Classic moves a persistent message that is NACKed to its dead-letter queue (``ActiveMQ.DLQ`` by default). It
drops one that is not persistent, and one that is in that queue already: these are never NACKed, but left where they
are, and the next subscription does not ask for them.
Source: https://activemq.apache.org/components/classic/documentation/message-redelivery-and-dlq-handling
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
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
_MAX_EXCLUDED: Final = 100
"""Message ids that a subscription does not ask for; their selector must fit a header line of the broker's."""
_MAX_ID: Final = 80
"""Characters of such an id."""
_DEAD_LETTER_NAME: Final = re.compile(r"(?:^|[./])DLQ(?:\.|$)", re.IGNORECASE)
_DEAD_LETTERED: Final = "originalExpiration"
"""Property that Classic sets when it moves a message to a dead-letter queue."""


class BrokerDeadLetters:
    """Leaves single messages of a channel to the broker, and logs each once.

    Args:
        channel: its name, for logs.
        destination: the broker's own name of it.
    """

    def __init__(self, channel: str, destination: str) -> None:
        self._channel, self._destination = channel, destination
        self._logged: OrderedDict[str, None] = OrderedDict()
        self._excluded: OrderedDict[str, None] = OrderedDict()
        """The broker's ids of messages that were left in the queue."""

    def move_unreadable(self, connection: Connection, frame: Frame, ack_ids: Sequence[str]) -> None:
        """Settle a frame that cannot be read at all: the broker keeps the message and does not send it again.

        Args:
            connection: over which the frame came.
            frame: incomplete, or without an ack header.
            ack_ids: the ids by which the message may be settled; see `ack_ids_of`.
        """
        reason = frame.error or "the frame has no ack header"
        if not ack_ids or not self._keeps(connection, frame.headers):
            self.leave(connection, frame.headers, ack_ids, reason, complete=frame.complete)
            return
        self._log_once(frame.headers, reason, where="the broker's dead-letter queue")
        self._nack(connection, ack_ids, complete=frame.complete)

    def move(self, connection: Connection, headers: Mapping[str, str], ack_ids: Sequence[str], reason: str) -> bool:
        """Have the broker move a message to its dead-letter queue; return False if it would not keep it there.

        Args:
            connection: over which the message came.
            headers: of its frame.
            ack_ids: as above.
            reason: why no dead-letter channel of ours can carry it.
        """
        if not connection.open or not self._keeps(connection, headers):
            return False
        self._log_once(headers, reason, where="the broker's dead-letter queue")
        self._nack(connection, ack_ids)
        return True

    def leave(
        self,
        connection: Connection,
        headers: Mapping[str, str],
        ack_ids: Sequence[str],
        reason: str,
        *,
        complete: bool = True,
    ) -> bool:
        """Leave a message in its queue, unsettled; return whether it takes a slot until the connection ends.

        That of a topic or a temporary queue is of no use to others, and dropped.

        Args:
            connection: over which the message came.
            headers: of its frame.
            ack_ids: as above.
            reason: why it cannot be handled.
            complete: whether the frame is.
        """
        if not connection.is_classic or self._destination.startswith("/queue/"):
            self._log_once(headers, reason, where="with the broker, which hands it out again")
            self._exclude(headers.get("message-id", ""))
            return True
        if ack_ids:
            self._log_once(headers, reason, where="dropped: the broker keeps only persistent messages")
            self._nack(connection, ack_ids, complete=complete)
        return not ack_ids

    def _exclude(self, message_id: str) -> None:
        if 0 < len(message_id) <= _MAX_ID:
            self._excluded[message_id] = None
            if len(self._excluded) > _MAX_EXCLUDED:
                self._excluded.popitem(last=False)

    def excluding(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Return the headers of a SUBSCRIBE that does not ask Classic for what was left in the queue."""
        if not self._excluded:
            return headers
        ids = ",".join("'{}'".format(each.replace("'", "''")) for each in self._excluded)
        selector = f"JMSMessageID NOT IN ({ids})"
        if "selector" in headers:
            selector = f"({headers['selector']}) AND {selector}"
        return {**headers, "selector": selector}

    def _keeps(self, connection: Connection, headers: Mapping[str, str]) -> bool:
        """Return whether the broker keeps the message when it is NACKed."""
        return (
            connection.is_classic
            and headers.get("persistent") == "true"
            and _DEAD_LETTERED not in headers
            and _DEAD_LETTER_NAME.search(self._destination) is None
        )

    def _nack(self, connection: Connection, ack_ids: Sequence[str], *, complete: bool = True) -> None:
        *others, last = ack_ids
        for ack_id in ack_ids if complete else others:
            connection.write(dump("NACK", {"id": ack_id, "receipt": f"{MAY_BE_REFUSED}{ack_id}"}))
        if not complete:
            connection.last_request("NACK", {"id": last})

    def _log_once(self, headers: Mapping[str, str], reason: str, *, where: str) -> None:
        message_id = headers.get("message-id", "unknown")
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
