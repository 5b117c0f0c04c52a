"""From the name of a transport to what the workflow needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from eip import Transport
from eip.runtime.service import Runnable
from eip.stores import SqliteStore
from eip.transports.memory import MemoryTransport
from examples.invoices.analysis import COMPLETED, DocumentAnalysis
from examples.invoices.recorded import RecordedAnalysis
from examples.invoices.steps import Buckets, Tables
from examples.invoices.workflow import invoices_topology
from examples.object_events import ReportingFiles

__all__ = ["BUCKETS", "TRANSPORTS", "Surroundings", "surroundings"]

TRANSPORTS: Final = ("memory", "aws")
BUCKETS: Final = ("scanned-invoices", "invoice-analyses", "processed-invoices")
"""Their names; on S3, where names are everybody's, followed by the account's number."""
_TABLES: Final = ("invoices", "reviews", "instances", "jobs")
_TABLE: Final = "eip-invoices"


async def _nothing() -> None:
    """Channels that outlive the process have lost nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the workflow needs."""

    transport: Transport
    buckets: Buckets
    tables: Tables
    analysis: DocumentAnalysis
    services: list[Runnable] = field(default_factory=list)
    """Of the stand-in for Textract."""
    repeat: Callable[[], Awaitable[None]] = _nothing
    """Sends again what was lost with the channels of a process that was killed; call it while the services run."""


@asynccontextmanager
async def surroundings(
    transport: str,
    folder: Path,
    *,
    region: str = "us-east-1",
    endpoint_url: str | None = None,
    textract_role: str | None = None,
) -> AsyncIterator[Surroundings]:
    """What there is around the workflow.

    Args:
        transport: the embedded one with its state in the folder, or AWS with S3, EventBridge, SNS, SQS and DynamoDB.
        folder: of the embedded transport.
        region: of AWS.
        endpoint_url: of an emulator of AWS.
        textract_role: the ARN of the role that Textract publishes with; None: the stand-in analyses.
    """
    make = _embedded(folder) if transport == "memory" else _aws(region, endpoint_url, textract_role)
    async with make as around:
        await invoices_topology(around.buckets).apply(around.transport)
        yield around


@asynccontextmanager
async def _embedded(folder: Path) -> AsyncIterator[Surroundings]:
    async with AsyncExitStack() as stack:
        memory = await stack.enter_async_context(MemoryTransport())
        path = folder / "invoices.sqlite"
        tables = Tables(*[await stack.enter_async_context(SqliteStore(path, name)) for name in _TABLES])
        put_event = memory.bus("default").put_event
        files = [ReportingFiles(folder / name, name, put_event) for name in BUCKETS]
        analysis = RecordedAnalysis(files[0], tables.jobs, memory.topic(COMPLETED))

        async def repeat() -> None:
            for bucket in files[:2]:
                await bucket.report()
            await analysis.repeat_notices()

        yield Surroundings(
            transport=memory,
            buckets=Buckets(*files),
            tables=tables,
            analysis=analysis,
            services=[analysis.manager],
            repeat=repeat,
        )


@asynccontextmanager
async def _aws(region: str, endpoint_url: str | None, textract_role: str | None) -> AsyncIterator[Surroundings]:
    from eip.stores.dynamodb import DynamoStore, create_table  # noqa: PLC0415 - the extra `aws`
    from eip.stores.s3 import S3Objects  # noqa: PLC0415
    from eip.transports.aws import AwsTransport  # noqa: PLC0415
    from examples.aws_calls import make_reporting_bucket  # noqa: PLC0415
    from examples.invoices.textract import TextractAnalysis  # noqa: PLC0415

    async with AwsTransport(region=region, endpoint_url=endpoint_url) as aws:
        s3, dynamodb = await aws.client("s3"), await aws.client("dynamodb")
        names = [f"{name}-{aws.account}" for name in BUCKETS]
        for name in names:
            await make_reporting_bucket(s3, name, region)
        await create_table(dynamodb, _TABLE)
        tables = Tables(*(DynamoStore(dynamodb, _TABLE, name) for name in _TABLES))
        buckets, topic = Buckets(*(S3Objects(s3, name) for name in names)), aws.topic(COMPLETED)
        if textract_role is not None:
            textract = TextractAnalysis(await aws.client("textract"), topic=topic.address, role=textract_role)
            yield Surroundings(transport=aws, buckets=buckets, tables=tables, analysis=textract)
            return
        recorded = RecordedAnalysis(buckets.scanned, tables.jobs, topic)
        yield Surroundings(
            transport=aws, buckets=buckets, tables=tables, analysis=recorded, services=[recorded.manager]
        )
