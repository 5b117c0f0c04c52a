"""Keeps a connection to one of several brokers: finds the one that answers, watches it, replaces it when it is lost."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from eip._logging import get_logger
from eip._repeated import RepeatedLines
from eip.errors import AccessDenied, ConfigurationError, ConnectionLost, TransportError
from eip.health import HealthTracker
from eip.retry import Backoff
from eip.transports.activemq._connection import Connection, again, connect
from eip.transports.activemq._servers import Credentials, CredentialsSource, Server

__all__ = ["ConnectionHealth", "Connector", "ReconnectingConnection"]

_log = get_logger("eip.activemq")
_RETRY_BACKOFF: Final = Backoff(base=0.2, cap=10.0)
_PERMANENT_BACKOFF: Final = Backoff(base=5.0, cap=60.0)
"""For what another attempt only repeats until someone mends it: credentials, certificates."""
_STABLE_S: Final = 5.0
"""Seconds after which a connection counts as one that works: one that breaks sooner is not replaced at once."""
_CLOSE_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Connector:
    """How connections are made; shared by the connections of a transport. Times are in seconds."""

    servers: Sequence[Server]
    credentials: CredentialsSource = field(repr=False)
    tls: ssl.SSLContext | None = field(repr=False)
    max_body: int
    heartbeat: float
    max_blocked: float
    connect_timeout: float
    """Timeout to connect and log in to one broker, and to read the credentials."""
    open_timeout: float
    """Timeout to open a transport or a receiver."""
    answer_timeout: float
    """Timeout of the broker's answer to what asks for a receipt."""
    probe_interval: float
    """Time without progress after which the broker is asked for a sign of it."""
    timeout: float
    """How long a send waits for a connection."""

    async def connect(self, headers: Mapping[str, str]) -> Connection:
        """Return a connection to the first broker that answers, tried in their order: active before standby."""
        credentials = await self._credentials()
        failures: list[TransportError] = []
        for server in self.servers:
            try:
                return await connect(
                    server,
                    credentials=credentials,
                    tls=self.tls,
                    headers=headers,
                    max_body=self.max_body,
                    heartbeat=self.heartbeat,
                    max_blocked=self.max_blocked,
                    timeout=self.connect_timeout,
                )
            except TransportError as error:
                failures.append(error)
        if len(failures) == 1 or not any(each.transient for each in failures):
            raise failures[0]
        raise ConnectionLost("no broker answers: " + "; ".join(map(str, failures)))

    async def _credentials(self) -> Credentials | None:
        try:
            async with asyncio.timeout(self.connect_timeout):
                return await self.credentials()
        except TransportError:
            raise
        except TimeoutError:
            raise ConnectionLost(f"the credentials did not come within {self.connect_timeout:g} s") from None
        except Exception as error:  # noqa: BLE001 - it is foreign code, and its text may hold a secret
            raise AccessDenied(f"the credentials cannot be read: {type(error).__name__}") from None

    def __str__(self) -> str:
        return ", ".join(map(str, self.servers))


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionHealth:
    """How a connection is doing."""

    name: str
    connected: bool
    server: str | None
    epoch: int
    """How many connections there were so far."""
    idle: float | None
    """Seconds since the broker last showed progress: a message, or an answer; a heart-beat is none."""
    waiting: int
    """Requests that are not answered yet."""
    failing_since: float | None = None
    """When it was lost or could not be made, in seconds since the epoch; None: it is connected."""
    reason: str | None = None
    """Why it is not connected."""


class ReconnectingConnection:
    """A connection that comes back, each time with another epoch; what belonged to the old one is void.

    Args:
        connector: makes the connections.
        name: for logs and errors.
        headers: more headers of CONNECT.
        restore: called with each new connection before anyone else gets it.
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
        self._news = asyncio.Event()
        self._failure: TransportError | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def current(self) -> Connection | None:
        """The connection, while there is one."""
        return self._current

    def health(self) -> ConnectionHealth:
        """Return how it is doing."""
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

    async def connection(self, *, timeout: float | None = None) -> Connection:  # noqa: ASYNC109 - named in the error
        """Return the connection; wait for one up to ``timeout`` seconds (default: the connector's).

        What another attempt would only repeat (credentials, certificates) is raised at once where there never was a
        connection.
        """
        timeout = self.connector.timeout if timeout is None else timeout
        until = asyncio.get_running_loop().time() + timeout
        while True:
            if self._closed:
                raise ConfigurationError(
                    f"the connection {self.name!r} was closed; open its transport or receiver again"
                )
            if self._current is not None and self._current.open:
                return self._current
            if self._failure is not None and not self._failure.transient and not self.epoch:
                raise again(self._failure)
            if self._keeper is None:
                self._keeper = asyncio.create_task(self._keep(), name=f"activemq {self.name}")
            try:
                async with asyncio.timeout_at(until):
                    await self._news.wait()
            except TimeoutError:
                raise self._unavailable(timeout) from None

    def _unavailable(self, timeout: float) -> TransportError:
        failure = self._failure
        if failure is not None and not failure.transient:
            return again(failure)
        why = f"last error: {failure}" if failure is not None else f"no answer from {self.connector} yet"
        return ConnectionLost(f"{self.name}: no connection within {timeout:.3g} s; {why}")

    def _wake(self) -> None:
        """Wake those who wait for a connection, or for the reason why there is none."""
        self._news.set()
        self._news = asyncio.Event()

    async def _keep(self) -> None:
        """Connect, watch, and begin again."""
        failures = 0
        while True:
            started = asyncio.get_running_loop().time()
            try:
                connection = await self._connect()
            except Exception as error:  # noqa: BLE001 - whatever it was, the next attempt may find it gone
                failures += 1
                await self._connect_failed(error, failures)
                continue
            reason = await self._hold(connection)
            if self._closed:
                return
            self.tracker.failed(reason)
            self._lines.warning(
                "connection_lost", link=self.name, server=str(connection.server), varying={"error": str(reason)}
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
            link=self.name,
            servers=str(self.connector),
            varying={"error": str(failure), "again_in": round(delay, 1)},
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
        _log.info("connected", link=self.name, server=str(connection.server), epoch=self.epoch)
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
        """Return why it is over. A broker that sends heart-beats only is asked for more."""
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
        """Disconnect, in a few seconds whatever the broker does. Idempotent."""
        self._closed = True
        if self._current is not None:
            await self._current.disconnect()
        if self._keeper is not None:
            self._keeper.cancel()
            # Bounded: the credentials are foreign code, which may ignore that it is cancelled.
            await asyncio.wait((self._keeper,), timeout=_CLOSE_TIMEOUT_S)
        self._wake()
