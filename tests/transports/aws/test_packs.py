"""Packs on SQS and SNS: within a billed unit, exact for filter policies, in order per group, unpacked by consumers."""

from __future__ import annotations

from typing import Any

import pytest

from eip import Backoff, Consumer, Message
from eip.matching import FilterPolicy
from eip.patterns.packer import Packer
from eip.telemetry.meter import Call, UsageMeter
from eip.topology import QueueSpec, SubscriptionSpec, TopicSpec, Topology
from eip.transports.aws import AwsTransport
from tests.runtime.scripted import running, until

pytestmark = pytest.mark.aws


@pytest.fixture
def meter():
    return UsageMeter()


@pytest.fixture
async def aws(moto_server, meter):
    async with AwsTransport(
        region=moto_server.region, endpoint_url=moto_server.url, long_poll=1.0, meter=meter
    ) as transport:
        yield transport


@pytest.mark.parametrize("encoding", ["identity", "gzip", "zstd"])
async def test_a_pack_is_one_billed_unit_whatever_its_envelope_and_attributes_take(aws, meter, encoding):
    name = f"packs-{encoding}"
    await Topology(QueueSpec(name, dead_letters=False)).apply(aws)
    attributes: dict[str, Any] = {"office": "köln", "size": 3.0, "urgent": True, "n": 7, "tags": ["a", "b"]}
    messages = [
        Message({"n": number, "text": f"{number:x}€" * 60}, type='an "odd" type', source="s", attributes=attributes)
        for number in range(400)
    ]
    seen: list[Message[Any]] = []

    async def handle(message: Message) -> None:
        seen.append(message)

    async with Packer(aws.queue(name), encoding=encoding) as packer:
        await packer.send(*messages)
    sent = meter.usage()[Call("sqs", name, "SendMessageBatch")]
    assert sent.units <= sent.messages  # none is more than 64 KiB by the driver's own count
    assert sent.messages * 64 * 1024 < sum(len(each.encode()) for each in messages) * 2 + 64 * 1024
    async with running(Consumer(aws.queue(name), handle)):
        await until(lambda: len(seen) >= 400, within=60)
    assert sorted(seen, key=lambda each: each.body["n"]) == messages


async def test_what_fails_of_a_pack_comes_again_alone_and_then_is_dead_lettered(aws):
    await Topology(QueueSpec("failing", max_receive_count=2)).apply(aws)
    queue = aws.queue("failing")
    seen: list[int] = []
    attempts: list[str] = []

    async def handle(message: Message) -> None:
        seen.append(message.body)
        if message.body == 3:
            attempts.append(message.headers.get("attempts", ""))
            raise ValueError("never")

    dead = aws.queue(QueueSpec("failing", max_receive_count=2).dead_letter_name or "")
    async with running(Consumer(queue, handle, retry=Backoff(base=0.01))), Packer(queue) as packer:
        await packer.send(*(Message(number) for number in range(10)))
        async with dead.receiver() as receiver:
            taken = await receiver.receive(1, wait=60)
    assert sorted(set(seen)) == list(range(10))
    assert attempts[:2] == ["", "1"]
    assert [seen.count(number) for number in range(3)] == [1, 1, 1]
    assert taken[0].message.body == 3


async def test_filter_policies_stay_exact_and_failures_go_to_the_subscriptions_own_queue(aws):
    policy = FilterPolicy({"kind": ["wanted"]})
    await Topology(
        TopicSpec("packed"), SubscriptionSpec("packed", "some", filter=policy), SubscriptionSpec("packed", "all")
    ).apply(aws)
    topic = aws.topic("packed")
    some: list[int] = []
    everything: list[int] = []

    async def handle_some(message: Message) -> None:
        some.append(message.body)
        if message.body == 0 and some.count(0) == 1:
            raise ValueError("once")

    async def handle_all(message: Message) -> None:
        everything.append(message.body)

    async with Packer(topic) as packer:
        kinds = ("wanted", "unwanted", "other")
        await packer.send(*(Message(number, attributes={"kind": kinds[number % 3]}) for number in range(60)))
    consumers = (
        Consumer(topic.subscription("some"), handle_some, retry=Backoff(base=0.01)),
        Consumer(topic.subscription("all"), handle_all),
    )
    async with running(consumers[0]), running(consumers[1]):
        await until(lambda: len(everything) == 60 and len(some) == 21, within=60)
    assert sorted(some) == sorted([0, *range(0, 60, 3)])
    assert sorted(everything) == list(range(60))


async def test_packs_of_message_groups_keep_their_order_on_a_fifo_queue(aws):
    await Topology(QueueSpec("packs.fifo", dead_letters=False)).apply(aws)
    queue = aws.queue("packs.fifo")
    seen: dict[str | None, list[int]] = {}
    failed = set()

    async def handle(message: Message) -> None:
        if message.body % 10 == 5 and message.id not in failed:
            failed.add(message.id)
            raise ValueError("once")
        seen.setdefault(message.group_id, []).append(message.body)

    async with running(Consumer(queue, handle, retry=Backoff(base=0.01))), Packer(queue, max_messages=8) as packer:
        await packer.send(*(Message(number, group_id=f"g{number % 3}") for number in range(90)))
        await until(lambda: sum(map(len, seen.values())) == 90, within=60)
    assert seen == {f"g{start}": list(range(start, 90, 3)) for start in range(3)}
