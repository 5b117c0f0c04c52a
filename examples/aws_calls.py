"""Calls of AWS services that the library has no driver for, with their failures as the library's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from eip.errors import Reject, TransportError

__all__ = ["call", "make_bucket", "make_reporting_bucket"]


async def call(operation: Callable[..., Awaitable[Any]], refusals: Collection[str], **arguments: Any) -> Any:
    """Call an operation of a client of the SDK.

    Args:
        operation: a bound method of the client.
        refusals: codes of errors that say that the input will never be accepted.
        arguments: of the operation.

    Raises:
        Reject: one of the refusals, or what the SDK itself refuses.
        TransportError: anything else, which may succeed later.
    """
    try:
        return await operation(**arguments)
    except ClientError as error:
        found = error.response.get("Error", {})
        if found.get("Code") in refusals:
            raise Reject(f"{found['Code']}: {found.get('Message', '')}".removesuffix(": ")) from None
        raise TransportError(str(error)) from error
    except ParamValidationError as error:
        raise Reject(str(error)) from None
    except (BotoCoreError, OSError) as error:
        raise TransportError(f"{type(error).__name__}: {error}") from error


async def make_bucket(s3: Any, bucket: str, region: str) -> None:
    """Make an S3 bucket where it is missing.

    Args:
        s3: an open client.
        bucket: its name.
        region: where it is made.
    """
    located = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        await s3.create_bucket(Bucket=bucket, **located)


async def make_reporting_bucket(s3: Any, bucket: str, region: str) -> None:
    """Make an S3 bucket where it is missing, and have it report new objects to EventBridge; see `make_bucket`."""
    await make_bucket(s3, bucket, region)
    await s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
