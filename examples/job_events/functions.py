"""Analytics and inventory as AWS Lambda functions: the handlers of the processes, fed by event source mappings.

    eip topology export examples.job_events.functions:functions --format sam > template.json
    sam build --template template.json && sam deploy --guided

The publisher stays a process: it reads a log, and nobody calls it. The bucket and the tables are made once, by
``python -m examples.job_events analytics --transport aws`` or by your own tools.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

from aiobotocore.session import get_session

from eip import Message, clock
from eip.patterns.batching import batched
from eip.stores.dynamodb import DynamoStore
from eip.stores.s3 import S3Objects
from eip.topology import Topology
from eip.transports.aws import EventSourceMappingSpec, FunctionSpec
from eip.transports.aws.lambda_host import lambda_handler
from examples.job_events.analytics import LakeWriter
from examples.job_events.channels import ANALYTICS, INVENTORY, topology
from examples.job_events.inventory import JobRecorder
from examples.job_events.inventory_tables import DynamoInventory
from examples.job_events.lake import Lake
from examples.job_events.model import JobEvent

__all__ = ["analytics", "functions", "inventory"]

BUCKET: Final = os.environ.get("JOB_EVENTS_BUCKET", "job-events")
LAKE_TABLE: Final = "job-events-lake"
INVENTORY_TABLE: Final = "job-events-inventory"
_TIMEOUT: Final = timedelta(seconds=30)


class _Analytics:
    """The lake, opened once in each execution environment."""

    def __init__(self) -> None:
        self._writer: LakeWriter | None = None
        self._looked = 0.0

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Mapping[str, Any]]:
        session = get_session()
        async with session.create_client("s3") as s3, session.create_client("dynamodb") as dynamodb:
            self._writer = LakeWriter(Lake(S3Objects(s3, BUCKET), DynamoStore(dynamodb, LAKE_TABLE)))
            yield {}

    async def write(self, messages: Sequence[Message[Any]]) -> None:
        """Write a batch, after what another environment left half-way: its messages come again, so this is called."""
        assert self._writer is not None
        lake = self._writer.lake
        if clock.now() - self._looked > lake.takeover:
            self._looked = clock.now()
            await lake.take_over()
        await self._writer.write(messages)


class _Inventory:
    """The table, opened once in each execution environment."""

    def __init__(self) -> None:
        self._recorder: JobRecorder | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Mapping[str, Any]]:
        async with get_session().create_client("dynamodb") as client:
            self._recorder = JobRecorder(DynamoInventory(client, INVENTORY_TABLE))
            yield {}

    async def record(self, event: JobEvent) -> None:
        assert self._recorder is not None
        await self._recorder.record(event)


_analytics, _inventory = _Analytics(), _Inventory()

analytics = lambda_handler(batched(10, 0.05)(_analytics.write), setup=_analytics.opened)
"""Entry point: every event into the lake."""

inventory = lambda_handler(_inventory.record, setup=_inventory.opened)
"""Entry point: which jobs are available."""


def functions() -> Topology:
    """The channels, with functions in place of the two services; a lease is six times as long as a function may run."""
    here = __name__
    return Topology(
        *topology(visibility=6 * _TIMEOUT.total_seconds()).resources,
        FunctionSpec(
            name="job-events-analytics",
            handler=f"{here}.analytics",
            timeout=_TIMEOUT,
            environment={"JOB_EVENTS_BUCKET": BUCKET},
            allows={
                f"table:{LAKE_TABLE}": [f"dynamodb:{each}" for each in ("DeleteItem", "GetItem", "PutItem", "Query")],
                f"bucket:{BUCKET}": ["s3:PutObject"],
            },
        ),
        EventSourceMappingSpec(function="job-events-analytics", queue=ANALYTICS, batch_size=10, max_concurrency=20),
        FunctionSpec(
            name="job-events-inventory",
            handler=f"{here}.inventory",
            timeout=_TIMEOUT,
            allows={f"table:{INVENTORY_TABLE}": ["dynamodb:PutItem"]},
        ),
        EventSourceMappingSpec(function="job-events-inventory", queue=INVENTORY, batch_size=10, max_concurrency=20),
    )
