"""Base of the outboxes' tables: the calls that a relay makes, and the rows that the user's connections write."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Coroutine, Sequence
from typing import Any, Final, NamedTuple, Protocol, overload

from eip import clock
from eip._checks import check_name
from eip._tracing import with_current_trace
from eip.envelope import dump_message
from eip.errors import ConfigurationError
from eip.message import Message
from eip.stores._clients import user_connection
from eip.stores._connections import AsyncConnection, Statement, SyncConnection, UserConnection, completed
from eip.stores.base import stored_name

__all__ = ["Outbox", "Refused", "SqlOutbox", "Waiting", "checked_name", "outbox_row"]

_MAX_NAME: Final = 48
"""Characters of a table's name; some follow it in the names of indexes."""


class Waiting(NamedTuple):
    """A message of the outbox, not sent yet."""

    number: int
    """Its place in the order of writing."""
    message: bytes
    """As `eip.envelope.dump_message` wrote it."""


class Refused(NamedTuple):
    """A message that its channel can never carry."""

    number: int
    channel: str
    group: str | None
    reason: str
    message: bytes


class Outbox(Protocol):
    """The calls that a relay makes of an outbox's table. All methods raise `StoreError` where the database fails."""

    async def lead(self, owner: str, until: float) -> bool:
        """Become, or stay, the one relay that sends, until that time; False where another one is."""
        ...

    async def resign(self, owner: str) -> None:
        """Let another relay lead."""
        ...

    async def waiting(self, channel: str, *, limit: int, skip_refused: bool) -> Sequence[Waiting]:
        """The channel's first messages, in the order of writing, without those of groups that are held up.

        A refused message holds up what was written after it in its group, unless ``skip_refused``.
        """
        ...

    async def sent(self, numbers: Sequence[int]) -> None:
        """Remove messages that were sent."""
        ...

    async def refuse(self, number: int, reason: str) -> None:
        """Set a message aside that can never be sent."""
        ...

    async def refused(self, *, limit: int = 100) -> Sequence[Refused]:
        """The messages that were set aside, in the order of writing."""
        ...

    async def retry(self, numbers: Sequence[int] | None = None) -> int:
        """Let the refused messages (None: all of them) be sent after all; returns how many there were."""
        ...

    async def drop(self, numbers: Sequence[int]) -> int:
        """Remove refused messages for good; returns how many there were."""
        ...

    async def unsent(self) -> dict[str, int]:
        """By channel, how many messages were not sent yet."""
        ...


def checked_name(name: str) -> str:
    """The name of an outbox or inbox, if it may be a table's."""
    if not name.isidentifier() or not name.isascii() or len(name) > _MAX_NAME:
        raise ConfigurationError(f"name must be up to {_MAX_NAME} letters, digits and _, got {name!r}")
    return name


def outbox_row(channel: str, message: Message[Any]) -> tuple[str, str | None, bytes, float]:
    """A message as a row: channel, group, the whole message, time; raises `InvalidMessage`.

    It carries the trace that is current while it is written, so that the relay's sending belongs to it. The group is
    kept by its `eip.stores.base.stored_name`: ids come from strangers, and databases do not take every text.
    """
    group = None if message.group_id is None else stored_name(message.group_id)
    return channel, group, dump_message(with_current_trace(message)), clock.now()


class SqlOutbox(Outbox):
    """An outbox in an SQL database, to which the user's own connection writes.

    Args:
        name: of its table.

    Raises:
        ConfigurationError: the name is invalid.
    """

    def __init__(self, name: str) -> None:
        self._name = checked_name(name)
        self._insert = Statement(f'INSERT INTO "{name}" (channel, group_id, message, written_at) VALUES (?, ?, ?, ?)')  # noqa: S608

    @abstractmethod
    async def create(self) -> None:
        """Make the tables, where they are missing."""

    @overload
    def add(self, connection: SyncConnection, channel: str, *messages: Message[Any]) -> None: ...

    @overload
    def add(self, connection: AsyncConnection, channel: str, *messages: Message[Any]) -> Coroutine[Any, Any, None]: ...

    def add(self, connection: Any, channel: str, *messages: Message[Any]) -> Coroutine[Any, Any, None] | None:
        """Write the messages by the user's connection: they are sent if, and once, its transaction commits.

        Await it where the connection is asynchronous.

        Args:
            connection: the user's own, to the same database, inside its transaction: of asyncpg, psycopg 3 or sqlite3;
                or a session or connection of SQLAlchemy 2. Those of psycopg and SQLAlchemy may be synchronous or not.
            channel: the relay's name of where they go.
            messages: with ids that stay theirs, however often they are sent.

        Raises:
            TypeError: the connection is of no known client.
            InvalidMessage: a message that cannot be written.
        """
        user = user_connection(connection)
        rows = [outbox_row(check_name(channel, "channel"), message) for message in messages]
        if user.is_async:
            return self._write(user, rows)
        return completed(self._write(user, rows))

    async def _write(self, user: UserConnection, rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            await user.write(self._insert, rows)
