"""Claim-check objects on S3 (extra ``aws``).

    async with aioboto3.Session().client("s3") as client:
        objects = S3Objects(client, "my-bucket")

Give the bucket a lifecycle rule (`lifecycle_rule`): whatever fails, an object that nobody fetched goes in the end. To
tell a missing object from a forbidden one, readers need ``s3:ListBucket`` as well as ``s3:GetObject``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from eip.errors import ConfigurationError, MessageTooLarge, StoreError

__all__ = ["S3Objects", "lifecycle_rule"]

_MISSING: Final = ("NoSuchKey", "404")


def lifecycle_rule(prefix: str = "", *, days: int = 15) -> dict[str, Any]:
    """A rule for PutBucketLifecycleConfiguration; ``days`` exceed the time that the channel keeps a message."""
    if days < 1:
        raise ConfigurationError("objects live for at least a day")
    return {"ID": "claim-checks", "Status": "Enabled", "Filter": {"Prefix": prefix}, "Expiration": {"Days": days}}


class S3Objects:
    """Objects of a bucket; reads from others that a consumer allows, with the client's own rights.

    Args:
        client: an open ``s3`` client of aioboto3 or aiobotocore, which stays the caller's.
        bucket: where objects are written.
        options: of every PutObject, e.g. ``ServerSideEncryption`` or ``StorageClass``.
    """

    def __init__(self, client: Any, bucket: str, **options: Any) -> None:
        self._client, self.bucket, self._options = client, bucket, options

    async def put(self, key: str, data: bytes) -> None:
        """See `ObjectStore.put`."""
        try:
            await self._client.put_object(Bucket=self.bucket, Key=key, Body=data, **self._options)
        except _FAILURES as error:
            raise StoreError(f"S3: {error}") from error

    async def get(self, bucket: str, key: str, *, limit: int) -> bytes | None:
        """See `ObjectStore.get`."""
        try:
            found = await self._client.get_object(Bucket=bucket, Key=key)
            async with found["Body"] as body:
                if found["ContentLength"] > limit:
                    raise MessageTooLarge(found["ContentLength"], limit, channel=f"claims in {bucket}")
                data: bytes = await body.read()
        except ClientError as error:
            if error.response["Error"]["Code"] in _MISSING:
                return None
            raise StoreError(f"S3: {error}") from error
        except _FAILURES as error:
            raise StoreError(f"S3: {error}") from error
        return data

    async def delete(self, bucket: str, key: str) -> None:
        """See `ObjectStore.delete`."""
        try:
            await self._client.delete_object(Bucket=bucket, Key=key)
        except _FAILURES as error:
            raise StoreError(f"S3: {error}") from error

    async def keys(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """See `ListedObjects.keys`; at most 1,000 a call, as S3 has it."""
        try:
            found = await self._client.list_objects_v2(
                Bucket=self.bucket, Prefix=prefix, StartAfter=after, MaxKeys=min(limit, 1000)
            )
        except _FAILURES as error:
            raise StoreError(f"S3: {error}") from error
        return [each["Key"] for each in found.get("Contents", ())]


_FAILURES: Final = (ClientError, BotoCoreError, OSError, TimeoutError)
