"""Makes connections: to one broker, or to the first of several that answers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from eip.errors import AccessDenied, ConnectionLost, TransportError
from eip.transports.activemq._stomp.connection import Connection
from eip.transports.activemq._stomp.errors import connect_error
from eip.transports.activemq._stomp.servers import Credentials, CredentialsSource, Server

__all__ = ["Connector"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Connector:
    """How connections are made; shared by the connections of a transport. Times are in seconds."""

    servers: Sequence[Server]
    credentials: CredentialsSource = field(repr=False)
    tls: ssl.SSLContext | None = field(repr=False)
    max_body: int
    """Maximum size of a body that is read, in bytes."""
    heartbeat: float
    """Time between heart-beats, ours and the broker's; 0: none."""
    max_blocked: float
    """Time of our silence that the broker is asked to accept."""
    connect_timeout: float
    """Timeout to connect and log in to one broker, and to read the credentials."""
    open_timeout: float
    """Timeout to open a transport or a receiver, all attempts included."""
    answer_timeout: float
    """Timeout of the broker's answer to a request."""
    probe_interval: float
    """Time without progress after which the broker is asked for a sign of it."""
    timeout: float
    """Timeout of a send while no broker answers."""

    async def connect(self, headers: Mapping[str, str]) -> Connection:
        """Return a connection to the first broker that answers, tried in their order: active before standby.

        Raises `AccessDenied`, `ConnectionLost`, `TransportError`; see `_connect`.
        """
        credentials = await self._credentials()
        failures: list[TransportError] = []
        for server in self.servers:
            try:
                return await self._connect(server, credentials, headers)
            except TransportError as error:
                failures.append(error)
        if len(failures) == 1 or not any(each.transient for each in failures):
            raise failures[0]
        raise ConnectionLost("no broker answers: " + "; ".join(map(str, failures)))

    async def _connect(self, server: Server, credentials: Credentials | None, headers: Mapping[str, str]) -> Connection:
        """Return a connection that is logged in.

        Raises:
            AccessDenied: the broker refuses the credentials.
            ConnectionLost: nobody answers in time.
            TransportError: another attempt would only repeat the failure: a certificate that is not trusted, a port
                that does not speak STOMP.
        """
        loop = asyncio.get_running_loop()
        connection: Connection | None = None
        try:
            async with asyncio.timeout(self.connect_timeout):
                _, connection = await loop.create_connection(
                    lambda: Connection(
                        server, max_body=self.max_body, heartbeat=self.heartbeat, max_blocked=self.max_blocked
                    ),
                    server.host,
                    server.port,
                    ssl=self.tls if server.tls else None,
                )
                await connection.log_in(credentials, headers)
        except Exception as error:
            step = "logging in" if connection is not None else "connecting"
            if server.tls and connection is None:
                step += " (does the port speak TLS?)"
            raise connect_error(server, error, step=step, timeout=self.connect_timeout) from error
        finally:
            if connection is not None and not connection.is_logged_in:
                connection.abort(ConnectionLost("not logged in"))
        return connection

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
