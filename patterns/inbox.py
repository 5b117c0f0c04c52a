"""Inbox: the idempotent receiver whose note is part of the handler's own transaction, so that effects are once.

    inbox = Inbox(PostgresInbox(dsn), sessions.begin, outbox=outbox)     # sessions: an async_sessionmaker of SQLAlchemy

    @app.consumer("orders")
    @inbox.handler("billing", output="bills")
    async def bill(order: OrderPlaced, session: AsyncSession) -> Message[Bill]:
        session.add(BillRow(...))
        return Message(Bill(...))

One transaction holds the note that the message was handled, what the handler writes, and what it returns, as rows of
the outbox. It commits as a whole, and then the message is acknowledged:

    the handler fails, or its process dies    nothing was written: the message comes again and is handled
    it dies after the commit                  the message comes again and is a duplicate: skipped
    two have the message at once              the second waits for the first one's transaction

So effects in the database are once per message, and outgoing messages at least once (the relay's part, with the same
ids). Effects elsewhere, such as an HTTP call by the handler, are not part of the transaction: they may happen again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Final, Generic, TypeAlias

from typing_extensions import TypeVar

from eip import clock
from eip._checks import check_duration, check_name, check_type
from eip._logging import get_logger
from eip.clock import Duration
from eip.errors import ConfigurationError, error_text
from eip.message import Message
from eip.patterns._idempotency_key import idempotency_key
from eip.patterns._inbox_handling import InboxHandling
from eip.patterns.diagram import with_diagram
from eip.runtime.handlers import Handler, Result, replying, transaction_handler_of, wrapping
from eip.stores.inbox import InboxTable
from eip.stores.outbox import SqlOutbox

__all__ = ["Inbox", "InboxHandler"]

_log = get_logger("eip.inbox")

_T = TypeVar("_T", default=Any)

InboxHandler: TypeAlias = Callable[[Any, _T], Awaitable[Result] | Result]
"""A handler as users write it, ``async def`` or ``def``: takes a message or body, and the transaction's connection."""

_DAY_S: Final = 86_400.0
_PURGE_INTERVAL_S: Final = 60.0
_PURGE_TIMEOUT_S: Final = 5.0
_PURGE_LIMIT: Final = 5_000
"""Notes that are removed at once; where there are more, the next message removes more."""


class Inbox(Generic[_T]):
    """Has messages handled in a transaction that also notes them as handled.

    Args:
        table: of the notes, in the database of the handlers' own tables.
        connect: returns a context manager of a connection or session for one message: ``sessions.begin`` of SQLAlchemy,
            ``pool.connection`` of psycopg, ``pool.acquire`` of asyncpg, ``table.connect`` of SQLite. The transaction is
            begun on it, where none is open; one that is open must be committed by the context manager. Asynchronous
            for ``async def`` handlers, synchronous for ``def`` handlers, which run in a thread.
        outbox: in the same database: takes what handlers return.
        key: what makes two messages the same; default: the message's id. Where it gives None the message is rejected.
        retention: seconds (or timedelta) that a message is known after it was handled; default 15 days, a day more than
            SQS keeps a message. Longer than the channel's retention, or what was kept that long is handled twice.
        replays: whether what a replay brings (`eip.patterns.replay`) is handled again, once per replay.

    Raises:
        TypeError: an argument of the wrong type.
        ConfigurationError: ``retention`` is not positive.
    """

    def __init__(
        self,
        table: InboxTable,
        connect: Callable[[], AbstractAsyncContextManager[_T] | AbstractContextManager[_T]],
        *,
        outbox: SqlOutbox | None = None,
        key: Callable[[Message[Any]], str | None] | None = None,
        retention: Duration = 15 * _DAY_S,
        replays: bool = False,
    ) -> None:
        self._table = check_type("table", table, InboxTable, "an inbox's table")
        if not callable(connect):
            raise TypeError(f"connect must be a function that returns a context manager, got {connect!r}")
        self._connect, self._key, self._replays = connect, key, replays
        self._outbox = check_type("outbox", outbox, SqlOutbox, "an outbox", optional=True)
        self._retention = check_duration("retention", retention, positive=True)
        self._created = False
        self._next_purge = 0.0
        self.duplicates = 0
        """Messages that were handled already."""

    def handler(
        self, scope: str, *, output: str | None = None, replies: bool = False
    ) -> Callable[[InboxHandler[_T]], Handler]:
        """Wrap a handler of a message and a transaction; use it as a decorator.

        Args:
            scope: sets the handlers that share a table apart, e.g. two subscribers of one topic. It is part of each
                note: do not change it while duplicates may come.
            output: the relay's name of the channel that what the handler returns goes to.
            replies: whether that goes to the return address of a request that has one; give the relay ``replies``.

        Raises:
            ConfigurationError: no outbox for what the handler returns; or, once a handler is wrapped, one that does not
                take two arguments.
        """
        check_name(scope, "scope")
        if self._outbox is None and (output is not None or replies):
            raise ConfigurationError("output and replies need an outbox: Inbox(..., outbox=...)")

        def wrap(function: InboxHandler[_T]) -> Handler:
            handling = InboxHandling(
                form=transaction_handler_of(function),
                table=self._table,
                connect=self._connect,
                scope=scope,
                outbox=self._outbox,
                output=output,
                replies=replies,
            )

            async def once(message: Message[Any]) -> None:
                await self._handle(handling, message)

            wrapped = wrapping(with_diagram(once, "inbox", inside=handling.form.plain), handling.form.plain)
            return replying(wrapped) if replies else wrapped

        return wrap

    async def _handle(self, handling: InboxHandling, message: Message[Any]) -> None:
        key = idempotency_key(message, self._key, replays=self._replays)
        if not self._created:
            await self._table.create()
            self._created = True
        if not await handling.handle(message, key):
            self.duplicates += 1
        elif clock.now() >= self._next_purge:
            await self._purge()

    async def _purge(self) -> None:
        """Remove notes that are older than the retention; where that fails, it is tried again later."""
        now = clock.now()
        self._next_purge = now + _PURGE_INTERVAL_S
        try:
            async with asyncio.timeout(_PURGE_TIMEOUT_S):
                removed = await self._table.purge(now - self._retention, limit=_PURGE_LIMIT)
        except Exception as error:  # noqa: BLE001 - the message is handled, whatever becomes of old notes
            _log.warning("inbox_not_purged", table=repr(self._table), error=error_text(error))
        else:
            if removed >= _PURGE_LIMIT:
                self._next_purge = now
