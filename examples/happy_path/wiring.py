"""From the name of a transport to what the two applications need."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from starlette.routing import BaseRoute

from eip import Transport
from eip.stores import SqliteStore
from eip.stores.base import Store
from eip.stores.objects import ObjectStore
from eip.transports.memory import MemoryTransport
from examples.happy_path.front import front_topology
from examples.happy_path.judges import Judge
from examples.happy_path.model import PLACES
from examples.happy_path.object_store import ObjectServer
from examples.happy_path.steps import Tables
from examples.happy_path.uploads import OwnUrls, S3Urls, Urls
from examples.happy_path.workflow import workflow_topology

__all__ = ["TRANSPORTS", "Surroundings", "surroundings"]

TRANSPORTS: Final = ("memory", "aws")
_BUCKET: Final = "eip-happy-path"
_TABLE: Final = "eip-happy-path"
_FRONT: Final = "front"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the applications need."""

    transport: Transport
    objects: ObjectStore
    urls: Urls
    front: Store
    """What the front knows."""
    tables: Tables
    """What the workflow keeps."""
    judge: Judge | None = None
    """Who looks at photos; None: the stand-in."""
    routes: Sequence[BaseRoute] = ()
    """Of the embedded object store."""
    origin: str = ""
    """Where browsers find the object store; empty: beside the front."""
    server: ObjectServer | None = None


@asynccontextmanager
async def surroundings(
    transport: str,
    folder: Path,
    *,
    region: str = "us-east-1",
    endpoint_url: str | None = None,
    rekognition: bool = False,
) -> AsyncIterator[Surroundings]:
    """The embedded transport with state in a folder, or AWS with S3, EventBridge, SQS and DynamoDB.

    Args:
        transport: one of `TRANSPORTS`.
        folder: of the embedded transport.
        region: of AWS.
        endpoint_url: of an emulator of AWS.
        rekognition: Amazon Rekognition looks at photos; only on AWS.
    """
    make = _embedded(folder) if transport == "memory" else _aws(region, endpoint_url, rekognition=rekognition)
    async with make as around:
        await front_topology(around.objects.bucket).apply(around.transport)
        await workflow_topology().apply(around.transport)
        for place in PLACES:
            await around.tables.places.put(place.id, place.model_dump_json().encode())
        yield around


@asynccontextmanager
async def _embedded(folder: Path) -> AsyncIterator[Surroundings]:
    async with AsyncExitStack() as stack:
        memory = await stack.enter_async_context(MemoryTransport())
        names = (_FRONT, "places", "photos", "instances")
        stores = [
            await stack.enter_async_context(SqliteStore(folder / "happy_path.sqlite", f"happy_{name}"))
            for name in names
        ]
        urls = OwnUrls(secrets.token_bytes(32))
        server = ObjectServer(folder / "objects", urls, memory.bus("default").put_event)
        yield Surroundings(
            transport=memory,
            objects=server.objects,
            urls=urls,
            front=stores[0],
            tables=Tables(*stores[1:]),
            routes=server.routes,
            server=server,
        )


@asynccontextmanager
async def _aws(region: str, endpoint_url: str | None, *, rekognition: bool) -> AsyncIterator[Surroundings]:
    from aiobotocore.session import get_session  # noqa: PLC0415 - the extra `aws`
    from botocore.config import Config  # noqa: PLC0415

    from eip.stores.dynamodb import DynamoStore, create_table  # noqa: PLC0415
    from eip.stores.s3 import S3Objects  # noqa: PLC0415
    from eip.transports.aws import AwsTransport  # noqa: PLC0415
    from examples.aws_calls import make_reporting_bucket  # noqa: PLC0415
    from examples.happy_path.rekognition import RekognitionJudge  # noqa: PLC0415

    # Version 4 signs the length of what is put; in this region the SDK's default for URLs is version 2, which does not.
    signing = Config(signature_version="s3v4")
    async with (
        AwsTransport(region=region, endpoint_url=endpoint_url) as aws,
        get_session().create_client("s3", region_name=region, endpoint_url=endpoint_url, config=signing) as s3,
    ):
        dynamodb = await aws.client("dynamodb")
        await make_reporting_bucket(s3, _BUCKET, region)
        await _let_browsers_in(s3)
        await create_table(dynamodb, _TABLE)
        stores = [DynamoStore(dynamodb, _TABLE, name) for name in (_FRONT, "places", "photos", "instances")]
        yield Surroundings(
            transport=aws,
            objects=S3Objects(s3, _BUCKET),
            urls=S3Urls(s3, _BUCKET),
            front=stores[0],
            tables=Tables(*stores[1:]),
            judge=RekognitionJudge(await aws.client("rekognition")) if rekognition else None,
            origin=endpoint_url or f"https://{_BUCKET}.s3.{region}.amazonaws.com",
        )


async def _let_browsers_in(s3: Any) -> None:
    rule = {"AllowedMethods": ["PUT", "GET"], "AllowedOrigins": ["*"], "AllowedHeaders": ["*"], "MaxAgeSeconds": 3000}
    await s3.put_bucket_cors(Bucket=_BUCKET, CORSConfiguration={"CORSRules": [rule]})
