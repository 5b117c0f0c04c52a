"""Records as a batch handler gets them: one message each, or those of a pack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from eip.message import Message
from eip.packs import is_pack, unpack, unreadable
from eip.streams._dead_letters import place_of
from eip.streams._held import Held
from eip.streams._membership import Membership
from eip.streams.window import Slot

__all__ = ["BatchItem", "BatchItems"]


class BatchItem(NamedTuple):
    """A record, and what the handler gets of it: one message, or those of a pack."""

    slot: Slot
    arguments: Sequence[Any]
    unreadable: Sequence[tuple[Message[Any], Exception]]
    """The unreadable parts, and why: all of it, or entries of a pack."""


class BatchItems:
    """Reads the records of one shard.

    Args:
        members: of the group, which knows the log's format.
        held: the shard.
        read: what makes of each message what the handler asks for; None: nothing.
    """

    def __init__(self, members: Membership, held: Held, read: Callable[[Message[Any]], Any] | None) -> None:
        self._members, self._held, self._read_message = members, held, read

    def message(self, slot: Slot) -> Message[Any]:
        """The whole record as a message, readable or not."""
        return self._members.message(self._held, slot)[0]

    def read(self, slot: Slot) -> BatchItem:
        """Read a record, with what of it cannot be read."""
        message, error = self._members.message(self._held, slot)
        if error is not None:
            return BatchItem(slot, (), [(message, error)])
        try:
            messages = unpack(message) if is_pack(message) else (message,)
        except Exception as failure:  # noqa: BLE001 - what reading a record raises concerns that record alone
            return BatchItem(slot, (), [(message, failure)])
        read, arguments, odd = self._read_message, list[Any](), list[tuple[Message[Any], Exception]]()
        for each in messages:
            try:
                arguments.append(_checked(each) if read is None else read(_checked(each)))
            except Exception as failure:  # noqa: BLE001 - an entry of a pack, or a body that is not what is asked for
                odd.append((each.replace(headers={**each.headers, **place_of(message)}), failure))
        return BatchItem(slot, arguments, odd)


def _checked(message: Message[Any]) -> Message[Any]:
    """The message; raises the error of a pack's entry that is not one."""
    if (error := unreadable(message)) is not None:
        raise error
    return message
