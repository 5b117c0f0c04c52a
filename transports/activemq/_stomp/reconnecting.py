"""Keeps a connection to one of several brokers: finds the one that answers, watches it, replaces it when it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.errors import ConfigurationError, ConnectionLost, TransportError
from eip.health import HealthTracker
from eip.retry import Backoff
from eip.transports.activemq._stomp.connecting import Connector
from eip.transports.activemq._stomp.connection import Connection
from eip.transports.activemq._stomp.errors import fresh

__all__ = ["ConnectionHealth", "ReconnectingConnection"]

_log = get_logger("eip.activemq")
_RETRY_BACKOFF: Final = Backoff(base=0.2, cap=10.0)
_PERMANENT_BACKOFF: Final = Backoff(base=5.0, cap=60.0)
"""For failures that last until someone mends them: credentials, certificates."""
_STABLE_S: Final = 5.0
"""Seconds after which a connection counts as stable; one that breaks sooner is replaced with a delay."""
_CLOSE_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionHealth:
    """The state of one connection of a transport."""

    name: str
    connected: bool
    server: str | None
    epoch: int
    """How many connections there were so far."""
    idle: float | None
    """Seconds since the last message or answer of the broker; heart-beats do not count."""
    waiting: int
    """Requests that are not answered yet."""
    failing_since: float | None = None
    """When it was lost or could not be made, in seconds since the epoch; None: it is connected."""
    reason: str | None = None
    """Why it is not connected."""


class ReconnectingConnection:
    """A connection that is replaced when it is lost, with another epoch; what belonged to the old one is void.

    Args:
        connector: makes the connections.
        name: for logs and errors.
        headers: more headers of CONNECT.
        restore: called with each new connection before anyone else gets it, e.g. to subscribe.
        on_lost: called with each connection that is over.
    """

    def __init__(
        self,
        connector: Connector,
        *,
        name: str,
        headers: Mapping[str, str] | None = None,
        restore: Callable[[Connection], Awaitable[None]] | None = None,
        on_lost: Callable[[Connection], None] | None = None,
    ) -> None:
        self.connector, self.name = connector, name
        self.epoch = 0
        self.tracker = HealthTracker()
        self._headers, self._restore, self._on_lost = headers or {}, restore, on_lost
        self._lines = RepeatedLines(_log)
        self._current: Connection | None = None
        self._changed = asyncio.Event()
        self._failure: TransportError | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def current(self) -> Connection | None:
        """The connection, while there is one."""
        return self._current

    def health(self) -> ConnectionHealth:
        """Return its state."""
        current, tracked = self._current, self.tracker.health()
        return ConnectionHealth(
            name=self.name,
            connected=current is not None,
            server=None if current is None else str(current.server),
            epoch=self.epoch,
            idle=None if current is None else asyncio.get_running_loop().time() - current.progress,
            waiting=0 if current is None else current.waiting,
            failing_since=tracked.failing_since,
            reason=tracked.reason,
        )

    async def connection(self, *, timeout: float | None = None, since: float | None = None) -> Connection:  # noqa: ASYNC109 - named in the error
        """Return the connection; wait for one if there is none.

        A failure that lasts (credentials, certificates) is raised at once where there never was a connection.

        Args:
            timeout: seconds; default: the connector's.
            since: when the timeout began, by the loop's clock; default: now.

        Raises:
            ConfigurationError: it was closed.
            TransportError: why there is no connection; `ConnectionLost` where no broker answers in time.
        """
        timeout = self.connector.timeout if timeout is None else timeout
        until = timeout + (asyncio.get_running_loop().time() if since is None else since)
        while True:
            if self._closed:
                raise ConfigurationError(
                    f"the connection {self.name!r} was closed; open its transport or receiver again"
                )
            if self._current is not None and self._current.open:
                return self._current
            if self._failure is not None and not self._failure.transient and not self.epoch:
                raise fresh(self._failure)
            if self._keeper is None:
                self._keeper = asyncio.create_task(self._keep(), name=f"activemq {self.name}")
            try:
                async with asyncio.timeout_at(until):
                    await self._changed.wait()
            except TimeoutError:
                raise self._unavailable(timeout) from None

    def _unavailable(self, timeout: float) -> TransportError:
        failure = self._failure
        if failure is not None and not failure.transient:
            return fresh(failure)
        why = f"last error: {failure}" if failure is not None else f"no answer from {self.connector} yet"
        return ConnectionLost(f"{self.name}: no connection within {timeout:.3g} s; {why}")

    def _wake(self) -> None:
        """Wake those who wait in `connection`: there is one, or a reason why not."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _keep(self) -> None:
        """Connect, watch, and repeat."""
        failures = 0
        while True:
            started = asyncio.get_running_loop().time()
            try:
                connection = await self._connect()
            except Exception as error:  # noqa: BLE001 - whatever failed, the next attempt may succeed
                failures += 1
                await self._connect_failed(error, failures)
                continue
            reason = await self._hold(connection)
            if self._closed:
                return
            self.tracker.failed(reason)
            self._lines.warning(
                "connection_lost", connection=self.name, server=str(connection.server), varying={"error": str(reason)}
            )
            if asyncio.get_running_loop().time() - started < _STABLE_S:
                failures += 1
                await asyncio.sleep(_RETRY_BACKOFF.delay(failures))
            else:
                failures = 0

    async def _connect_failed(self, error: Exception, failures: int) -> None:
        self._failure = failure = error if isinstance(error, TransportError) else TransportError(repr(error))
        self.tracker.failed(failure)
        delay = (_RETRY_BACKOFF if failure.transient else _PERMANENT_BACKOFF).delay(failures)
        self._lines.warning(
            "connect_failed",
            connection=self.name,
            servers=str(self.connector),
            varying={"error": str(failure), "retry_in": round(delay, 1)},
        )
        self._wake()
        await asyncio.sleep(delay)

    async def _connect(self) -> Connection:
        connection = await self.connector.connect(self._headers)
        try:
            if self._restore is not None:
                await self._restore(connection)
        except BaseException:
            connection.abort(ConnectionLost("not restored"))
            if self._on_lost is not None:
                self._on_lost(connection)
            raise
        # What was received, sent or acknowledged over an earlier connection means nothing to the broker on this one:
        # whoever remembers a connection compares it with `current`.
        self.epoch += 1
        self._failure, self._current = None, connection
        self.tracker.succeeded()
        self._wake()
        _log.info("connected", connection=self.name, server=str(connection.server), epoch=self.epoch)
        return connection

    async def _hold(self, connection: Connection) -> TransportError:
        """Watch a connection until it is over; return why."""
        try:
            return await self._watch(connection)
        finally:
            self._current = None
            connection.abort(ConnectionLost("closed"))
            if self._on_lost is not None:
                self._on_lost(connection)

    async def _watch(self, connection: Connection) -> TransportError:
        """Return why it is over. A broker that sends nothing but heart-beats is asked for an answer."""
        connector, loop = self.connector, asyncio.get_running_loop()
        while True:
            quiet_until = connection.progress + connector.probe_interval
            await asyncio.wait((connection.lost,), timeout=max(quiet_until - loop.time(), 0.0))
            if connection.lost.done():
                return connection.lost.result()
            if connection.progress + connector.probe_interval <= loop.time():
                try:
                    await connection.probe(timeout=connector.answer_timeout)
                except TransportError as error:
                    connection.abort(ConnectionLost(str(error)))

    async def aclose(self) -> None:
        """Disconnect, within a few seconds even if the broker does not answer. Idempotent."""
        self._closed = True
        if self._current is not None:
            await self._current.disconnect()
        if self._keeper is not None:
            self._keeper.cancel()
            # Bounded: the credentials are foreign code, which may ignore that it is cancelled.
            await asyncio.wait((self._keeper,), timeout=_CLOSE_TIMEOUT_S)
        self._wake()
