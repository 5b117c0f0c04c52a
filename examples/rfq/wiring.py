"""From the names of a transport and of a database to the application's channels and its state."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from eip import GarbageCollection
from eip.errors import ConfigurationError
from eip.stores import SqliteStore, Store
from eip.telemetry.meter import Meter
from eip.transports.memory import MemoryTransport
from examples.rfq.channels import Channels, MemoryChannels
from examples.rfq.store import States

__all__ = ["GARBAGE", "STATES", "TRANSPORTS", "connected", "shown", "stored"]

TRANSPORTS: Final = ("memory", "aws", "activemq")
STATES: Final = {"memory": "rfq.sqlite", "aws": "dynamodb:rfq", "activemq": "rfq.sqlite"}
"""By transport, where the state is kept if nothing else is said."""
GARBAGE: Final = GarbageCollection(threshold=20_000)
"""A thousand RFQs under way are some hundred thousand objects in no cycles, which Python's own thresholds look at again
and again: a fifth of the service's CPU (docs/benchmarks.md)."""

_COLLECTIONS: Final = ("rfq_quotes", "rfq_rides", "rfq_queues")
"""Collections."""
_LOCAL_POLL: Final = 2.0
"""Seconds of a long poll on a local moto, which goes on with those of killed processes and hands messages to nobody."""


@asynccontextmanager
async def connected(
    transport: str,
    endpoint_url: str | None = None,
    *,
    unicorns: int = 0,
    meter: Meter | None = None,
) -> AsyncIterator[Channels]:
    """The application's channels on a transport, until the block ends; everything missing is made.

    Args:
        transport: one of `TRANSPORTS`.
        endpoint_url: of the service or broker.
        unicorns: how many will listen.
        meter: records the calls of the services.
    """
    match transport:
        case "memory":
            if endpoint_url is not None:
                raise ConfigurationError("the embedded transport has no endpoint")
            async with MemoryTransport(meter=meter) as memory:
                yield await _prepared(MemoryChannels(memory))
        case "aws":
            from eip.transports.aws import AwsTransport  # noqa: PLC0415 - needs the extra aws
            from examples.rfq.aws import AwsChannels  # noqa: PLC0415

            poll = 20.0 if endpoint_url is None else _LOCAL_POLL
            connections = 64 + 2 * unicorns
            async with AwsTransport(
                endpoint_url=endpoint_url, long_poll=poll, connections=connections, meter=meter
            ) as aws:
                yield await _prepared(AwsChannels(aws))
        case "activemq":
            if endpoint_url is None:
                raise ConfigurationError("name the broker: --endpoint-url stomp://user@host:61613")
            from eip.transports.activemq import ActiveMQTransport  # noqa: PLC0415 - needs the extra activemq
            from examples.rfq.activemq import ActiveMQChannels  # noqa: PLC0415

            async with ActiveMQTransport(endpoint_url, meter=meter) as broker:
                yield await _prepared(ActiveMQChannels(broker))
        case _:
            raise ConfigurationError(f"no transport {transport!r}; there are: {', '.join(TRANSPORTS)}")


async def _prepared(channels: Channels) -> Channels:
    await channels.prepare()
    return channels


@asynccontextmanager
async def stored(state: str, endpoint_url: str | None = None) -> AsyncIterator[States]:
    """The stores of ``sqlite:FILE`` or a file's path, ``dynamodb:TABLE``, or the URL of a PostgreSQL or Redis.

    Processes that share it share the work: those of one machine on SQLite, any on the others. ``endpoint_url``: of
    DynamoDB.
    """
    scheme, _, rest = state.partition(":")
    match scheme:
        case "dynamodb":
            async with _dynamodb(endpoint_url) as client:
                from eip.stores.dynamodb import DynamoStore, create_table  # noqa: PLC0415 - needs the extra aws

                await create_table(client, rest)
                yield States(*(DynamoStore(client, rest, each) for each in _COLLECTIONS))
        case "postgresql" | "postgres":
            from eip.stores.postgres import PostgresStore  # noqa: PLC0415 - needs the extra postgres

            async with _closing(*(PostgresStore(state, each) for each in _COLLECTIONS)) as states:
                yield states
        case "redis" | "rediss":
            from eip.stores.redis import RedisStore  # noqa: PLC0415 - needs the extra redis

            async with _closing(*(RedisStore(state, each) for each in _COLLECTIONS)) as states:
                yield states
        case _:
            path = rest if scheme == "sqlite" else state
            async with _closing(*(SqliteStore(path, each) for each in _COLLECTIONS)) as states:
                yield states


def shown(state: str) -> str:
    """A state's URL without a password."""
    return re.sub(r"(?<=://)[^/@]*@", "", state)


@asynccontextmanager
async def _closing(*stores: Store) -> AsyncIterator[States]:
    async with AsyncExitStack() as stack:
        for store in stores:
            stack.push_async_callback(store.aclose)
        yield States(*stores)


def _dynamodb(endpoint_url: str | None) -> Any:
    from aiobotocore.session import get_session  # noqa: PLC0415 - needs the extra aws
    from botocore.config import Config  # noqa: PLC0415

    config = Config(max_pool_connections=64, retries={"mode": "standard", "total_max_attempts": 5})
    return get_session().create_client("dynamodb", endpoint_url=endpoint_url, config=config)
