"""The event that a bus of this process makes of a message: each field is made when someone asks for it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

import orjson
from typing_extensions import override

from eip.attributes import dump_attributes, load_attributes
from eip.codec import load_json
from eip.message import Message
from eip.transports._event_format.writing import EventEntry

__all__ = ["HEADER_OF", "SentEvent"]

HEADER_OF: Final = tuple((name, f"event-{name}") for name in ("id", "account", "region", "time"))
"""Fields of an event that become headers where they are texts."""

_FLOAT_LOSES: Final = re.compile(rb"[:\[,]\s*-?(?:\d[\d.]{16}|\d[\d.]*[eE])")
"""Text that may be a number with more digits, or another range, than a float has."""


class SentEvent(Mapping[str, Any]):
    """An event as `dict(event)` has it, and the message it was made of: `message_of` need not read it again.

    Most rules ask for two fields of nine. The detail is parsed when a rule names a path in it, and then once.

    Args:
        message: as sent.
        entry: what `entry_of` made of it.
        id: the event's.
        account: of the bus.
        region: of the bus.
    """

    __slots__ = ("_detail", "_entry", "_message", "_received", "account", "id", "region")

    def __init__(
        self,
        message: Message[Any],
        entry: EventEntry,
        *,
        id: str,  # noqa: A002 - the event's own term
        account: str,
        region: str,
    ) -> None:
        self._message, self._entry = message, entry
        self.id, self.account, self.region = id, account, region
        self._detail: dict[str, Any] | None = None
        self._received: Message[Any] | None = None

    @property
    def detail_type(self) -> str:
        """What the event is about."""
        return self._entry.detail_type

    @property
    def source(self) -> str:
        """Who sent it."""
        return self._entry.source

    @property
    def time(self) -> str:
        """In whole seconds, as text."""
        return _time_text(self._entry.time)

    @property
    def detail(self) -> dict[str, Any]:
        """The body and the envelope."""
        if self._detail is None:
            self._detail = _exact(self._entry.detail)
        return self._detail

    def received(self) -> Message[Any]:
        """The message as it is after its way over the wire, with the body's own bytes.

        The same one at each call: who looks at its body takes a copy (`Message.sealed`).
        """
        if self._received is None:
            sent, entry = self._message, self._entry
            headers = {**sent.headers, **{header: self[name] for name, header in HEADER_OF}}
            changed: dict[str, Any] = {"headers": headers, "created_at": entry.created_at}
            if sent.attributes:
                changed["attributes"] = load_attributes(dump_attributes(sent.attributes))
            self._received = sent.with_encoded(entry.body, **changed)
        return self._received

    @override
    def __getitem__(self, name: str) -> Any:
        return _FIELDS[name](self)

    @override
    def __contains__(self, name: object) -> bool:
        return name in _FIELDS

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(_FIELDS)

    @override
    def __len__(self) -> int:
        return len(_FIELDS)


_FIELDS: Final[Mapping[str, Callable[[SentEvent], Any]]] = {
    "version": lambda _: "0",
    "id": attrgetter("id"),
    "detail-type": attrgetter("detail_type"),
    "source": attrgetter("source"),
    "account": attrgetter("account"),
    "time": attrgetter("time"),
    "region": attrgetter("region"),
    "resources": lambda _: [],
    "detail": attrgetter("detail"),
}
"""The fields of an event, in EventBridge's order."""


@lru_cache(maxsize=64)
def _time_text(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _exact(raw: bytes) -> Any:
    """The value of JSON text; numbers that a float would change are decimals."""
    value = load_json(raw)
    # Whatever is written the same again has lost nothing. Most bodies were written like this, and this takes half a
    # microsecond where a search takes four.
    if _written(value) == raw or not _FLOAT_LOSES.search(raw):
        return value
    return json.loads(raw, parse_float=Decimal, parse_int=load_json)


def _written(value: Any) -> bytes | None:
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits
        return None
