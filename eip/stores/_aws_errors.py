"""Errors of DynamoDB and S3 as the store's own."""

from __future__ import annotations

from typing import Any, Final

from botocore import exceptions as sdk
from botocore.exceptions import ClientError

from eip._aws.protocols import is_clock_skew, plain_code
from eip.errors import StoreError

__all__ = ["error_code", "store_error"]

_COMMON: Final = """
    InternalFailure InternalError InternalServerError ServiceUnavailable RequestTimeout RequestAborted
    Throttling Throttled RequestThrottled RequestLimitExceeded TooManyRequests SlowDown BandwidthLimitExceeded
    EC2Throttled PriorRequestNotComplete KMSThrottling KmsThrottled ExpiredToken TokenRefreshRequired"""
"""Of every service ("Common Errors"), what the SDK itself tries again, and credentials that are renewed."""
_DYNAMODB: Final = """
    ItemCollectionSizeLimitExceeded LimitExceeded ProvisionedThroughputExceeded ReplicatedWriteConflict ResourceInUse
    TransactionConflict TransactionInProgress"""
"""Of DynamoDB: "Error handling with DynamoDB", and its service model."""
_TRANSIENT: Final = frozenset((*_COMMON.split(), *_DYNAMODB.split(), "OperationAborted"))
"""Plain codes after which the same call may succeed; all other refusals of a service are permanent.

The last is S3's ("Error responses").
"""
_PERMANENT_KINDS: Final = (
    sdk.ParamValidationError,
    sdk.NoRegionError,
    sdk.InvalidRegionError,
    sdk.DataNotFoundError,
    sdk.UnknownServiceError,
    TypeError,
    ValueError,
)


def error_code(error: BaseException | None) -> str:
    """The service's code of an error, its own or its cause's; empty where there is none."""
    if isinstance(error, StoreError):
        error = error.__cause__
    if not isinstance(error, ClientError):
        return ""
    response: dict[str, Any] = error.response
    return str(response.get("Error", {}).get("Code", ""))


def store_error(service: str, error: Exception) -> StoreError:
    """Whatever the SDK, its HTTP client, ssl or the network raised, as a `StoreError`."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code, text = error_code(error), str(error.response.get("Error", {}).get("Message", ""))
        transient = plain_code(code) in _TRANSIENT or is_clock_skew(code, text) or status in (408, 429) or status >= 500
    else:
        transient = not isinstance(error, _PERMANENT_KINDS)
    return StoreError(f"{service}: {type(error).__name__}: {str(error) or 'no answer in time'}", transient=transient)
