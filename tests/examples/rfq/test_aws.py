"""The RFQ service on SNS, SQS and DynamoDB (moto's server)."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager

import pytest

from eip import Consumer, Message
from eip.errors import AddressRefused
from examples.rfq.booking import RideBooking
from examples.rfq.herd import Herd
from examples.rfq.model import Quote, QuoteRequest, RideRequest
from examples.rfq.unicorns import Unicorns
from examples.rfq.vicinity import located
from examples.rfq.wiring import connected, stored
from tests.examples.rfq.sharing import killing_again_and_again, killing_one_loses_nothing
from tests.support.aws import MotoServer

pytestmark = pytest.mark.aws

RIDE = RideRequest.model_validate({"from": "A", "to": "B", "customer": "Ada", "duration": 60})


@pytest.fixture
def moto(moto_server):
    """Without what tests before left in it: the application's names are always the same."""
    moto_server.reset()
    return moto_server


@asynccontextmanager
async def booked(moto: MotoServer, *customers: str):
    async with (
        stored("dynamodb:rfq", moto.url) as states,
        connected("aws", moto.url) as channels,
        asyncio.TaskGroup() as tasks,
    ):
        booking = RideBooking(channels, states, own_replies=customers)
        tasks.create_task(booking.run())
        await booking.ready.wait()
        try:
            yield booking, channels
        finally:
            await booking.stop()


def test_two_processes_share_rfqs_and_killing_one_loses_none(moto):
    killing_one_loses_nothing("dynamodb:rfq", 7, "--transport", "aws", "--endpoint-url", moto.url)


@pytest.mark.soak
def test_two_processes_killed_again_and_again(moto):
    killing_again_and_again("dynamodb:rfq", 10, "--transport", "aws", "--endpoint-url", moto.url)


async def test_the_return_address_is_the_arn_of_a_queue_which_may_be_the_customers_own(moto):
    heard: list[Message[QuoteRequest]] = []

    async def answer(question: Message[QuoteRequest]) -> Message:
        heard.append(question)
        quote = Quote(unicorn="u1", name="One", price=1.0, minutes=1.0)
        return question.reply(quote, type="Quote", source="u1")

    async with booked(moto, "Ada") as (booking, channels):
        source = await channels.enter(located(RIDE.start).zone, "u1")
        unicorn = Consumer(source, answer, replies=channels.return_addresses)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(unicorn.run())
            for customer in ("Ada", "Grace"):
                rfq = await booking.request(RIDE.model_copy(update={"customer": customer}))
                async for changed in booking.changes(rfq.id):
                    if changed.quotes:
                        break
            await unicorn.stop()
    own, shared = (question.return_address for question in heard)
    assert re.fullmatch(r"arn:aws:sqs:us-east-1:123456789012:rfq-replies-Ada-[0-9a-f]{12}-[0-9a-f]{8}", own or "")
    assert shared == "arn:aws:sqs:us-east-1:123456789012:rfq-replies"


async def test_a_hostile_return_address_gets_no_answer(moto):
    sqs = moto.client("sqs")
    sqs.create_queue(QueueName="loot")
    async with connected("aws", moto.url) as channels:
        unicorns = Unicorns(channels)
        herd = Herd(unicorns, size=1, seed=3, patience=0.1)
        herd.unicorns[0].reliability = 2.0
        position = herd.unicorns[0].position
        async with asyncio.TaskGroup() as tasks:
            for service in (unicorns, herd):
                tasks.create_task(service.run())
            while not sum((await channels.presence.depth() or {}).values()):
                await asyncio.sleep(0.05)
            question = QuoteRequest(ride=RIDE, start=position, to=position)
            stolen = "arn:aws:sqs:us-east-1:123456789012:loot"
            await channels.zone(position.zone).send(
                Message(question, correlation_id="r", return_address=stolen),
                Message(question, correlation_id="r", return_address=channels.replies.address),
            )
            while not sum((await channels.replies.depth() or {}).values()) or not channels.return_addresses.refused:
                await asyncio.sleep(0.05)
            await asyncio.gather(herd.stop(), unicorns.stop())
        with pytest.raises(AddressRefused):
            channels.return_addresses.resolve(channels.presence.address)
    url = sqs.get_queue_url(QueueName="loot")["QueueUrl"]
    assert "Messages" not in sqs.receive_message(QueueUrl=url)


async def test_a_unicorn_is_subscribed_where_it_is_even_after_it_was_killed(moto):
    sns = moto.client("sns")

    def zones() -> list[str]:
        found = sns.list_subscriptions()["Subscriptions"]
        return sorted(each["TopicArn"].rpartition("zone-")[2] for each in found)

    async with connected("aws", moto.url) as channels:
        inbox = await channels.enter("0-0", "u1")
        assert zones() == ["0-0"]
        assert await channels.enter("0-1", "u1") is inbox
        await channels.leave("0-0", "u1")
        assert zones() == ["0-1"]
    async with connected("aws", moto.url) as channels:  # the process before left without a word
        await channels.enter("2-2", "u1")
        assert zones() == ["2-2"]
        await channels.leave("2-2", "u1")
        assert zones() == []


async def test_questions_reach_a_unicorn_that_moved_on_and_its_new_zone(moto):
    heard: list[str | None] = []

    async def hear(question: Message) -> None:
        heard.append(question.correlation_id)

    async with connected("aws", moto.url) as channels:
        inbox = await channels.enter("0-0", "u1")
        await channels.zone("0-0").send(Message({}, correlation_id="asked before"))
        await channels.enter("0-1", "u1")
        await channels.leave("0-0", "u1")
        await channels.zone("0-0").send(Message({}, correlation_id="asked too late"))
        await channels.zone("0-1").send(Message({}, correlation_id="asked there"))
        consumer = Consumer(inbox, hear)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(consumer.run())
            while len(heard) < 2:
                await asyncio.sleep(0.05)
            await consumer.stop()
    assert sorted(map(str, heard)) == ["asked before", "asked there"]
