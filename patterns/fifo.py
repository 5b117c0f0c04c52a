"""FIFO on the sender's side: deduplication ids, and places in the order for channels that have no message groups.

    once = DeduplicatingSender(aws.queue("orders.fifo"))          # the same content is sent once in five minutes
    placed = SequencingSender(broker.queue("orders"), store)      # each group's messages are numbered
    Consumer(broker.queue("orders"), Resequencer(others, output=ordered, gap_timeout=600))  # and put in order

What a FIFO channel does with a deduplication id (it drops a second message within five minutes; Amazon SQS Developer
Guide, "Exactly-once processing") an idempotent receiver does anywhere: ``idempotent(store, key=deduplication_key)``.
Missing numbers are the resequencer's to notice: it counts them as ``gaps`` and tells the next message.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final
from weakref import WeakValueDictionary

from pydantic import BaseModel
from typing_extensions import override

from eip import clock
from eip._checks import check_duration, check_integer
from eip._ids import new_id
from eip.channels import Sender, SenderDecorator
from eip.clock import Duration
from eip.codec import dump_json
from eip.errors import InvalidMessage
from eip.message import Message, SequenceInfo
from eip.patterns._records import Records, Versioned, after_conflict
from eip.stores.base import Store

__all__ = ["DeduplicatingSender", "SequencingSender", "content_hash", "deduplication_key"]

_MAX_ID_CHARACTERS: Final = 128
"""Characters of a deduplication id, on SQS and SNS."""


def content_hash(message: Message[Any]) -> str:
    """SHA-256 of what the message says: type, source, group, attributes, and the body's bytes.

    SQS's own content-based deduplication looks at the body alone, so that two jobs' ``{"status": "closed"}`` would be
    one message. The same body with its keys in another order is another message.
    """
    envelope = (message.type, message.source, message.group_id)
    attributes = sorted((name, type(value).__name__, repr(value)) for name, value in message.attributes.items())
    return hashlib.sha256(dump_json([envelope, attributes]) + b"\n" + message.encode()).hexdigest()


def deduplication_key(message: Message[Any]) -> str:
    """What makes two messages the same to a FIFO channel: the deduplication id, or the id where there is none."""
    return message.deduplication_id or message.id


class DeduplicatingSender(SenderDecorator):
    """Sends messages with deduplication ids that follow from what they say; a `Sender` itself.

    A message that has a deduplication id keeps it. On a channel that does not deduplicate the id travels along, for the
    receiver (`deduplication_key`).

    Args:
        sender: the destination.
        key: gives the deduplication id; default: `content_hash`. Of an id of more than 128 characters, or with others
            than SQS takes, its hash is taken.
    """

    def __init__(self, sender: Sender, *, key: Callable[[Message[Any]], str | None] = content_hash) -> None:
        super().__init__(sender)
        self._key = key

    @override
    async def send(self, *messages: Message[Any], **options: Any) -> None:
        """Send with deduplication ids; see `Sender.send`. ``options`` (a queue's ``delay``) are passed on.

        Raises `InvalidMessage` where ``key`` gives no text: nothing of this call was sent then.
        """
        await self._sender.send(*(self._identified(each) for each in messages), **options)

    def _identified(self, message: Message[Any]) -> Message[Any]:
        if message.deduplication_id is not None:
            return message
        key = self._key(message)
        if not key or not isinstance(key, str):
            raise InvalidMessage(f"message {message.id}: its deduplication key is {key!r}, not a text")
        if len(key) > _MAX_ID_CHARACTERS or not all("!" <= each <= "~" for each in key):
            key = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        return message.replace(deduplication_id=key)


class _Group(BaseModel):
    """What was numbered in a group."""

    run: str
    """Sets this numbering apart from earlier ones of the group, which were forgotten."""
    next: int = 0
    """The next position."""
    latest: list[str] = []
    """The ids of the last messages, up to position ``next - 1``."""

    def position(self, message_id: str) -> int | None:
        """The position that a message got."""
        if message_id not in self.latest:
            return None
        return self.next - len(self.latest) + self.latest.index(message_id)


class SequencingSender(SenderDecorator):
    """Numbers the messages of each group, so that a `Resequencer` can put them in order; a `Sender` itself.

    The numbers of a group are without gaps, whichever process gives them: a message that is sent again after a failure,
    with the same id, gets the number it had. A gap shows where a message was numbered and then never sent: by a process
    that died, or gave up. A group that was idle for long starts a new sequence, from 0.

    Args:
        sender: the destination.
        store: of the numbers, shared by all processes that send to the destination.
        max_known: the latest messages of a group that keep their numbers when they are sent again.
        retention: seconds (or timedelta) after which a group is forgotten that nothing was sent to; default 7 days,
            half of what a resequencer knows a sequence for.

    Raises:
        ConfigurationError: ``max_known`` is less than 1, or ``retention`` not more than 0.
    """

    def __init__(
        self, sender: Sender, store: Store, *, max_known: int = 100, retention: Duration = timedelta(days=7)
    ) -> None:
        self._retention = check_duration("retention", retention, positive=True)
        self._max_known = check_integer("max_known", max_known, least=1)
        super().__init__(sender)
        self._groups = Records(store, _Group)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @override
    async def send(self, *messages: Message[Any], **options: Any) -> None:
        """Number the messages, then send them; see `Sender.send`. ``options`` (a queue's ``delay``) are passed on.

        Raises:
            InvalidMessage: a message without a group, or one that is part of a sequence already; none was numbered.
            StoreError: the numbers cannot be had; nothing was sent.
        """
        groups: dict[str, list[str]] = {}
        for message in messages:
            if message.group_id is None or message.sequence is not None:
                raise InvalidMessage(f"message {message.id} needs a group_id, and no sequence of its own")
            groups.setdefault(message.group_id, []).append(message.id)
        places: dict[tuple[str | None, str], SequenceInfo] = {}
        for group, ids in groups.items():
            async with self._lock(group):
                numbered = await self._number(group, ids)
            for each in ids:
                places[group, each] = SequenceInfo(f"{group}/{numbered.run}", numbered.position(each) or 0)
        placed = (message.replace(sequence=places[message.group_id, message.id]) for message in messages)
        await self._sender.send(*placed, **options)

    async def _number(self, group: str, ids: list[str]) -> _Group:
        """The group, with positions for these messages."""
        conflicts = 0
        while True:
            held = await self._groups.read(group) or Versioned(_Group(run=new_id()))
            known = held.value
            fresh = [each for each in dict.fromkeys(ids) if known.position(each) is None]
            known.latest = [*known.latest, *fresh][-max(self._max_known, len(ids)) :]
            known.next += len(fresh)
            if not fresh or await self._groups.write(group, held, expires_at=clock.now() + self._retention):
                return known
            conflicts = await after_conflict(conflicts, f"the numbering of group {group}")

    def _lock(self, group: str) -> asyncio.Lock:
        """Spares the senders of this process conflicts."""
        return self._locks.setdefault(group, asyncio.Lock())
