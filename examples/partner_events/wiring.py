"""From the name of a transport to what the services need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from eip import Transport
from eip._ids import new_uuid
from eip.codec import dump_json
from eip.errors import SendError
from eip.runtime.service import Runnable
from eip.stores import SqliteStore
from eip.stores.objects import FileObjects, ObjectStore
from eip.transports.memory import MemoryTransport
from examples.partner_events.intake import Intake, partner_topology
from examples.partner_events.journal import Journal
from examples.partner_events.model import CUSTOMERS
from examples.partner_events.orders import OrderSystem, Tables
from examples.partner_events.partner import Partner

__all__ = ["EVENT_SOURCE", "TRANSPORTS", "System", "system"]

TRANSPORTS: Final = ("memory", "aws")
EVENT_SOURCE: Final = "aws.partner/appflow.salesforce.com/111122223333/sales"
_BUCKETS: Final = ("partner-payloads", "sales-payloads")
_TABLES: Final = ("customers", "contracts", "orders", "sent")
_TABLE: Final = "eip-partner-events"
_KEPT_DAYS: Final = 15
"""A day longer than a dead-letter queue keeps an event, which still needs its object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Partner, intake and order system over a transport."""

    transport: Transport
    partner: Partner
    tables: Tables
    journal: Journal
    services: list[Runnable]


@asynccontextmanager
async def system(
    transport: str, folder: Path, *, region: str = "us-east-1", endpoint_url: str | None = None
) -> AsyncIterator[System]:
    """The embedded transport with its state in a folder, or AWS with EventBridge, SQS, S3 and DynamoDB."""
    make = _embedded(folder) if transport == "memory" else _aws(region, endpoint_url)
    async with make as made:
        for customer in CUSTOMERS:
            await made.tables.customers.put(customer.id, customer.model_dump_json().encode())
        yield made


def _services(
    transport: Transport, objects: Sequence[ObjectStore], tables: Tables, journal: Journal, *hosts: str
) -> list[Runnable]:
    intake = Intake(transport, objects[0], objects[1], tables, journal, hosts=hosts)
    return [*intake.services, *OrderSystem(transport, objects[1], tables, journal).services]


@asynccontextmanager
async def _embedded(folder: Path) -> AsyncIterator[System]:
    async with AsyncExitStack() as stack:
        memory = await stack.enter_async_context(MemoryTransport())
        path = folder / "partner_events.sqlite"
        tables = Tables(*[await stack.enter_async_context(SqliteStore(path, name)) for name in _TABLES])
        objects = [FileObjects(folder / name, name) for name in _BUCKETS]
        for each in objects:
            await each.expire(timedelta(days=_KEPT_DAYS))
        await partner_topology(EVENT_SOURCE).apply(memory)

        async def put(kind: str, detail: dict[str, Any]) -> None:
            event = {"id": new_uuid(), "source": EVENT_SOURCE, "detail-type": kind, "detail": detail}
            await memory.bus(EVENT_SOURCE).put_event(event)

        journal = Journal()
        yield System(
            transport=memory,
            partner=Partner(put, objects[0], lambda bucket, key: f"s3://{bucket}/{key}", tables.sent),
            tables=tables,
            journal=journal,
            services=_services(memory, objects, tables, journal),
        )


@asynccontextmanager
async def _aws(region: str, endpoint_url: str | None) -> AsyncIterator[System]:
    from eip.stores.dynamodb import DynamoStore, create_table  # noqa: PLC0415 - the extra `aws`
    from eip.stores.s3 import S3Objects, lifecycle_rule  # noqa: PLC0415
    from eip.transports.aws import AwsTransport  # noqa: PLC0415
    from examples.aws_calls import make_bucket  # noqa: PLC0415

    async with AwsTransport(region=region, endpoint_url=endpoint_url) as aws:
        s3, dynamodb, events = await aws.client("s3"), await aws.client("dynamodb"), await aws.client("events")
        names = [f"{name}-{aws.account}" for name in _BUCKETS]
        for name in names:
            await make_bucket(s3, name, region)
            expiry = {"Rules": [lifecycle_rule(days=_KEPT_DAYS)]}
            await s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration=expiry)
        await create_table(dynamodb, _TABLE)
        tables = Tables(*(DynamoStore(dynamodb, _TABLE, name) for name in _TABLES))
        await partner_topology(EVENT_SOURCE).apply(aws)

        async def put(kind: str, detail: dict[str, Any]) -> None:
            """As another sender would: only partners may call PutPartnerEvents, and emulators deliver it nowhere."""
            entry = {"Source": EVENT_SOURCE, "DetailType": kind, "Detail": dump_json(detail).decode()}
            answer = await events.put_events(Entries=[{**entry, "EventBusName": EVENT_SOURCE}])
            if answer["FailedEntryCount"]:
                raise SendError(f"{EVENT_SOURCE}: {answer['Entries'][0].get('ErrorMessage')}")

        def url_of(bucket: str, key: str) -> str:
            place = f"https://s3.{region}.amazonaws.com" if endpoint_url is None else endpoint_url
            return f"{place}/{bucket}/{quote(key)}"

        objects = [S3Objects(s3, name) for name in names]
        journal, hosts = Journal(), () if endpoint_url is None else (urlsplit(endpoint_url).netloc,)
        yield System(
            transport=aws,
            partner=Partner(put, objects[0], url_of, tables.sent),
            tables=tables,
            journal=journal,
            services=_services(aws, objects, tables, journal, *hosts),
        )
