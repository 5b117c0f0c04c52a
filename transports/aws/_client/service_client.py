"""The one seam to the services: a call by service and operation, with our errors, retried and metered.

Rare calls go through the SDK (aiobotocore), which has credentials and endpoints, too. Hot calls take the fast path of
`eip._aws` where the SDK's configuration allows it. Drivers notice no difference.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    UnknownRegionError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.model import OperationNotFoundError

from eip._aws.credentials import call_renewing
from eip._aws.protocols import ServiceError
from eip._aws.sessions import new_session, sdk_session
from eip._aws.sigv4 import HOT, SigV4Client, supports_fast_path, use_fast_path
from eip.errors import AccessDenied, ConfigurationError, ConnectionLost, EipError, StateError, TransportError
from eip.health import Health, HealthTracker
from eip.retry import Backoff
from eip.telemetry.meter import Meter
from eip.transports.aws._client.errors import ServiceFailed, Unreachable, client_error, error_of, sdk_error

__all__ = ["Measure", "ServiceClient"]

_RETRY_BACKOFF: Final = Backoff(base=0.1, cap=5.0)
_MAX_ATTEMPTS: Final = 8
_TIMEOUT_S: Final = 20.0
"""Until an answer counts as lost."""
_POLL_TIMEOUT_S: Final = 30.0
"""The same for a long poll, which takes up to 20."""
_FIRST_TIMEOUT_S: Final = 9.0
"""For an endpoint that has never answered, all attempts together: its address may be mistyped."""
_CONNECT_TIMEOUT_S: Final = 5.0

_BILLED_AS: Final = {"events": "eventbridge"}
"""Names of services on the bill, where the SDK has another one."""

Measure = Callable[[Mapping[str, Any]], tuple[int, int, int]]
"""Reads messages, bytes and billed requests off an answer."""

_LOST: Final = (aiohttp.ClientError, HTTPClientError, BotoConnectionError, OSError, TimeoutError)
"""What the SDK, aiohttp, ssl and the sockets below raise where no answer came."""


class _Answer(dict[str, Any]):
    """An answer whose missing members are the service's failure: a proxy may answer for it, with another body."""

    __slots__ = ("_where",)

    def __init__(self, where: str, members: Mapping[str, Any]) -> None:
        super().__init__(members)
        self._where = where

    def __missing__(self, name: str) -> Any:
        raise ServiceFailed(f"{self._where}: the answer has no {name}; does a proxy answer for the service?")


class ServiceClient:
    """Clients of the services, made at the first use and closed together.

    Args:
        session: of aioboto3 or aiobotocore; default: one of the ordinary chain of credentials.
        region: default: the session's.
        endpoint_url: for all services, e.g. of a local emulator.
        meter: gets a record of each call.
        connections: maximum of each service's pool.
        fast_path: whether hot calls may bypass the SDK; default: by the environment.
    """

    def __init__(
        self,
        *,
        session: Any,
        region: str | None,
        endpoint_url: str | None,
        meter: Meter | None,
        connections: int,
        fast_path: bool | None = None,
    ) -> None:
        self._session = new_session(region) if session is None else sdk_session(session)
        # The SDK for Python reads AWS_DEFAULT_REGION and a profile; those for other languages, and Lambda, AWS_REGION.
        self.region: str = region or self._session.get_config_variable("region") or os.environ.get("AWS_REGION") or ""
        if not self.region:
            raise ConfigurationError("no region: give AwsTransport(region=...), or set AWS_REGION")
        if endpoint_url is not None and not _is_http(endpoint_url):
            raise ConfigurationError(f"endpoint_url must begin with http:// or https://, got {endpoint_url!r}")
        self.partition = self._partition(strict=endpoint_url is None)
        self._endpoint_url = endpoint_url
        self.meter = meter
        self._config = Config(
            retries={"total_max_attempts": 1},  # retried here, where order and deduplication are known
            max_pool_connections=connections,
            connect_timeout=_CONNECT_TIMEOUT_S,
            read_timeout=_POLL_TIMEOUT_S,
            tcp_keepalive=True,
            user_agent="aioeip",  # otherwise built twice per call, a fifth of its time
            parameter_validation=False,
        )
        self._connections, self.fast_path = connections, use_fast_path(fast_path)
        self._clients: dict[str, Any] = {}
        self._fast: dict[str, SigV4Client | None] = {}
        """Clients for the hot calls; None for a service whose calls all go through the SDK."""
        self._making = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._reached: set[str] = set()
        """Services that have answered before, if only with an error."""
        self._closed = False
        self._elsewhere: dict[str, ServiceClient] = {}
        """By their regions, what makes calls of provisioning there."""
        self._health = HealthTracker()

    def in_region(self, region: str) -> ServiceClient:
        """What calls the services of another region, with the same credentials; closed with this one."""
        if region == self.region:
            return self
        if region not in self._elsewhere:
            self.check_open()
            self._elsewhere[region] = ServiceClient(
                session=self._session,
                region=region,
                endpoint_url=self._endpoint_url,
                meter=self.meter,
                connections=self._connections,
                fast_path=self.fast_path,
            )
        return self._elsewhere[region]

    def health(self) -> Health:
        """Whether the services answered the last calls."""
        return self._health.health()

    async def call(
        self,
        service: str,
        operation: str,
        *,
        channel: str = "",
        messages: int = 0,
        size: int = 0,
        units: int = 1,
        heartbeats: int = 0,
        measure: Measure | None = None,
        retry: bool = True,
        until: float | None = None,
        **parameters: Any,
    ) -> dict[str, Any]:
        """The answer of the service; raises an error of `eip.errors`.

        Transient failures are tried again, save where ``retry`` is False; not after ``until`` by the loop's clock, when
        a lease ends, and not for longer than 9 seconds while the service has never answered. ``messages``, ``size``
        (bytes), ``units`` (billed requests) and ``heartbeats`` are for the meter; ``measure`` reads the first three off
        the answer.
        """
        attempt = 0
        time = asyncio.get_running_loop().time
        if service not in self._reached:
            until = min(time() + _FIRST_TIMEOUT_S, math.inf if until is None else until)
        timeout = _POLL_TIMEOUT_S if operation == "ReceiveMessage" else _TIMEOUT_S
        while True:
            attempt += 1
            end = min(time() + timeout, math.inf if until is None else until)
            try:
                answer = await self._once(service, operation, parameters, end=end, channel=channel)
            except TransportError as error:
                if isinstance(error, (ConnectionLost, AccessDenied)):
                    self._health.failed(error)
                if not (retry and error.transient and attempt < _MAX_ATTEMPTS):
                    raise
                delay = _RETRY_BACKOFF.delay(attempt)
                if until is not None and time() + delay >= until:
                    raise
                await asyncio.sleep(delay)
            else:
                self._health.succeeded()
                if self.meter is not None:
                    if measure is not None:
                        messages, size, units = measure(answer)
                    self.meter.record(
                        _BILLED_AS.get(service, service),
                        channel,
                        operation,
                        messages=messages,
                        size=size,
                        units=units,
                        heartbeats=heartbeats,
                    )
                return answer

    async def _once(
        self, service: str, operation: str, parameters: dict[str, Any], *, end: float, channel: str
    ) -> dict[str, Any]:
        """One attempt; whatever the SDK, aiohttp or the sockets below raise becomes an error of ours here."""
        self.check_open()
        where = f"{service} {operation} {channel}" if channel else f"{service} {operation}"
        try:
            async with asyncio.timeout_at(end):
                answer = await self._answer(service, operation, parameters)
        except EipError:
            raise
        except ServiceError as error:
            self._reached.add(service)
            raise error_of(
                service, error.code, error.text, operation=operation, status=error.status, where=where
            ) from error
        except ClientError as error:
            self._reached.add(service)
            raise client_error(service, error, operation=operation, where=where) from error
        except _LOST as error:
            self.check_open()
            raise self._lost(service, where, error) from error
        except BotoCoreError as error:
            raise sdk_error(error, where) from error
        except OperationNotFoundError as error:
            raise ConfigurationError(f"{where}: the SDK in use does not know this call: update botocore") from error
        except Exception as error:  # an answer cut short or of another form, as its parser sees it
            self.check_open()
            raise ServiceFailed(f"{where}: its answer cannot be read: {type(error).__name__}: {error}") from error
        self._reached.add(service)
        return _Answer(where, answer)

    def call_blocking(self, service: str, operation: str, *, timeout: float, **parameters: Any) -> dict[str, Any]:
        """The answer of the service to a hot call, for another thread while the event loop is blocked.

        One attempt within about ``timeout`` seconds, on the fast path; not metered. Raises `TransportError` for
        whatever fails, also where the service's calls go by the SDK, or none was made before.
        """
        fast = self._fast.get(service)
        if fast is None:
            raise TransportError(f"{service} {operation}: no fast path (off, not used yet, or a proxy)")
        try:
            return fast.call_blocking(operation, parameters, timeout=timeout)
        except ServiceError as error:
            raise error_of(service, error.code, error.text, operation=operation, status=error.status) from error
        except Exception as error:
            raise ConnectionLost(f"{service} {operation}: no answer: {type(error).__name__}: {error}") from error

    async def _answer(self, service: str, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        # By the ARN of a stream the SDK finds the endpoint of its account.
        if (service, operation) in HOT and (self._endpoint_url or "StreamARN" not in parameters):
            fast = self._fast[service] if service in self._fast else await self._fast_client(service)
            if fast is not None:
                return await fast.call(operation, parameters)
        client = self._clients.get(service) or await self.client(service)
        # The SDK's generated methods add nothing to this one but a look-up.
        answer = await call_renewing(client, lambda: client._make_api_call(operation, parameters))  # noqa: SLF001
        if not isinstance(answer, dict):
            raise TypeError("not an object")
        return answer

    def _lost(self, service: str, where: str, error: Exception) -> ConnectionLost:
        why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if service in self._reached:
            return ConnectionLost(f"{where}: no answer: {why}")
        client = self._clients.get(service)
        endpoint = self._endpoint_url or (client.meta.endpoint_url if client is not None else service)
        return Unreachable(
            f"{where}: cannot reach {endpoint} (region {self.region}): {why}; "
            "check region, endpoint_url, and the way there (DNS, proxy, firewall, VPC endpoint)"
        )

    @property
    def where(self) -> str:
        """The endpoint, or the region where it is the service's own."""
        return self._endpoint_url or self.region

    def check_open(self) -> None:
        """Raise `StateError` once it is closed."""
        if self._closed:
            raise StateError("the AwsTransport is closed: make a new one, and use it inside its `async with`")

    def _partition(self, *, strict: bool) -> str:
        """By the SDK's partition data; with an endpoint of its own, any name may be a region."""
        try:
            found: str = self._session.get_partition_for_region(self.region)
        except UnknownRegionError:
            if strict:
                raise ConfigurationError(
                    f"region {self.region!r} is in no partition that the SDK knows: check its spelling, "
                    "or update botocore"
                ) from None
            return "aws"
        return found

    def host(self, service: str) -> str:
        """The host, with its port, at which a service is reached."""
        if self._endpoint_url is not None:
            return urlsplit(self._endpoint_url).netloc.rpartition("@")[2]
        return f"{service}.{self.region}.{'amazonaws.com.cn' if self.partition == 'aws-cn' else 'amazonaws.com'}"

    async def client(self, service: str) -> Any:
        """The SDK's client of a service, for what is not hot."""
        async with self._making:
            self.check_open()
            if service not in self._clients:
                await self._check_credentials(service)
                made = self._session.create_client(
                    service, region_name=self.region, endpoint_url=self._endpoint_url, config=self._config
                )
                stack = self._stack
                client = await stack.enter_async_context(made)
                if self._closed:  # meanwhile: what closed the others has not seen this one
                    await stack.aclose()
                    self.check_open()
                self._clients[service] = client
        return self._clients[service]

    async def _check_credentials(self, service: str) -> None:
        """Raise `AccessDenied` where there are none yet: a client made without them would never have any."""
        config = self._session.get_default_client_config()
        unsigned = config is not None and config.signature_version is UNSIGNED
        if not unsigned and await self._session.get_credentials() is None:
            raise sdk_error(NoCredentialsError(), service)

    async def _fast_client(self, service: str) -> SigV4Client | None:
        client = await self.client(service)
        credentials = await self._session.get_credentials()
        async with self._making:
            self.check_open()
            if service not in self._fast:
                self._fast[service] = None
                if self.fast_path and supports_fast_path(client, credentials):
                    configured = self._session.get_config_variable("ca_bundle")
                    fast = SigV4Client(
                        client,
                        credentials,
                        connections=self._connections,
                        authorities=configured or os.environ.get("REQUESTS_CA_BUNDLE"),  # as the SDK does
                    )
                    self._stack.push_async_callback(fast.aclose)
                    self._fast[service] = fast
        return self._fast[service]

    def record_pushed(self, service: str, channel: str, operation: str, *, messages: int, size: int) -> None:
        """Record messages that a service pushed, without a call."""
        if self.meter is not None:
            self.meter.record(service, channel, operation, messages=messages, size=size, units=0, calls=0)

    async def aclose(self) -> None:
        """Close the clients; idempotent. Later calls raise `StateError`."""
        self._closed = True
        stack, self._stack = self._stack, AsyncExitStack()
        self._clients.clear()
        self._fast.clear()
        for client in self._elsewhere.values():
            stack.push_async_callback(client.aclose)
        await stack.aclose()


def _is_http(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.netloc)
