"""Message Store (Hohpe & Woolf, chapter 11): keeps messages as they pass, to be looked at or sent again.

    store = MessageStore(FileObjects("audit"))                      # or S3Objects, MemoryObjects
    handler = wire_tap(store, required=True)(handle)                # a store is a sender: tap, or list it as recipient
    await replay_messages(store.messages(monday, tuesday), queue, name="fix-17")    # eip.patterns.replay

Each message is an object of its own, whole, envelope and attributes included, under the minute in which it was created:
``2026/11/24/1340/...``. The same message stored again is the same object, so at-least-once on the way here shows
nowhere. How long objects are kept is the storage's business (`eip.stores.s3.lifecycle_rule`, `FileObjects.expire`).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

from typing_extensions import override

from eip._checks import check_instant
from eip._logging import get_logger
from eip.channels import Sender
from eip.clock import Instant
from eip.envelope import dump_message, load_message
from eip.errors import (
    ConfigurationError,
    DecodeError,
    FailedEntry,
    InvalidMessage,
    MessageTooLarge,
    PartialSendError,
    SendError,
    StoreError,
    error_text,
)
from eip.limits import MIB
from eip.message import Message
from eip.stores.objects import ListedObjects

__all__ = ["MessageStore"]

_log = get_logger("eip.message_store")

_AT_ONCE: Final = 10
_PAGE: Final = 1000
_PREFIX: Final = re.compile(r"([A-Za-z0-9_-][A-Za-z0-9._-]*/)*")
_MINUTE: Final = 60
_LAST_SECOND: Final = 253_402_300_799
"""Of the year 9999."""


class MessageStore(Sender):
    """Keeps messages as objects; a `Sender`, whose messages nobody receives.

    Args:
        objects: where.
        prefix: what keys begin with, ending in ``/``; default: nothing.
        max_bytes: the largest message that is read back.
    """

    def __init__(self, objects: ListedObjects, *, prefix: str = "", max_bytes: int = 64 * MIB) -> None:
        if not _PREFIX.fullmatch(prefix):
            raise ConfigurationError(
                f"{prefix!r} is not a prefix: use names of letters, digits and ._-, each with a / after it"
            )
        self.name = f"{objects.bucket}/{prefix}"
        self.address = f"store:{self.name}"
        self._objects, self._prefix, self._max_bytes = objects, prefix, max_bytes
        self.unreadable = 0
        """Objects that `messages` passed over, as they are not messages, or too large."""

    @override
    async def send(self, *messages: Message[Any]) -> None:
        """Write the messages; return when everybody can read all of them.

        Replayed messages are not stored again.
        """
        messages = tuple(each for each in messages if each.replay_name is None)
        written = {self._key(message): dump_message(message) for message in messages}
        turn = asyncio.Semaphore(_AT_ONCE)

        async def write(key: str, data: bytes) -> StoreError | None:
            async with turn:
                try:
                    await self._objects.put(key, data)
                except StoreError as error:
                    return error
            return None

        outcomes = dict(zip(written, await asyncio.gather(*(write(*each) for each in written.items())), strict=True))
        failed = [FailedEntry(each, error) for each in messages if (error := outcomes[self._key(each)]) is not None]
        if failed and len(failed) == len(messages):
            first = outcomes[self._key(messages[0])]
            assert first is not None
            raise SendError(f"{self.name}: nothing could be written: {first}", transient=first.transient) from first
        if failed:
            raise PartialSendError(failed, sent=len(messages) - len(failed))

    async def messages(self, start: Instant, end: Instant) -> AsyncIterator[Message[Any]]:
        """The messages created in that window, the earliest first; read a minute at a time.

        An object that is not a message is logged and passed over. Raises `StoreError` where the storage fails.
        """
        first, last = check_instant("start", start), check_instant("end", end)
        if not first < last:
            raise ConfigurationError(f"end must be after start, got {end!r} and {start!r}")
        minute = first // _MINUTE * _MINUTE
        after = f"{self._prefix}{_minute(minute)}"
        while keys := await self._objects.keys(self._prefix, after=after, limit=_PAGE):
            for key in keys:
                after = key
                created = _created(key)
                if created is None or created < first:
                    continue
                if created > last:
                    return
                message = await self._read(key)
                if message is not None:
                    yield message

    async def _read(self, key: str) -> Message[Any] | None:
        """The message of an object; None where it has expired meanwhile, or is not a message."""
        try:
            data = await self._objects.get(self._objects.bucket, key, limit=self._max_bytes)
            return None if data is None else load_message(data)
        except (DecodeError, MessageTooLarge) as error:  # one object hides no others
            self.unreadable += 1
            _log.error("object_unreadable", store=self.name, key=key, error=error_text(error))
            return None

    def _key(self, message: Message[Any]) -> str:
        if not 0 <= message.created_at <= _LAST_SECOND:
            raise InvalidMessage(f"{self.name}: created_at must be a time that a key can hold")
        unique = hashlib.sha256(message.id.encode()).hexdigest()[:32]
        return f"{self._prefix}{_minute(message.created_at)}/{message.created_at:018.6f}-{unique}"

    def __repr__(self) -> str:
        return f"<MessageStore {self.name}>"


def _minute(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y/%m/%d/%H%M")


def _created(key: str) -> float | None:
    """When the message of a key was created; None for an object that is not ours."""
    try:
        return float(key.rpartition("/")[2].partition("-")[0])
    except ValueError:
        return None
