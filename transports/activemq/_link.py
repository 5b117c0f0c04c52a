"""Keeps a connection to one of several brokers: finds the one that answers, watches it, and connects anew."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from eip._logging import get_logger
from eip.errors import AccessDenied, ConnectionLost, TransportError
from eip.retry import Backoff
from eip.transports.activemq._connection import Connection, again, connect
from eip.transports.activemq._servers import CredentialsSource, Server

__all__ = ["Dialer", "Health", "Link"]

_log = get_logger("eip.activemq")
_AGAIN: Final = Backoff(base=0.2, cap=10.0)
_STABLE: Final = 5.0
"""Seconds after which a connection counts as one that works: one that breaks sooner is not replaced at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialer:
    """How connections are made; shared by the links of a transport."""

    servers: Sequence[Server]
    credentials: CredentialsSource = field(repr=False)
    tls: ssl.SSLContext | None = field(repr=False)
    most_body: int
    heartbeat: float
    connect_timeout: float
    answer_timeout: float
    """Seconds in which the broker answers what asks for a receipt."""
    probe_interval: float
    """Seconds without progress after which the broker is asked for a sign of it."""
    patience: float
    """Seconds that those who need a connection wait for one."""

    async def dial(self, headers: Mapping[str, str]) -> Connection:
        """A connection to the first broker that answers, tried in their order: active before standby."""
        try:
            credentials = await self.credentials()
        except TransportError:
            raise
        except Exception as error:  # noqa: BLE001 - it is foreign code, and its text may hold what it must not tell
            raise AccessDenied(f"the credentials cannot be read: {type(error).__name__}") from None
        failures: list[TransportError] = []
        for server in self.servers:
            try:
                return await connect(
                    server,
                    credentials=credentials,
                    tls=self.tls,
                    headers=headers,
                    most_body=self.most_body,
                    heartbeat=self.heartbeat,
                    timeout=self.connect_timeout,
                )
            except TransportError as error:
                failures.append(error)
        if len(failures) == 1 or not any(each.transient for each in failures):
            raise failures[0]
        raise ConnectionLost("no broker answers: " + "; ".join(map(str, failures)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a link is doing."""

    name: str
    connected: bool
    server: str | None
    epoch: int
    """How many connections there were so far."""
    idle: float | None
    """Seconds since the broker last showed progress: a message, or an answer; a heart-beat is none."""
    waiting: int
    """Requests that are not answered yet."""


class Link:
    """A connection that comes back, each time with another epoch; what belonged to the old one is void.

    Args:
        dialer: makes the connections.
        name: for logs.
        headers: more headers of CONNECT.
        restore: called with each new connection before anyone else gets it.
        on_lost: called with each connection that is over.
    """

    def __init__(
        self,
        dialer: Dialer,
        *,
        name: str,
        headers: Mapping[str, str] | None = None,
        restore: Callable[[Connection], Awaitable[None]] | None = None,
        on_lost: Callable[[Connection], None] | None = None,
    ) -> None:
        self.dialer, self.name = dialer, name
        self.epoch = 0
        self._headers, self._restore, self._on_lost = headers or {}, restore, on_lost
        self._current: Connection | None = None
        self._news = asyncio.Event()
        self._failure: TransportError | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def current(self) -> Connection | None:
        """The connection, while there is one."""
        return self._current

    def health(self) -> Health:
        """How it is doing."""
        current = self._current
        return Health(
            name=self.name,
            connected=current is not None,
            server=None if current is None else str(current.server),
            epoch=self.epoch,
            idle=None if current is None else asyncio.get_running_loop().time() - current.progress,
            waiting=0 if current is None else current.waiting,
        )

    async def connection(self) -> Connection:
        """The connection; waits for one as long as patience goes, and raises why there is none.

        What another attempt would only repeat (credentials, certificates) is raised at once where there never was one.
        """
        until = asyncio.get_running_loop().time() + self.dialer.patience
        while True:
            if self._closed:
                raise ConnectionLost(f"{self.name} is closed")
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
                raise again(self._failure or ConnectionLost(f"{self.name}: no broker answers")) from None

    def _tell(self) -> None:
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
                self._failure = error if isinstance(error, TransportError) else TransportError(repr(error))
                delay = _AGAIN.delay(failures)
                _log.warning("connect_failed", link=self.name, error=str(error), again_in=round(delay, 1))
                self._tell()
                await asyncio.sleep(delay)
                continue
            try:
                reason = await self._watch(connection)
            finally:
                self._current = None
                connection.abort(ConnectionLost("closed"))
                if self._on_lost is not None:
                    self._on_lost(connection)
            if self._closed:
                return
            _log.warning("connection_lost", link=self.name, server=str(connection.server), error=str(reason))
            if asyncio.get_running_loop().time() - started < _STABLE:
                failures += 1
                await asyncio.sleep(_AGAIN.delay(failures))
            else:
                failures = 0

    async def _connect(self) -> Connection:
        connection = await self.dialer.dial(self._headers)
        try:
            if self._restore is not None:
                await self._restore(connection)
        except BaseException:
            connection.abort(ConnectionLost("not restored"))
            if self._on_lost is not None:
                self._on_lost(connection)
            raise
        self.epoch += 1
        self._failure, self._current = None, connection
        self._tell()
        _log.info("connected", link=self.name, server=str(connection.server), epoch=self.epoch)
        return connection

    async def _watch(self, connection: Connection) -> TransportError:
        """Returns why it is over. A broker that only beats its heart is asked for more."""
        dialer, loop = self.dialer, asyncio.get_running_loop()
        while True:
            quiet_until = connection.progress + dialer.probe_interval
            await asyncio.wait((connection.lost,), timeout=max(quiet_until - loop.time(), 0.0))
            if connection.lost.done():
                return connection.lost.result()
            if connection.progress + dialer.probe_interval <= loop.time():
                try:
                    await connection.probe(timeout=dialer.answer_timeout)
                except TransportError as error:
                    connection.abort(ConnectionLost(str(error)))

    async def aclose(self) -> None:
        """Say good-bye to the broker, and end. Idempotent."""
        self._closed = True
        if self._current is not None:
            await self._current.disconnect()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait((self._keeper,))
        self._tell()
