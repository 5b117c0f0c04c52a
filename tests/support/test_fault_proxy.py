"""The fault proxy does what its plan says, and nothing else."""

from __future__ import annotations

import uuid

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError, HTTPClientError
from botocore.parsers import ResponseParserError

from tests.support.environment import REGION

pytestmark = pytest.mark.aws


def connect(url: str, service: str = "sqs"):
    config = AioConfig(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=30)
    return get_session().create_client(service, endpoint_url=url, region_name=REGION, config=config)


@pytest.mark.parametrize("fault", ["dropped_before", "dropped_after", "errors", "throttled", "truncated"])
async def test_a_planned_fault_happens_once_and_the_service_has_acted_as_said(fault_proxy, moto_server, fault):
    proxy = await fault_proxy()
    names = [f"f{uuid.uuid4().hex[:10]}" for _ in range(2)]
    async with connect(proxy.url) as client:
        proxy.once(fault, "CreateQueue")
        with pytest.raises((ClientError, HTTPClientError, ResponseParserError, ValueError)):
            await client.create_queue(QueueName=names[0])
        made = moto_server.client("sqs").list_queues(QueueNamePrefix=names[0]).get("QueueUrls", [])
        assert bool(made) == (fault in ("dropped_after", "truncated"))
        await client.create_queue(QueueName=names[1])
    assert proxy.done == {fault: 1}
    assert proxy.calls["CreateQueue"] == 2


async def test_the_query_protocol_is_refused_in_its_own_words(fault_proxy):
    proxy = await fault_proxy(throttled=1.0, operations={"CreateTopic"})
    async with connect(proxy.url, "sns") as client:
        with pytest.raises(ClientError) as raised:
            await client.create_topic(Name="t")
        assert raised.value.response["Error"]["Code"] == "ThrottlingException"
        await client.list_topics()
        proxy.calm()
        await client.create_topic(Name="t")


async def test_the_same_seed_makes_the_same_faults(fault_proxy):
    async def faults(seed: int) -> list[str | None]:
        proxy = await fault_proxy(seed=seed, dropped_before=0.2, slow=0.2)
        return [proxy._draw("any") for _ in range(50)]

    assert await faults(1) == await faults(1) != await faults(2)
