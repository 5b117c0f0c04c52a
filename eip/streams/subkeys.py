"""Divides a hot key: its messages are spread over sub-keys, which keep their own order and know whose they are.

A key has one handler at a time, in one shard, so no lever of a consumer helps one that gets more than a handler can do.
Its producer divides it, by something finer whose order matters (the order within a customer, the device within a site):

    divide = KeySubdivider(10, keys={"customer-7"}, by=lambda message: message.body["order"])
    clicks = divide.sender(aws.stream("clicks"))       # customer-7#0 to customer-7#9
    ...
    whole = divide.restore(message)                    # in a handler: customer-7 again
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import count
from typing import Any, Final
from zlib import crc32

from typing_extensions import override

from eip._checks import check_integer, check_type
from eip.channels import Sender
from eip.channels.decorators import SenderDecorator
from eip.errors import ConfigurationError
from eip.message import Message

__all__ = ["KeySubdivider"]

_MARK: Final = "#"
_MAX_PARTS: Final = 10_000


class KeySubdivider:
    """Turns a key into ``key#0`` to ``key#n-1``, and back.

    Which sub-key a message gets depends on ``by`` alone, so what has the same value of it stays in order. Without
    ``by`` messages take the sub-keys in turn, and keep no order between each other. A key that looks like a sub-key of
    a divided one is divided as well, so that `key_of` is never in doubt. A stream that was not divided before may be
    from any moment on: what is under way then has the old key, and no order towards what has the new one.

    Args:
        parts: sub-keys of a key, 2 to 10,000.
        keys: those that are divided; None: all.
        by: what messages of a sub-key have in common, as any value with a text; None: they take turns.

    Raises:
        TypeError: an argument of the wrong type.
        ConfigurationError: ``parts`` out of range.
    """

    def __init__(
        self, parts: int, *, keys: Collection[str] | None = None, by: Callable[[Message[Any]], object] | None = None
    ) -> None:
        self.parts = check_integer("parts", parts, least=2)
        if parts > _MAX_PARTS:
            raise ConfigurationError(f"parts must be at most {_MAX_PARTS:,}, got {parts}")
        if isinstance(keys, str):
            raise TypeError(f"keys must be a collection of keys or None, got {keys!r}")
        if by is not None and not callable(by):
            raise TypeError(f"by must be a function or None, got {by!r}")
        self._keys = None if keys is None else frozenset(keys)
        self._by, self._turns = by, count()

    def divide(self, message: Message[Any]) -> Message[Any]:
        """The message with a sub-key of its key as its group; as it is, where it has no group or is not divided."""
        key = message.group_id
        if key is None or not self._divides(key):
            return message
        part = next(self._turns) if self._by is None else crc32(str(self._by(message)).encode("utf-8", "replace"))
        return message.replace(group_id=self.sub_key(key, part % self.parts))

    def restore(self, message: Message[Any]) -> Message[Any]:
        """The inverse of `divide`: the message with its whole key as its group."""
        key = message.group_id
        if key is None or (whole := self.key_of(key)) == key:
            return message
        return message.replace(group_id=whole)

    def sub_key(self, key: str, part: int) -> str:
        """``key#part``."""
        return f"{check_type('key', key, str, 'a string')}{_MARK}{part}"

    def sub_keys(self, key: str) -> list[str]:
        """All sub-keys of a key."""
        return [self.sub_key(key, part) for part in range(self.parts)]

    def key_of(self, key: str) -> str:
        """The key that it is a sub-key of; the key itself, where it is none."""
        whole, mark, part = key.rpartition(_MARK)
        return whole if mark and self._is_part(part) and self._divides(whole) else key

    def sender(self, to: Sender) -> Sender:
        """A sender that divides the keys of what it passes on."""
        return _Divided(to, self)

    def _divides(self, key: str) -> bool:
        if self._keys is None or key in self._keys:
            return True
        return self.key_of(key) != key

    def _is_part(self, text: str) -> bool:
        return text.isascii() and text.isdecimal() and text == str(int(text)) and int(text) < self.parts

    def __repr__(self) -> str:
        return f"<KeySubdivider parts={self.parts} keys={'all' if self._keys is None else len(self._keys)}>"


class _Divided(SenderDecorator):
    def __init__(self, sender: Sender, divider: KeySubdivider) -> None:
        super().__init__(sender)
        self._divider = divider

    @override
    async def send(self, *messages: Message[Any], **options: Any) -> None:
        await self._sender.send(*map(self._divider.divide, messages), **options)
