"""Claim-check objects on S3 (extra ``aws`` or ``aiobotocore``).

    async with aiobotocore.session.get_session().create_client("s3") as client:
        objects = S3Objects(client, "my-bucket")

Give the bucket a lifecycle rule (`lifecycle_rule`): whatever fails, an object that nobody fetched goes in the end. To
tell a missing object from a forbidden one, readers need ``s3:ListBucket`` as well as ``s3:GetObject``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from typing_extensions import override

from eip._aws.credentials import call_renewing
from eip.errors import ConfigurationError, MessageTooLarge, StoreError
from eip.stores._aws_errors import error_code, store_error
from eip.stores.objects import ListedObjects

__all__ = ["S3Objects", "lifecycle_rule"]

_MISSING: Final = "NoSuchKey"
"""S3's code; a bare status 404 is of a proxy, or of an address that is no storage's, and says nothing of the object."""
_CHUNK: Final = 1024 * 1024
"""Bytes that are read at once."""
_CALL_S: Final = 30.0
"""Seconds that a call may take, with the SDK's own retries, beside the time for the object's bytes."""
_MIN_RATE: Final = 256 * 1024
"""Bytes a second: an object that comes or goes more slowly counts as stuck."""


def lifecycle_rule(prefix: str = "", *, days: int = 15) -> dict[str, Any]:
    """A rule for PutBucketLifecycleConfiguration; ``days`` exceed the time that the channel keeps a message."""
    if days < 1:
        raise ConfigurationError(f"days must be at least 1, got {days!r}")
    return {"ID": "claim-checks", "Status": "Enabled", "Filter": {"Prefix": prefix}, "Expiration": {"Days": days}}


class S3Objects(ListedObjects):
    """Objects of a bucket; reads from others that a consumer allows, with the client's own rights.

    Args:
        client: an open ``s3`` client of aiobotocore or aioboto3, which stays the caller's.
        bucket: where objects are written.
        options: of every PutObject, e.g. ``ServerSideEncryption`` or ``StorageClass``.
    """

    def __init__(self, client: Any, bucket: str, **options: Any) -> None:
        self._client, self.bucket, self._options = client, bucket, options

    @override
    async def put(self, key: str, data: bytes) -> None:
        options = {"Bucket": self.bucket, "Key": key, "Body": data, **self._options}
        await self._call("put_object", size=len(data), **options)

    @override
    async def get(self, bucket: str, key: str, *, limit: int) -> bytes | None:
        try:
            found = await self._call("get_object", Bucket=bucket, Key=key)
        except StoreError as error:
            if error_code(error) == _MISSING:
                return None
            raise
        size = found.get("ContentLength")
        if size is not None and size > limit:
            found["Body"].close()  # unread
            raise MessageTooLarge(size, limit, channel=f"claims in {bucket}")
        data = await _read(found["Body"], limit, size=limit if size is None else size)
        if len(data) > limit:
            raise MessageTooLarge(len(data), limit, channel=f"claims in {bucket}")
        if size is not None and len(data) != size:
            raise StoreError(f"S3: {key} in {bucket} ended after {len(data):,} of {size:,} bytes")
        return data

    @override
    async def delete(self, bucket: str, key: str) -> None:
        await self._call("delete_object", Bucket=bucket, Key=key)

    @override
    async def keys(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """At most 1,000 keys per call, S3's own limit."""
        asked: dict[str, Any] = {
            "Bucket": self.bucket,
            "Prefix": prefix,
            "StartAfter": after,
            "MaxKeys": min(limit, 1000),
        }
        found = await self._call("list_objects_v2", **asked)
        return [each["Key"] for each in found.get("Contents", ())]

    async def _call(self, operation: str, *, size: int = 0, **arguments: Any) -> Any:
        try:
            async with _time_for(size):
                call = getattr(self._client, operation)
                return await call_renewing(self._client, lambda: call(**arguments))
        except Exception as error:
            raise store_error("S3", error) from error


def _time_for(size: int) -> asyncio.Timeout:
    """A time limit for a call, or for reading its answer, with so many bytes of an object."""
    return asyncio.timeout(_CALL_S + size / _MIN_RATE)


async def _read(body: Any, limit: int, *, size: int) -> bytes:
    """The body's bytes, one more than the limit at most: not every service says beforehand how many there are."""
    chunks: list[bytes] = []
    left = limit + 1
    try:
        async with _time_for(size), body:
            while left > 0 and (chunk := await body.read(min(left, _CHUNK))):
                chunks.append(chunk)
                left -= len(chunk)
    except Exception as error:
        raise store_error("S3", error) from error
    return b"".join(chunks)
