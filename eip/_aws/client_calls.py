"""Calls through a client of the SDK that the program made: hot ones by the fast path, where it can take them.

The fast path makes one attempt. Whatever fails but for the condition of a write is called again through the client
itself: it has the program's own retries, and its errors are the SDK's. The connections close with the client.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final
from weakref import WeakKeyDictionary

from aiobotocore.client import AioBaseClient
from botocore import xform_name
from botocore.exceptions import ClientError

from eip._aws.credentials import call_renewing
from eip._aws.protocols import ServiceError
from eip._aws.sigv4 import HOT, SigV4Client, supports_fast_path, use_fast_path

__all__ = ["ClientCalls"]

_ATTEMPT_S: Final = 10.0
"""Seconds of the fast path's attempt, unless the client's own limit is shorter."""
_CONDITION_FAILED: Final = "ConditionalCheckFailedException"

_fast_clients: WeakKeyDictionary[AioBaseClient, SigV4Client | None] = WeakKeyDictionary()
"""One for all that use a client, so that they share its connections; None where the client has to be called itself."""


class ClientCalls:
    """Makes the calls of one client.

    Args:
        client: of aiobotocore or aioboto3, or one that answers like it; stays the caller's.
        fast_path: whether hot calls bypass the SDK; default: unless ``EIP_AWS_FAST_PATH`` turns it off.
    """

    def __init__(self, client: Any, *, fast_path: bool | None = None) -> None:
        self._client = client
        self._use_fast_path = use_fast_path(fast_path) and isinstance(client, AioBaseClient)

    async def call(self, operation: str, parameters: dict[str, Any]) -> Any:
        """The answer; raises what the SDK's own client raises."""
        fast = _fast_client(self._client) if self._use_fast_path else None
        if fast is not None and (fast.service, operation) in HOT and not _is_arn(parameters.get("TableName", "")):
            try:
                async with asyncio.timeout(min(_ATTEMPT_S, self._client.meta.config.read_timeout or _ATTEMPT_S)):
                    return await fast.call(operation, parameters)
            except ServiceError as error:
                if error.code == _CONDITION_FAILED:
                    raise _client_error(operation, error) from error
            except (OSError, ValueError):  # no answer, or none that can be read
                pass
        call = getattr(self._client, xform_name(operation))
        return await call_renewing(self._client, lambda: call(**parameters))


def _is_arn(table: str) -> bool:
    """Whether a table is named by its ARN, by which the SDK finds the endpoint of its account."""
    return table.startswith("arn:")


def _fast_client(client: AioBaseClient) -> SigV4Client | None:
    if client not in _fast_clients:
        _fast_clients[client] = _made(client)
    return _fast_clients[client]


def _made(client: Any) -> SigV4Client | None:
    credentials = client._request_signer._credentials  # noqa: SLF001 - the SDK's client has no other way
    verify = getattr(client._endpoint.http_session, "_verify", True)  # noqa: SLF001 - as above
    if verify is False or not supports_fast_path(client, credentials):
        return None
    authorities = verify if isinstance(verify, str) else None
    connections = client.meta.config.max_pool_connections
    fast = SigV4Client(client, credentials, connections=connections, authorities=authorities)
    _close_together(client._endpoint.http_session, fast)  # noqa: SLF001 - as above
    return fast


def _close_together(session: Any, fast: SigV4Client) -> None:
    """Close the fast path's connections with those of the SDK's client, which has no event for that."""
    leave = session.__aexit__

    async def leave_both(*about: Any) -> Any:
        await fast.aclose()
        return await leave(*about)

    session.__aexit__ = leave_both


def _client_error(operation: str, error: ServiceError) -> ClientError:
    """The error as the SDK raises it, with what the answer holds."""
    about = {"Error": {"Code": error.code, "Message": error.text}, "ResponseMetadata": {"HTTPStatusCode": error.status}}
    return ClientError({**error.answer, **about}, operation)
