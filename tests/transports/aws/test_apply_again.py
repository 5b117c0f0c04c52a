"""Applying a topology that failed in its middle, and by several processes at once."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from eip.errors import ConnectionLost
from eip.matching import EventPattern, FilterPolicy
from eip.topology import (
    ArchiveSpec,
    BusSpec,
    QueueSpec,
    RuleSpec,
    SubscriptionSpec,
    TargetSpec,
    TopicSpec,
    Topology,
)
from eip.transports.aws import (
    ApiDestinationSpec,
    ApiKey,
    AwsTransport,
    ConnectionSpec,
    EndpointSubscriptionSpec,
    EventBridgeOptions,
    ScheduleGroupSpec,
    ScheduleSpec,
    SqsOptions,
)
from eip.transports.memory import MemoryTransport
from tests.transports.aws.test_bus_topology import differing

SOLD = EventPattern({"detail-type": ["Sold"]})
CHANGES = ("Create", "Put", "Set", "Subscribe", "Add", "Tag", "Update", "Start", "Enable")
"""What the names of calls that change something begin with."""


def everything(name: str) -> Topology:
    """Each kind of resource once, with few calls."""
    return Topology(
        QueueSpec(f"{name}-q", dead_letters=False, tags={"team": "shop"}, options=[SqsOptions(encryption="sqs")]),
        TopicSpec(f"{name}-t"),  # ministack forgets the tags of CreateTopic
        SubscriptionSpec(
            f"{name}-t",
            "s",
            filter=FilterPolicy({"kind": ["a"]}),
            queue=QueueSpec(f"{name}-s", dead_letters=False),
            dead_letters=False,
        ),
        EndpointSubscriptionSpec(f"{name}-t", url=f"https://partner.example/{name}"),
        ConnectionSpec(f"{name}-c", ApiKey(name="X-Api-Key", value="secret")),
        ApiDestinationSpec(f"{name}-d", f"{name}-c", url="https://partner.example/"),
        BusSpec(name, tags={"team": "shop"}, options=[EventBridgeOptions(description="shop")]),
        RuleSpec(
            name,
            "r",
            SOLD,
            (TargetSpec(queue=f"{name}-q"), TargetSpec(topic=f"{name}-t"), TargetSpec(api_destination=f"{name}-d")),
            dead_letters=False,
        ),
        ArchiveSpec(f"{name}-a", name, SOLD, timedelta(days=1)),
        ScheduleGroupSpec(name, tags={"team": "shop"}),
        ScheduleSpec("daily", "rate(1 day)", TargetSpec(queue=f"{name}-q"), group=name),
    )


def connected(emulator: Any) -> AwsTransport:
    return AwsTransport(region=emulator.region, session=emulator.session, endpoint_url=emulator.url)


@pytest.fixture
def name():
    return f"a{uuid4().hex[:8]}"


class FailingOnce:
    """Lets each call that changes something fail once, before the service sees it or after."""

    def __init__(self, aws: AwsTransport, *, lost: bool) -> None:
        self._call, self._lost = aws._client.call, lost
        self.failed: set[str] = set()
        aws._client.call = self.call

    async def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        identity = f"{service} {operation} {parameters}"
        if not operation.startswith(CHANGES) or identity in self.failed:
            return await self._call(service, operation, **parameters)
        self.failed.add(identity)
        if self._lost:
            await self._call(service, operation, **parameters)
        raise ConnectionLost(f"{service} {operation} failed")


@pytest.mark.aws
@pytest.mark.parametrize(
    ("emulator", "lost"),
    [
        pytest.param("moto_server", False, id="moto, refused"),
        pytest.param("ministack", True, id="ministack, answer lost"),
        pytest.param("moto_server", True, id="moto, answer lost", marks=pytest.mark.soak),
        pytest.param("ministack", False, id="ministack, refused", marks=pytest.mark.soak),
    ],
)
async def test_whatever_call_fails_applying_again_finishes(emulator, lost, name, request):
    """Each call that changes something fails once, in turn; what only reads changes nothing by failing."""
    topology = everything(name)
    async with connected(request.getfixturevalue(emulator)) as aws:
        failing, applied = FailingOnce(aws, lost=lost), 0
        while True:
            applied += 1
            try:
                await topology.apply(aws)
            except ConnectionLost:
                continue
            break
        assert differing(await topology.plan(aws)) == []
        assert applied == len(failing.failed) + 1
        assert applied > 15


@pytest.mark.aws
@pytest.mark.parametrize("emulator", ["moto_server", "ministack"])
async def test_two_processes_may_apply_the_same_at_once(emulator, name, request):
    emulator = request.getfixturevalue(emulator)
    topology = everything(name)
    async with connected(emulator) as one, connected(emulator) as two:
        await asyncio.gather(topology.apply(one), topology.apply(two))
        assert differing(await topology.plan(one)) == []
        attributes = await one.queue(f"{name}-q").attributes()
        sids = [each["Sid"] for each in json.loads(attributes["Policy"])["Statement"]]
        assert len(sids) == len(set(sids)) == 1


@pytest.mark.aws
@pytest.mark.parametrize("emulator", ["moto_server", "ministack"])
async def test_two_processes_that_share_a_queue_both_may_send_to_it(emulator, name, request):
    """Each reads the policy and writes it as a whole: the last to write must not take the other's statement away."""
    emulator = request.getfixturevalue(emulator)
    queue = QueueSpec(name, dead_letters=False)
    topologies = [
        Topology(
            TopicSpec(f"{name}-{number}"), SubscriptionSpec(f"{name}-{number}", "s", queue=queue, dead_letters=False)
        )
        for number in range(2)
    ]
    async with connected(emulator) as one, connected(emulator) as two:
        await asyncio.gather(topologies[0].apply(one), topologies[1].apply(two))
        attributes = await one.queue(name).attributes()
        assert {each["Sid"] for each in json.loads(attributes["Policy"])["Statement"]} == {
            f"eip-{name}-0",
            f"eip-{name}-1",
        }


@pytest.mark.aws
async def test_a_statement_that_another_process_wrote_over_is_written_again(moto_server, name):
    """What the race above comes down to: an older policy is written right after ours."""
    async with connected(moto_server) as aws:
        call = aws._client.call
        overwritten: list[str] = []

        async def racing(service: str, operation: str, **parameters: Any) -> dict[str, Any]:
            answer = await call(service, operation, **parameters)
            if operation == "SetQueueAttributes" and "Policy" in parameters["Attributes"] and not overwritten:
                overwritten.append(operation)
                older = '{"Version": "2012-10-17", "Statement": []}'
                moto_server.client("sqs").set_queue_attributes(
                    QueueUrl=parameters["QueueUrl"], Attributes={"Policy": older}
                )
            return answer

        aws._client.call = racing
        topology = Topology(TopicSpec(name), SubscriptionSpec(name, "s", dead_letters=False))
        await topology.apply(aws)
        assert overwritten
        assert differing(await topology.plan(aws)) == []


async def test_two_tasks_may_apply_the_same_to_the_embedded_transport_at_once(name):
    async with MemoryTransport() as memory:
        topology = everything(name)
        await asyncio.gather(topology.apply(memory), topology.apply(memory))
        assert (await topology.plan(memory)).in_force
        await memory.bus(name).put_event({"source": "shop", "detail-type": "Sold", "detail": {}})
        assert len(memory.queue(f"{name}-q").messages()) == 1, "one target, not two"
