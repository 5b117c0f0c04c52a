"""One message through a handler of an inbox: note, effects and results in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any

from eip._tracing import with_trace_of
from eip.errors import ConfigurationError, InvalidResult, StateError
from eip.message import Message
from eip.patterns._outbox_replies import REPLIES, addressed
from eip.runtime.handlers import TransactionForm, handler_of, messages_of
from eip.stores._clients import user_connection
from eip.stores._connections import completed, entered
from eip.stores.inbox import InboxTable
from eip.stores.outbox import SqlOutbox

__all__ = ["InboxHandling"]


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
        manager = self.connect()
        if isinstance(manager, AbstractAsyncContextManager) is not self.form.is_async:
            needed, kind = ("asynchronous", "async def") if self.form.is_async else ("synchronous", "def")
            raise ConfigurationError(
                f"connect must be {needed} for {self.form.name}, a handler that is {kind}; it returned {manager!r:.200}"
            )
        async with entered(manager) as connection, entered(user_connection(connection).transaction()):
            return await self._in_transaction(message, key, connection)

    async def _in_transaction(self, message: Message[Any], key: str, connection: Any) -> bool:
        user = user_connection(connection)
        if not await self.table.remember(user, self.scope, key):
            return False
        if not await user.in_transaction():
            await self.table.forget(user, self.scope, key)
            raise StateError("connect must not return connections in autocommit mode: note and effects would part")
        result = self.form.call(message, connection)
        results = messages_of(await result if self.form.is_async else result)
        if results:
            await self._write(message, results, connection)
        # Also where the handler caught an error of the database: PostgreSQL then takes back what is committed.
        if not (await user.in_transaction() and await self.table.knows(user, self.scope, key)):
            raise StateError(f"{self.form.name} ended its transaction; leave commit and rollback to the inbox")
        return True

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
