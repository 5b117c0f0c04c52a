"""Return addresses on AWS are input from strangers."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from eip import Consumer, Message
from eip.channels.addresses import ReturnAddresses
from eip.errors import AddressRefused
from eip.topology import QueueSpec, Topology
from eip.transports.aws import AwsTransport

OURS = "arn:aws:sqs:us-east-1:123456789012:rfq-replies"
HOSTILE = {
    "another account": "arn:aws:sqs:us-east-1:999999999999:rfq-replies",
    "another region": "arn:aws:sqs:eu-central-1:123456789012:rfq-replies",
    "another partition": "arn:aws-cn:sqs:us-east-1:123456789012:rfq-replies",
    "another prefix": "arn:aws:sqs:us-east-1:123456789012:orders",
    "the prefix further on": "arn:aws:sqs:us-east-1:123456789012:x-rfq-replies",
    "upper case": "arn:aws:sqs:us-east-1:123456789012:RFQ-replies",
    "a Cyrillic letter": "arn:aws:sqs:us-east-1:123456789012:rfq-r\u0435plies",
    "a letter that looks like the prefix": "arn:aws:sqs:us-east-1:123456789012:r\u0493q-replies",
    "full-width digits": "arn:aws:sqs:us-east-1:\uff11\uff12\uff13456789012:rfq-replies",
    "an Arabic-Indic digit": "arn:aws:sqs:us-east-1:12345678901\u0662:rfq-replies",
    "a line end": "arn:aws:sqs:us-east-1:123456789012:rfq-replies\n",
    "an invisible space": "arn:aws:sqs:us-east-1:123456789012:rfq-\u200breplies",
    "a right-to-left override": "arn:aws:sqs:us-east-1:123456789012:rfq-\u202eseilper",
    "a path": "arn:aws:sqs:us-east-1:123456789012:rfq-/../orders",
    "another ARN behind": "arn:aws:sqs:us-east-1:123456789012:rfq-x:arn:aws:sqs:us-east-1:999999999999:rfq-y",
    "a wildcard": "arn:aws:sqs:us-east-1:123456789012:rfq-*",
    "a query": "arn:aws:sqs:us-east-1:123456789012:rfq-x?Action=DeleteQueue",
    "a topic": "arn:aws:sns:us-east-1:123456789012:rfq-replies",
    "a bus": "arn:aws:events:us-east-1:123456789012:event-bus/rfq-replies",
    "a function": "arn:aws:lambda:us-east-1:123456789012:rfq-replies",
    "a URL": "https://sqs.us-east-1.amazonaws.com/123456789012/rfq-replies",
    "another transport": "memory:queue/rfq-replies",
    "far too long": "arn:aws:sqs:us-east-1:123456789012:rfq-" + "x" * 5000,
    "nothing": "",
}


def transport(**options):
    return AwsTransport(region="us-east-1", account="123456789012", **options)


@pytest.mark.parametrize("how", [{"prefix": "rfq-"}, {"allow": "arn:aws:sqs:us-east-1:123456789012:rfq-*"}], ids=str)
@pytest.mark.parametrize("address", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_address_is_refused_logged_and_counted(address, how):
    addresses = ReturnAddresses(transport(), **how)
    with capture_logs() as logs, pytest.raises(AddressRefused):
        addresses.resolve(address)
    assert addresses.refused == 1
    (entry,) = logs
    assert entry["event"] == "return_address_refused"
    assert len(entry["address"]) <= 2048


def test_our_own_is_resolved():
    assert ReturnAddresses(transport(), prefix="rfq-").resolve(OURS).address == OURS


def test_even_an_allow_list_with_a_hole_lets_only_arns_of_this_region_through():
    addresses = ReturnAddresses(transport(), allow="arn:aws:sqs:*rfq-*")
    assert addresses.resolve("arn:aws:sqs:us-east-1:999999999999:rfq-partner").name == "rfq-partner"
    wrong = (
        "another region",
        "an Arabic-Indic digit",
        "full-width digits",
        "a path",
        "another ARN behind",
        "a wildcard",
    )
    for each in wrong:
        with pytest.raises(AddressRefused):
            addresses.resolve(HOSTILE[each])


def test_addresses_that_strangers_make_up_take_no_more_memory_than_a_thousand():
    aws = transport()
    addresses = ReturnAddresses(aws, prefix="rfq-")
    first = addresses.resolve(f"{OURS}-0")
    assert addresses.resolve(f"{OURS}-0") is first
    for number in range(1500):
        addresses.resolve(f"{OURS}-{number}")
    assert len(aws._resolved) + len(aws._queues) <= 1000
    assert addresses.resolve(OURS) is not aws.queue("orders")
    assert aws.resolve(aws.queue("orders").address) is aws.queue("orders")


@pytest.mark.aws
async def test_a_request_with_a_hostile_address_is_dead_lettered_and_the_next_is_answered(moto_server):
    async with AwsTransport(
        region=moto_server.region, session=moto_server.session, endpoint_url=moto_server.url, long_poll=1.0
    ) as aws:
        name = f"a{uuid4().hex[:10]}"
        await Topology(
            QueueSpec(f"{name}-requests"), QueueSpec(f"{name}-replies"), QueueSpec(f"{name[::-1]}-orders")
        ).apply(aws)
        requests, replies, orders = (
            aws.queue(each) for each in (f"{name}-requests", f"{name}-replies", f"{name[::-1]}-orders")
        )
        addresses = ReturnAddresses(aws, prefix=f"{name}-")

        async def answer(message: Message) -> Message:
            return message.reply("yes")

        consumer = Consumer(requests, answer, replies=addresses)
        task = asyncio.create_task(consumer.run())
        await requests.send(Message("evil", return_address=orders.address))
        await requests.send(Message("good", return_address=replies.address))
        async with asyncio.timeout(30):
            async with replies.receiver() as receiver:
                while not (found := await receiver.receive(1, wait=2)):
                    pass
                assert found[0].message.body == "yes"
            async with aws.queue(f"{name}-requests-dead").receiver() as receiver:
                while not (dead := await receiver.receive(1, wait=2)):
                    pass
                assert "AddressRefused" in dead[0].message.headers["dead-letter-reason"]
        await consumer.stop()
        await task
        assert addresses.refused == 1
        assert sum((await orders.depth()).values()) == 0
