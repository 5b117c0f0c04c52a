"""Records of one kind in a store: read with their version, written on condition, read again where others were first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel

from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.envelope import load_message
from eip.errors import DecodeError, StoreError
from eip.message import Message
from eip.retry import Backoff
from eip.stores.base import ABSENT, Store

__all__ = ["Records", "Versioned", "after_conflict", "readable_messages", "unless_unreadable"]

R = TypeVar("R", bound=BaseModel)
T = TypeVar("T")

_lines = RepeatedLines(get_logger("eip.stores"))

_RETRY_BACKOFF: Final = Backoff(base=0.05, cap=0.4)
_MAX_CONFLICTS: Final = 100
"""Changes by other processes that one change of ours puts up with."""


@dataclass(slots=True)
class Versioned(Generic[R]):
    """A record as it was read, or is to be made, and the version that its next write depends on."""

    value: R
    version: str = ABSENT


class Records(Generic[R]):
    """The records of one pydantic model.

    Args:
        store: where they are; other records of it are not touched.
        kind: the model.
        prefix: what their keys begin with in the store.
    """

    def __init__(self, store: Store, kind: type[R], *, prefix: str = "") -> None:
        self._store, self._kind, self._prefix = store, kind, prefix

    async def read(self, key: str) -> Versioned[R] | None:
        """The record, or None; raises `StoreError`, a permanent one where it is not a record of this kind."""
        found = await self._store.get(self._prefix + key)
        if found is None:
            return None
        try:
            return Versioned(self._kind.model_validate_json(found.value), found.version)
        except ValueError as error:
            name = self._kind.__name__.strip("_")
            reason = f"the record of {key!r} is not a {name}, but another program's: {type(error).__name__}"
            raise StoreError(reason, transient=False) from None  # the cause's text holds the value

    async def write(
        self, key: str, held: Versioned[R], *, due: float | None = None, expires_at: float | None = None
    ) -> bool:
        """Write the record if it is still as it was read; False where another process was first: read it again."""
        value = held.value.model_dump_json().encode()
        written = await self._store.put(self._prefix + key, value, version=held.version, due=due, expires_at=expires_at)
        if written is not None:
            held.version = written
        return written is not None


async def after_conflict(conflicts: int, what: str) -> int:
    """Wait a moment before a record is read again that another process changed first.

    Args:
        conflicts: before this one.
        what: was to be changed, for the error.

    Returns:
        The conflicts, this one included.

    Raises:
        StoreError: there were too many.
    """
    if conflicts >= _MAX_CONFLICTS:
        raise StoreError(f"{what} was changed by others {conflicts} times while this process tried to")
    await asyncio.sleep(_RETRY_BACKOFF.delay(min(conflicts + 1, 4)))
    return conflicts + 1


async def unless_unreadable(reading: Awaitable[T | None]) -> T | None:
    """What was read for a listing; None for what cannot be read: one record of another program hides no others.

    Raises `StoreError` where the store fails.
    """
    try:
        return await reading
    except DecodeError:
        return None
    except StoreError as error:
        if error.transient:
            raise
        return None


def readable_messages(dumped: Iterable[bytes], of: str) -> tuple[list[Message[Any]], list[bytes]]:
    """The messages that were kept, and what cannot be read of them: it is logged, and must not hold the others up.

    Args:
        dumped: as `eip.envelope.dump_message` wrote them.
        of: whose they are, for the log.
    """
    messages, unreadable = [], []
    for each in dumped:
        try:
            messages.append(load_message(each))
        except DecodeError as error:
            _lines.error("kept_message_unreadable", of=of, error=str(error))
            unreadable.append(each)
    return messages, unreadable
