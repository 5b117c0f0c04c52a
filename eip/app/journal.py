"""The recent history of an application's messages: who sent and who handled them, and how that ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Final, Literal, NamedTuple

from eip import clock
from eip._checks import check_integer
from eip.errors import error_text
from eip.message import Message
from eip.runtime.consumer import current_delivery

__all__ = ["Journal", "JournalEntry"]

_MAX_TEXT: Final = 200
"""Characters kept of each text: ids and errors come from strangers, and the journal is bounded."""


class JournalEntry(NamedTuple):
    """One thing that happened to a message; nothing of its body or attributes is kept."""

    at: float
    """Seconds since the epoch, when it ended."""
    kind: Literal["sent", "handled"]
    channel: str
    """Where it was sent to, or the name of the consumer that handled it."""
    handler: str | None
    """Who handled it; of what was sent, the consumer whose handler sent it, and None where none did."""
    message_id: str
    message_type: str | None
    correlation_id: str | None
    trace_id: str | None
    """The trace of its ``traceparent``."""
    seconds: float
    """How long that took."""
    error: str | None


class Journal:
    """Keeps the last entries, once `keep` was called; until then it costs a look at a number for each message.

    app.journal.keep(10_000)
    app.journal.of("4bf92f3577b34da6a3ce929d0e0e4736")      # a correlation id, a trace id or a message's id
    """

    def __init__(self) -> None:
        self._entries: deque[JournalEntry] = deque(maxlen=0)

    @property
    def size(self) -> int:
        """How many entries are kept at most; 0: none."""
        return self._entries.maxlen or 0

    def keep(self, size: int) -> None:
        """Keep this many entries from now on, some 500 bytes each; 0: none."""
        self._entries = deque(self._entries, maxlen=check_integer("size", size, least=0))

    def sent(self, messages: Iterable[Message[Any]], channel: str, seconds: float, error: BaseException | None) -> None:
        """Note a call of `eip.Sender.send`."""
        sender = _current_consumer()
        self._entries += [_entry("sent", each, (channel, sender), seconds, error) for each in messages]

    def handled(
        self, message: Message[Any], consumer: str, handler: str, seconds: float, error: BaseException | None
    ) -> None:
        """Note an attempt to handle a message."""
        self._entries.append(_entry("handled", message, (consumer, handler), seconds, error))

    def of(self, id: str) -> list[JournalEntry]:  # noqa: A002 - the field's term
        """The entries whose correlation, trace or message id it is, the earliest first."""
        wanted = id[:_MAX_TEXT]
        found = [each for each in self._entries if wanted in (each.correlation_id, each.trace_id, each.message_id)]
        return sorted(found, key=lambda each: each.at - each.seconds)

    def latest(self, limit: int) -> list[JournalEntry]:
        """The last entries, the latest first."""
        return [each for _, each in zip(range(limit), reversed(self._entries), strict=False)]


def _entry(
    kind: Literal["sent", "handled"],
    message: Message[Any],
    place: tuple[str, str | None],
    seconds: float,
    error: BaseException | None,
) -> JournalEntry:
    traceparent = (message.traceparent or "").split("-")
    return JournalEntry(
        clock.now(),
        kind,
        *place,
        message.id[:_MAX_TEXT],
        _cut(message.type),
        _cut(message.correlation_id),
        _cut(traceparent[1]) if len(traceparent) > 3 else None,
        seconds,
        None if error is None else error_text(error)[:_MAX_TEXT],
    )


def _current_consumer() -> str | None:
    try:
        return current_delivery().receiver.name
    except LookupError:
        return None


def _cut(text: str | None) -> str | None:
    return text if text is None else text[:_MAX_TEXT]
