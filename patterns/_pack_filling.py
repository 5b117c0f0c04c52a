"""Fills packs: as many messages as a billed unit takes, in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from eip.channels import Sender
from eip.codec import dump_json
from eip.errors import InvalidMessage, MessageTooLarge
from eip.message import Message
from eip.packs import Bounds, Encoding, Format, entry_of, is_pack, pack, shared_fields

__all__ = ["Filled", "PackFiller", "Packable", "pack_key"]

_BODY_FRAME: Final = 76
"""Bytes of a pack's body beside its entries."""
_FRAME: Final = _BODY_FRAME + 118
"""That, and the pack's own envelope: id, time and header, with the name and the type of the attribute it is in."""
_MOST_UNPACKED: Final = Bounds().size - _FRAME
"""Bytes that go into one pack, however well they compress: consumers unpack no more."""


class Packable(Protocol):
    """A message on its way into a pack."""

    message: Message[Any]
    entry: bytes


_Item = TypeVar("_Item", bound=Packable)


class Filled(NamedTuple, Generic[_Item]):
    """A message to send, and what it holds."""

    message: Message[Any]
    items: Sequence[_Item]


class PackFiller(Generic[_Item]):
    """Makes packs for one channel.

    Args:
        sender: the channel, for its limits.
        max_bytes: maximum size of one pack in bytes, its attributes included.
        max_messages: maximum number of messages in one pack.
        encoding: of the pack.
        format: of the pack.
    """

    def __init__(
        self,
        sender: Sender,
        *,
        max_bytes: int,
        max_messages: int,
        encoding: Encoding,
        format: Format,  # noqa: A002 - the field's term
    ) -> None:
        self._channel, self._largest = sender.name, sender.limits.message_bytes
        self._frame = _FRAME + sender.limits.beside_bytes
        self._max_bytes, self._max_messages = max_bytes, max_messages
        self._encoding: Encoding = encoding
        self._format: Format = format
        self._ratio = 1.0 if encoding == "identity" else 3.0

    def entry(self, message: Message[Any]) -> bytes:
        """The message as an element of a pack; `InvalidMessage` or `MessageTooLarge` if it cannot be one."""
        if is_pack(message):
            raise InvalidMessage("a pack cannot be packed")
        entry = entry_of(message, format=self._format, shared=True)
        largest = self._largest
        if largest is not None and len(entry) > self._max_bytes and len(entry) + _size_beside(message) > largest:
            raise MessageTooLarge(len(entry) + _size_beside(message), largest, channel=self._channel)
        return entry

    def packs(self, items: Sequence[_Item]) -> list[Filled[_Item]]:
        """The items as packs within the limit, in order."""
        first = items[0].message
        room = self._max_bytes - self._frame - _size_beside(first) - self._said_once(first)
        made: list[Filled[_Item]] = []
        start = 0
        while start < len(items):
            end = self._take(items, start, min(int(room * self._ratio), _MOST_UNPACKED))
            made.extend(self._pressed(items[start:end], room + self._said_once(first)))
            start = end
        return made

    def _said_once(self, message: Message[Any]) -> int:
        """Bytes that the pack's body takes to say what its messages share."""
        fields = shared_fields(message) if self._format == "eip" else {}
        return len(dump_json(fields)) + len(',"all":') if fields else 0

    def _take(self, items: Sequence[_Item], start: int, room: int) -> int:
        """The end of the run from ``start`` that fits, at least one item."""
        size, end = len(items[start].entry), start + 1
        limit = min(len(items), start + self._max_messages)
        while end < limit and (size := size + len(items[end].entry) + 1) <= room:
            end += 1
        return end

    def _pressed(self, items: Sequence[_Item], room: int) -> list[Filled[_Item]]:
        """The items as one pack, or as several where they compress less than those before."""
        first = items[0].message
        if len(items) == 1:
            return [Filled(first, items)]
        made = pack([each.entry for each in items], first, encoding=self._encoding, format=self._format, shared=True)
        size = len(made.encode())
        if self._encoding != "identity":
            ratio = sum(len(each.entry) for each in items) / size
            self._ratio = max(1.0, 0.5 * self._ratio + 0.48 * ratio)  # a little less than seen, so few are packed twice
        if size <= room + _BODY_FRAME:
            return [Filled(made, items)]
        half = len(items) // 2
        return self._pressed(items[:half], room) + self._pressed(items[half:], room)


def pack_key(message: Message[Any]) -> object:
    """What messages must share to travel in one pack: all that filters, rules and order depend on."""
    if not message.attributes:
        return (message.group_id, message.type, message.source)
    attributes = tuple(sorted((name, repr(value)) for name, value in message.attributes.items()))
    return (message.group_id, message.type, message.source, attributes)


def _size_beside(message: Message[Any]) -> int:
    """Bytes that a pack's attributes, type, source and group take beside its body, at most.

    A name may be there twice, as drivers note the type of a number or a boolean in the envelope.
    """
    named = sum(2 * len(name.encode()) + _length(value) + 32 for name, value in message.attributes.items())
    texts = (message.type, message.source, message.group_id)
    return named + sum(len(dump_json(text)) for text in texts if text is not None)


def _length(value: object) -> int:
    return len(value) if isinstance(value, bytes) else len(str(value).encode())
