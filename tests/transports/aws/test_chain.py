"""The chain of patterns over SQS, while the calls to the service fail: every order is whole at the end."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from eip.stores import SqliteStore
from eip.topology import QueueSpec, Topology
from eip.transports.aws import AwsTransport
from tests.patterns.chain import LINES, QUEUES, Chain
from tests.support.fault_proxy import FaultProxy, Faults

pytestmark = pytest.mark.aws

ORDERS = 6
SURE = [
    (fault, operation)
    for fault in ("dropped_after", "throttled")
    for operation in ("SendMessageBatch", "ReceiveMessage", "DeleteMessageBatch")
]
"""Faults that are met whatever the dice say: how many calls there are depends on how they fall."""


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.soak)])
async def test_every_order_is_whole_at_the_end(moto_server, tmp_path, seed):
    stores = {name: SqliteStore(tmp_path / f"{name}.sqlite") for name in ("claims", "sequences", "groups", "results")}
    chain = Chain(
        prefix=f"chain-{uuid4().hex[:8]}-",
        claims=stores["claims"],
        sequences=stores["sequences"],
        groups=stores["groups"],
        results=stores["results"],
    )
    faults = Faults(
        seed=seed, dropped_before=0.03, dropped_after=0.03, errors=0.03, throttled=0.03, slow=0.02, truncated=0.02
    )
    async with AwsTransport(region=moto_server.region, endpoint_url=moto_server.url) as direct:
        queues = (QueueSpec(f"{chain.prefix}{name}", visibility=5, max_receive_count=100) for name in QUEUES)
        await Topology(*queues).apply(direct)
        for number in range(ORDERS):
            await chain.queue(direct, "orders").send(chain.order(number))
        async with (
            FaultProxy(moto_server.url, faults) as proxy,
            AwsTransport(region=moto_server.region, endpoint_url=proxy.url, long_poll=1.0) as aws,
            asyncio.timeout(90),
        ):
            for fault, operation in SURE:
                proxy.once(fault, operation)
            async with chain.running(aws):
                while None in [await chain.result(number) for number in range(ORDERS)]:
                    await asyncio.sleep(0.1)
    results = [await chain.result(number) for number in range(ORDERS)]
    assert results == [[f"{number}/{line}" for line in range(LINES)] for number in range(ORDERS)]
    assert sum(proxy.done.values()) >= len(SURE)
    for store in stores.values():
        await store.aclose()
