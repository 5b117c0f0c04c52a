"""What a service's error means: one table per service, and one for what every service's front end answers.

A code is looked up by its plain form, as the protocols differ in what stands before and after it. A test compares the
tables with the SDK's service models: each error that a model names is classified on purpose. Other codes are classified
by the status: 429 asks to slow down, 408 and 5xx may succeed later, any other 4xx will not.

Sources: "Common Errors" and the operations' "Errors" of each service's API Reference, 2026; the SDK's service models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import botocore.exceptions as sdk

from eip._aws.protocols import is_clock_skew, plain_code, refusal
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

__all__ = [
    "CredentialsStale",
    "IteratorExpired",
    "ServiceFailed",
    "Unreachable",
    "classified",
    "client_error",
    "entry_error",
    "error_of",
    "sdk_error",
]


class IteratorExpired(TransportError):
    """The shard iterator is older than five minutes."""


class ServiceFailed(ConnectionLost):
    """The service answered that it failed: the call may or may not have taken effect."""


class Unreachable(ConnectionLost):
    """No call has ever reached this endpoint: it is more likely mistyped than away for a moment."""


class CredentialsStale(AccessDenied):
    """The token has expired or the clocks differ: the next call has a renewed token, or the service's time."""

    transient = True


_CALL: Final = TransportError
"""The call itself is wrong, or not allowed in this state: another attempt would only repeat it."""

_COMMON: Final[dict[type[EipError], str]] = {
    Throttled: """
        Throttling Throttled RequestThrottled RequestLimitExceeded TooManyRequests SlowDown BandwidthLimitExceeded
        ProvisionedThroughputExceeded TransactionInProgress EC2Throttled PriorRequestNotComplete
        KMSThrottling KmsThrottled 429""",
    ServiceFailed: """
        InternalFailure InternalError InternalServerError ServiceUnavailable RequestTimeout RequestAborted
        408 500 502 503 504""",
    CredentialsStale: "ExpiredToken RequestExpired RequestTimeTooSkewed RequestInTheFuture TokenRefreshRequired",
    AccessDenied: """
        AccessDenied UnauthorizedOperation NotAuthorized InvalidClientTokenId UnrecognizedClient SignatureDoesNotMatch
        InvalidSignature IncompleteSignature MissingAuthenticationToken InvalidAccessKeyId OptInRequired 401 403""",
    InvalidMessage: """
        InvalidParameter InvalidParameterValue InvalidParameterCombination MissingParameter Validation ValidationError
        InvalidArgument""",
    ChannelNotFound: "ResourceNotFound",
    _CALL: "InvalidAction MalformedQueryString InvalidQueryParameter UnknownOperation UnsupportedOperation",
}

_SERVICES: Final[dict[str, dict[type[EipError], str]]] = {
    "sqs": {
        Throttled: "OverLimit",
        ChannelNotFound: "QueueDoesNotExist NonExistentQueue InvalidAddress",
        Conflict: "QueueNameExists QueueDeletedRecently PurgeQueueInProgress KmsInvalidState",
        AccessDenied: "InvalidSecurity KmsAccessDenied KmsDisabled KmsInvalidKeyUsage KmsNotFound KmsOptInRequired",
        LeaseLost: "ReceiptHandleIsInvalid InvalidReceiptHandle MessageNotInflight InvalidIdFormat",
        InvalidMessage: "InvalidMessageContents BatchRequestTooLong InvalidAttributeValue",
        _CALL: """
            BatchEntryIdsNotDistinct EmptyBatchRequest InvalidAttributeName InvalidBatchEntryId
            TooManyEntriesInBatchRequest""",
    },
    "sns": {
        ServiceFailed: "ConcurrentAccess",
        ChannelNotFound: "NotFound",
        Conflict: "InvalidState StaleTag KMSInvalidState",
        AccessDenied: "AuthorizationError InvalidSecurity KMSAccessDenied KMSDisabled KMSNotFound KMSOptInRequired",
        InvalidMessage: "ParameterValueInvalid BatchRequestTooLong",
        _CALL: """
            BatchEntryIdsNotDistinct EmptyBatchRequest EndpointDisabled FilterPolicyLimitExceeded InvalidBatchEntryId
            OptedOut PlatformApplicationDisabled ReplayLimitExceeded SubscriptionLimitExceeded TagLimitExceeded
            TagPolicy TooManyEntriesInBatchRequest TopicLimitExceeded UserError Verification""",
    },
    "events": {
        Throttled: "ConcurrentModification",
        ServiceFailed: "Internal",
        Conflict: "ResourceAlreadyExists IllegalStatus InvalidState",
        AccessDenied: "ManagedRule OperationDisabled",
        InvalidPattern: "InvalidEventPattern",
        InvalidMessage: "MalformedDetail NotAuthorizedForSource NotAuthorizedForDetailType RedactionFailure",
        _CALL: "InvalidAccountId LimitExceeded PolicyLengthExceeded",
    },
    "kinesis": {
        Throttled: "LimitExceeded",
        IteratorExpired: "ExpiredIterator",
        Conflict: "ResourceInUse KMSInvalidState",
        AccessDenied: "KMSAccessDenied KMSDisabled KMSNotFound KMSOptInRequired",
        _CALL: "ExpiredNextToken DryRunOperation",
    },
    "iam": {
        Throttled: "ConcurrentModification EntityTemporarilyUnmodifiable",
        ServiceFailed: "ServiceFailure",
        ChannelNotFound: "NoSuchEntity",
        Conflict: "EntityAlreadyExists DeleteConflict",
        AccessDenied: "UnmodifiableEntity",
        InvalidMessage: "InvalidInput MalformedPolicyDocument",
        _CALL: "LimitExceeded",
    },
    "lambda": {
        Throttled: "ResourceInUse",
        ServiceFailed: "Service",
        Conflict: "ResourceConflict PreconditionFailed",
        AccessDenied: "PublicPolicy",
        _CALL: "PolicyLengthExceeded",
    },
    "scheduler": {_CALL: "ServiceQuotaExceeded", ServiceFailed: "InternalServer", Conflict: "Conflict"},
    "sts": {
        ServiceFailed: "IDPCommunicationError",
        AccessDenied: """
            IDPRejectedClaim InvalidIdentityToken RegionDisabled InvalidAuthorizationMessage ExpiredTradeInToken
            OutboundWebIdentityFederationDisabled SessionDurationEscalation""",
        _CALL: "MalformedPolicyDocument PackedPolicyTooLarge JWTPayloadSizeExceeded",
    },
}


def _table(*parts: Mapping[type[EipError], str]) -> dict[str, type[EipError]]:
    return {code: kind for part in parts for kind, codes in part.items() for code in codes.split()}


_TABLES: Final = {service: _table(_COMMON, own) for service, own in _SERVICES.items()}
_OTHERS: Final = _table(_COMMON)

_SENDS: Final = frozenset(("SendMessageBatch", "PublishBatch", "PutEvents", "PutRecords"))
"""Operations whose parameters are messages; a wrong parameter of any other is the program's."""
_OF_A_LEASE: Final = ("receipt handle", "receipthandle", "visibilitytimeout", "visibility timeout")
"""The text about a lease that has ended, under the code of an invalid parameter."""


def classified(service: str, code: str) -> type[EipError] | None:
    """The kind of error that a service's code stands for; None for a code that no table has."""
    return _TABLES.get(service, _OTHERS).get(plain_code(code))


def error_of(
    service: str, code: str, text: str, *, operation: str = "", status: int = 400, where: str = ""
) -> Exception:
    """The error of a service's code, for a whole call or an entry of a batch.

    Args:
        service: the SDK's name of it.
        code: as answered, in the form of any protocol.
        text: what the service writes about it.
        operation: the call's.
        status: of the answer; decides where no table has the code.
        where: channel and endpoint, for people.
    """
    reason = ": ".join(filter(None, (where, code, text)))
    kind = classified(service, code)
    if kind is InvalidMessage:
        if any(words in text.lower() for words in _OF_A_LEASE):
            return LeaseLost(reason)
        return InvalidMessage(reason) if operation in _SENDS else ConfigurationError(reason)
    if kind is AccessDenied and is_clock_skew(code, text):
        return CredentialsStale(reason)
    if kind is not None:
        return kind(reason)
    if status == 429:
        return Throttled(reason)
    return TransportError(reason) if 400 <= status < 500 and status != 408 else ServiceFailed(reason)


def client_error(service: str, error: sdk.ClientError, *, operation: str, where: str) -> Exception:
    """The error of a refusal as the SDK read it, which finds no code in XML where the service's protocol is JSON."""
    found = error.response.get("Error", {})
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
    code, text = str(found.get("Code", "")), str(found.get("Message", ""))
    if code == str(status) and text.lstrip()[:1] == "<":
        read = refusal(text.encode("utf-8", "surrogatepass"), status, {})
        code, text = read.code, read.text
    return error_of(service, code, text, operation=operation, status=status, where=where)


def entry_error(service: str, operation: str, entry: Mapping[str, Any]) -> Exception:
    """The error of a failed entry of a batch; ``SenderFault`` is a text in the query protocol."""
    code = str(entry.get("Code") or entry.get("ErrorCode") or "unknown")
    text = str(entry.get("Message") or entry.get("ErrorMessage") or "")
    # EventBridge and Kinesis do not say whose fault it was: a code that no table has may succeed later.
    ours = str(entry.get("SenderFault", False)).strip().lower() == "true"
    return error_of(service, code, text, operation=operation, status=400 if ours else 500)


_SDK: Final[dict[type[EipError], tuple[type[Exception], ...]]] = {
    AccessDenied: (
        sdk.NoCredentialsError,
        sdk.PartialCredentialsError,
        sdk.NoAuthTokenError,
        sdk.TokenRetrievalError,
        sdk.SSOError,
        sdk.LoginRefreshTokenExpired if hasattr(sdk, "LoginRefreshTokenExpired") else sdk.SSOError,
    ),
    ConfigurationError: (
        sdk.ValidationError,
        sdk.ParamValidationError,
        sdk.DataNotFoundError,
        sdk.NoRegionError,
        sdk.InvalidRegionError,
        sdk.ProfileNotFound,
        sdk.ConfigParseError,
        sdk.ConfigNotFound,
        sdk.InvalidConfigError,
        sdk.UnknownCredentialError,
        sdk.EndpointProviderError,
        sdk.UnsupportedSignatureVersionError,
        sdk.UnknownSignatureVersionError,
    ),
}
"""What the SDK itself finds wrong before it calls a service; anything else of it may succeed later."""


def sdk_error(error: Exception, where: str) -> EipError:
    """The error for one that the SDK raised of itself, not for an answer."""
    reason = f"{where}: {error}"
    if isinstance(error, sdk.NoCredentialsError):
        reason = f"{where}: no AWS credentials were found by the SDK's chain"
    kind = next((ours for ours, theirs in _SDK.items() if isinstance(error, theirs)), ServiceFailed)
    return kind(reason)
