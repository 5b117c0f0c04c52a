"""One message through a handler of an inbox: note, effects and results in one transaction."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from eip import clock
from eip._logging import get_logger
from eip._tracing import with_trace_of
from eip.errors import ConfigurationError, InvalidResult, StateError, error_text
from eip.message import Message
from eip.patterns._outbox_replies import REPLIES, addressed
from eip.runtime.handlers import TransactionForm, handler_of, messages_of
from eip.stores._clients import user_connection
from eip.stores._connections import completed, entered
from eip.stores.inbox import InboxTable
from eip.stores.outbox import SqlOutbox

__all__ = ["InboxHandling"]

_log = get_logger("eip.inbox")


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxHandling:
    """A handler, and where its notes and results go."""

    form: TransactionForm
    table: InboxTable
    connect: Callable[[], AbstractAsyncContextManager[Any] | AbstractContextManager[Any]]
    scope: str
    outbox: SqlOutbox | None
    output: str | None
    replies: bool

    async def handle(self, message: Message[Any], key: str) -> bool:
        """Have the message handled; False where it was already. A ``def`` handler has its transaction in its thread."""
        if self.form.is_async:
            return await self._handle(message, key)
        handled = False

        def in_thread(message: Message[Any]) -> None:
            nonlocal handled
            handled = completed(self._handle(message, key))

        await handler_of(in_thread)(message)
        return handled

    async def _handle(self, message: Message[Any], key: str) -> bool:
        # By its time an attempt knows its own note, so no two attempts may have the same.
        at, has_failed = clock.now() + random.random(), False
        try:
            async with self._transaction() as connection:
                if not await self.table.remember(user_connection(connection), self.scope, key, at):
                    return False
                try:
                    await self._in_transaction(message, key, at, connection)
                except Exception:
                    has_failed = True
                    raise
        except Exception:
            if has_failed:  # not where our own commit has, whose outcome is not known
                await self._forget(key, at)
            raise
        return True

    async def _forget(self, key: str, at: float) -> None:
        """Remove the note of a failed attempt: committed by its handler, it would have the message count as handled."""
        try:
            async with self._transaction() as connection:
                await self.table.forget(user_connection(connection), self.scope, key, at)
        except Exception as error:  # noqa: BLE001 - the message has failed, and that is what is raised
            _log.error("inbox_note_not_removed", handler=self.form.name, key=key, error=error_text(error))

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Any]:
        manager = self.connect()
        if isinstance(manager, AbstractAsyncContextManager) is not self.form.is_async:
            needed, kind = ("asynchronous", "async def") if self.form.is_async else ("synchronous", "def")
            raise ConfigurationError(
                f"connect must be {needed} for {self.form.name}, a handler that is {kind}; it returned {manager!r:.200}"
            )
        async with entered(manager) as connection, entered(user_connection(connection).transaction()):
            yield connection

    async def _in_transaction(self, message: Message[Any], key: str, at: float, connection: Any) -> None:
        user = user_connection(connection)
        if not await user.in_transaction():
            await self.table.forget(user, self.scope, key, at)
            raise StateError("connect must not return connections in autocommit mode: note and effects would part")
        result = self.form.call(message, connection)
        results = messages_of(await result if self.form.is_async else result)
        if results:
            await self._write(message, results, connection)
        # Also where the handler caught an error of the database: PostgreSQL then takes back what is committed.
        if not (await user.in_transaction() and await self.table.knows(user, self.scope, key)):
            raise StateError(f"{self.form.name} ended its transaction; leave commit and rollback to the inbox")

    async def _write(self, message: Message[Any], results: list[Message[Any]], connection: Any) -> None:
        """Write what the handler returned to the outbox."""
        results = [with_trace_of(message, each) for each in results]
        channel = self.output
        if self.replies and message.return_address is not None:
            channel, results = REPLIES, [addressed(each, message.return_address) for each in results]
        if self.outbox is None or channel is None:
            raise InvalidResult(
                f"{self.form.name} returned messages with nowhere to go; give its handler() output=... or replies=True"
            )
        writing = self.outbox.add(connection, channel, *results)
        if writing is not None:
            await writing
