"""The one narrow seam to the SDK: a call by service and operation, its errors as ours, its cost to the meter.

aioboto3 keeps credentials, endpoints and all calls that are rare; the hot ones go by `eip.transports.aws._lean` where
nothing asks for the SDK's own way. The drivers notice no difference.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

import aioboto3
import aiohttp
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)

from eip.errors import (
    AccessDenied,
    ChannelNotFound,
    ConfigurationError,
    Conflict,
    ConnectionLost,
    EipError,
    InvalidMessage,
    InvalidPattern,
    LeaseLost,
    Throttled,
    TransportError,
)
from eip.metering import Meter
from eip.retry import Backoff
from eip.transports.aws._lean import HOT, LeanClient, ServiceError, usable

__all__ = ["Calls", "IteratorExpired", "Measure", "entry_error", "error_of"]

_RETRY: Final = Backoff(base=0.1, cap=5.0)
_ATTEMPTS: Final = 8
_DEADLINE: Final = 20.0
"""Seconds until an answer counts as lost."""
_POLL_DEADLINE: Final = 30.0
"""The same of a long poll, which takes 20."""


class IteratorExpired(TransportError):
    """The shard iterator is older than five minutes."""


_CODES: Final[dict[type[EipError], str]] = {
    IteratorExpired: "ExpiredIteratorException",
    Throttled: """
        Throttling ThrottlingException ThrottledException RequestThrottled RequestThrottledException SlowDown
        TooManyRequestsException ProvisionedThroughputExceededException RequestLimitExceeded LimitExceededException
        KmsThrottled KMS.ThrottlingException OverLimit AWS.SimpleQueueService.OverLimit
        ConcurrentModificationException""",
    ChannelNotFound: """
        AWS.SimpleQueueService.NonExistentQueue QueueDoesNotExist NonExistentQueue NotFound NotFoundException
        ResourceNotFoundException""",
    Conflict: "ResourceAlreadyExistsException IllegalStatusException",
    InvalidPattern: "InvalidEventPatternException",
    AccessDenied: """
        AccessDenied AccessDeniedException AuthorizationError AuthorizationErrorException UnauthorizedOperation
        InvalidClientTokenId UnrecognizedClientException SignatureDoesNotMatch ExpiredToken ExpiredTokenException
        MissingAuthenticationToken KmsAccessDenied""",
    LeaseLost: """
        ReceiptHandleIsInvalid InvalidReceiptHandle MessageNotInflight AWS.SimpleQueueService.MessageNotInflight""",
    InvalidMessage: """
        InvalidMessageContents BatchRequestTooLong AWS.SimpleQueueService.BatchRequestTooLong InvalidParameter
        InvalidParameterValue InvalidParameterException InvalidParameterCombination InvalidAttributeValue
        MissingParameter ValidationException ValidationError""",
}
_KINDS: Final = {code: kind for kind, codes in _CODES.items() for code in codes.split()}
_OF_A_LEASE: Final = ("receipt handle", "visibilitytimeout", "visibility timeout")
"""Said by the service of a lease that has ended, under the code of an invalid parameter."""


_BILLED_AS: Final = {"events": "eventbridge"}
"""The SDK's name of a service, and the one on the bill."""

Measure = Callable[[Mapping[str, Any]], tuple[int, int, int]]
"""Reads messages, bytes and billed requests off an answer."""


class _Unanswered(ConnectionLost):
    """The service answered that it failed: the call may or may not have taken effect."""


def error_of(code: str, text: str, *, sender_fault: bool = False, status: int = 400) -> Exception:
    """The error of a service's code, for a whole call or an entry of a batch."""
    said = f"{code}: {text}" if text else code
    kind = _KINDS.get(code)
    if kind is InvalidMessage and any(words in text.lower() for words in _OF_A_LEASE):
        return LeaseLost(said)
    if kind is not None:
        return kind(said)
    return TransportError(said) if sender_fault or 400 <= status < 500 else _Unanswered(said)


def entry_error(entry: Mapping[str, Any]) -> Exception:
    """The error of a failed entry of a batch."""
    fault = bool(entry.get("SenderFault", False))
    code = str(entry.get("Code", entry.get("ErrorCode", "unknown")))
    return error_of(code, str(entry.get("Message", "")), sender_fault=fault, status=400 if fault else 500)


class Calls:
    """Clients of the services, made when first needed and closed together.

    Args:
        session: an aioboto3 session; default: one of the ordinary chain of credentials.
        region: default: the session's.
        endpoint_url: for all services, e.g. of a local emulator.
        meter: is told of each call.
    """

    def __init__(
        self,
        *,
        session: aioboto3.Session | None,
        region: str | None,
        endpoint_url: str | None,
        meter: Meter | None,
        connections: int,
    ) -> None:
        self._session = session or aioboto3.Session(region_name=region)
        self.region: str = region or self._session.region_name or ""
        if not self.region:
            raise ConfigurationError("no region: give AwsTransport(region=...), or set AWS_REGION")
        self._endpoint_url = endpoint_url
        self.meter = meter
        self._config = Config(
            retries={"total_max_attempts": 1},  # retried here, where order and deduplication are known
            max_pool_connections=connections,
            connect_timeout=10,
            read_timeout=_POLL_DEADLINE,
            tcp_keepalive=True,
            user_agent="aioeip",  # otherwise built twice per call, a fifth of its time
            parameter_validation=False,
        )
        self._connections = connections
        self._clients: dict[str, Any] = {}
        self._lean: dict[str, LeanClient | None] = {}
        """Clients for the hot calls; None for a service whose calls all go by the SDK."""
        self._making = asyncio.Lock()
        self._stack = AsyncExitStack()

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
        a lease ends. ``messages``, ``size`` (bytes), ``units`` (billed requests) and ``heartbeats`` are for the meter;
        ``measure`` reads the first three off the answer.
        """
        attempt = 0
        deadline = _POLL_DEADLINE if operation == "ReceiveMessage" else _DEADLINE
        while True:
            attempt += 1
            try:
                answer = await self._once(service, operation, parameters, deadline, until)
            except TransportError as error:
                if not (retry and error.transient and attempt < _ATTEMPTS):
                    raise
                delay = _RETRY.delay(attempt)
                if until is not None and asyncio.get_running_loop().time() + delay >= until:
                    raise
                await asyncio.sleep(delay)
            else:
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
        self, service: str, operation: str, parameters: dict[str, Any], deadline: float, until: float | None
    ) -> dict[str, Any]:
        end = asyncio.get_running_loop().time() + deadline
        try:
            async with asyncio.timeout_at(end if until is None else min(end, until)):
                if (service, operation) in HOT:
                    lean = self._lean[service] if service in self._lean else await self._leaner(service)
                    if lean is not None:
                        return await lean.call(operation, parameters)
                client = self._clients.get(service) or await self.client(service)
                # The SDK's generated methods add nothing to this one but a look-up.
                answer: dict[str, Any] = await client._make_api_call(operation, parameters)  # noqa: SLF001
        except ServiceError as error:
            raise error_of(error.code, error.text, status=error.status) from error
        except ClientError as error:
            found = error.response.get("Error", {})
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
            raise error_of(str(found.get("Code", "")), str(found.get("Message", "")), status=status) from error
        except NoCredentialsError as error:
            raise AccessDenied("no AWS credentials were found by the SDK's chain") from error
        except ParamValidationError as error:
            raise ConfigurationError(str(error)) from error
        except (aiohttp.ClientError, HTTPClientError, BotoConnectionError, OSError, TimeoutError) as error:
            raise ConnectionLost(f"{service} {operation}: {type(error).__name__}") from error
        except BotoCoreError as error:
            raise _Unanswered(f"{service} {operation}: {error}") from error
        except (ValueError, KeyError, TypeError) as error:  # an answer cut short, as its parser sees it
            raise _Unanswered(f"{service} {operation}: its answer cannot be read ({type(error).__name__})") from error
        return answer

    async def client(self, service: str) -> Any:
        """The SDK's client of a service, for what is not hot."""
        async with self._making:
            if service not in self._clients:
                made = self._session.client(
                    service, region_name=self.region, endpoint_url=self._endpoint_url, config=self._config
                )
                self._clients[service] = await self._stack.enter_async_context(made)
        return self._clients[service]

    async def _leaner(self, service: str) -> LeanClient | None:
        client = await self.client(service)
        credentials = await self._session.get_credentials()
        async with self._making:
            if service not in self._lean:
                self._lean[service] = None
                if usable(client, credentials):
                    configured = self._session._session.get_config_variable("ca_bundle")  # noqa: SLF001 - has no other way
                    lean = LeanClient(
                        client,
                        credentials,
                        connections=self._connections,
                        authorities=configured or os.environ.get("REQUESTS_CA_BUNDLE"),  # as the SDK does
                    )
                    self._stack.push_async_callback(lean.aclose)
                    self._lean[service] = lean
        return self._lean[service]

    async def aclose(self) -> None:
        """Close the clients."""
        stack, self._stack = self._stack, AsyncExitStack()
        self._clients.clear()
        self._lean.clear()
        await stack.aclose()
