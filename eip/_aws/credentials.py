"""Credentials that a service refuses before the SDK, by its own clock, would renew them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

from botocore.credentials import RefreshableCredentials
from botocore.exceptions import ClientError

from eip._aws.protocols import plain_code

__all__ = ["call_renewing", "expire"]

_REFUSED: Final = frozenset(
    (
        # The token has ended, though its time has not come: the clock here is wrong, or the session was shortened.
        *("ExpiredToken", "TokenRefreshRequired"),
        # The keys are unknown: the role's sessions were revoked, or its keys exchanged.
        *("InvalidClientTokenId", "UnrecognizedClient", "InvalidToken", "InvalidAccessKeyId"),
    )
)
_MIN_INTERVAL_S: Final = 10.0
"""Between renewals for this reason: who gives the credentials limits calls, too."""

_renewed_at: WeakKeyDictionary[RefreshableCredentials, float] = WeakKeyDictionary()


def expire(credentials: Any, used: Any, code: str) -> bool:
    """Have the SDK renew credentials at their next use, where the service's refusal is about them.

    Args:
        credentials: the SDK's.
        used: the frozen credentials that the refused call was signed with.
        code: the service's.

    Returns:
        Whether another call will have other credentials; those of the program's own are never renewed.
    """
    if plain_code(code) not in _REFUSED or not isinstance(credentials, RefreshableCredentials):
        return False
    if credentials._frozen_credentials is not used or credentials.refresh_needed(0):  # noqa: SLF001 - the only way
        return True  # for another call
    now = time.monotonic()
    if now - _renewed_at.get(credentials, -_MIN_INTERVAL_S) < _MIN_INTERVAL_S:
        return False
    _renewed_at[credentials] = now
    credentials._expiry_time = credentials._time_fetcher()  # noqa: SLF001 - the SDK renews by its own clock only
    return True


async def call_renewing(client: Any, call: Callable[[], Awaitable[Any]]) -> Any:
    """The answer of a call through the SDK's client; made again, once, where that has other credentials now.

    Args:
        client: the SDK's, or one that answers like it.
        call: makes the call.
    """
    credentials: Any = getattr(getattr(client, "_request_signer", None), "_credentials", None)
    if not isinstance(credentials, RefreshableCredentials):
        return await call()
    used: Any = await cast("Any", credentials).get_frozen_credentials()
    try:
        return await call()
    except ClientError as error:
        if not expire(credentials, used, str(error.response.get("Error", {}).get("Code", ""))):
            raise
    return await call()
