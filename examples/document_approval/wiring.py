"""From the name of a transport to a workflow with its channels and stores."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from eip import Transport
from eip.stores import SqliteStore
from eip.stores.base import Store
from eip.stores.objects import FileObjects, ObjectStore
from eip.transports.memory import MemoryTransport

__all__ = ["TRANSPORTS", "Surroundings", "surroundings"]

TRANSPORTS: Final = ("memory", "aws")
_BUCKET: Final = "eip-document-approval"
_TABLE: Final = "eip-document-approval"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the workflow needs."""

    transport: Transport
    objects: ObjectStore
    approvals: Store
    ledger: Store


@asynccontextmanager
async def surroundings(
    transport: str, folder: Path, *, region: str = "us-east-1", endpoint_url: str | None = None
) -> AsyncIterator[Surroundings]:
    """The embedded transport with state in a folder, or AWS with state in DynamoDB and S3."""
    if transport == "memory":
        stores = [SqliteStore(folder / "approval.sqlite", name) for name in ("approvals", "ledger")]
        async with MemoryTransport() as memory:
            yield Surroundings(memory, FileObjects(folder / "objects"), *stores)
        for store in stores:
            await store.aclose()
        return

    from eip.stores.dynamodb import DynamoStore, create_table  # noqa: PLC0415 - the extra `aws`
    from eip.stores.s3 import S3Objects  # noqa: PLC0415
    from eip.transports.aws import AwsTransport  # noqa: PLC0415

    async with AwsTransport(region=region, endpoint_url=endpoint_url) as aws:
        s3, dynamodb = await aws.client("s3"), await aws.client("dynamodb")
        await _make_bucket(s3, region)
        await create_table(dynamodb, _TABLE)
        tables = (DynamoStore(dynamodb, _TABLE, name) for name in ("approvals", "ledger"))
        yield Surroundings(aws, S3Objects(s3, _BUCKET), *tables)


async def _make_bucket(s3: Any, region: str) -> None:
    """Make the bucket, where it is missing; the default region is not to be named."""
    located = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        await s3.create_bucket(Bucket=_BUCKET, **located)
