"""Conformance, the RFQ service's contract and the job events, on a real account; see conftest.py."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from eip import Consumer, Message
from eip.testing.conformance import Conformance
from eip.transports.aws import AwsTransport
from examples.job_events import channels as names
from examples.job_events.channels import topology
from examples.rfq.booking import RideBooking
from examples.rfq.model import Quote, QuoteRequest, RideRequest
from examples.rfq.vicinity import located
from examples.rfq.wiring import connected, stored
from tests.account.conftest import ENDPOINT, RUN, TAG, Made, sdk, tables
from tests.transports.aws import test_conformance

pytestmark = pytest.mark.timeout(600)

RIDE = RideRequest.model_validate({"from": "A", "to": "B", "customer": "Ada", "duration": 60})


class TestAccount(Conformance):
    """Without what takes the services minutes: archives begin to keep after some, filters change within fifteen."""

    guarantees = replace(test_conformance.TestAws.guarantees, archives=False, filters=False)


async def test_an_rfq_is_answered_by_a_unicorn():
    heard: list[Message[QuoteRequest]] = []

    async def answer(question: Message[QuoteRequest]) -> Message[Any]:
        heard.append(question)
        return question.reply(Quote(unicorn="u1", name="One", price=7.0, minutes=1.0), type="Quote", source="u1")

    async with (
        stored("dynamodb:aioeip-test-rfq", ENDPOINT) as states,
        connected("aws", ENDPOINT) as channels,
        asyncio.TaskGroup() as tasks,
    ):
        booking = RideBooking(channels, states)
        tasks.create_task(booking.run())
        await booking.ready.wait()
        place = located(RIDE.start).zone
        unicorn = Consumer(await channels.enter(place, "u1"), answer, replies=channels.return_addresses)
        tasks.create_task(unicorn.run())
        rfq = await booking.request(RIDE)
        async with asyncio.timeout(120):
            async for changed in booking.changes(rfq.id):
                if changed.quotes:
                    break
        await unicorn.stop()
        await channels.leave(place, "u1")
        await booking.stop()
    assert [each.body.ride.customer for each in heard] == ["Ada"]


async def test_the_events_of_a_job_reach_both_services_in_order(aws: AwsTransport):
    await topology(visibility=30).apply(aws)
    sent = [
        Message({"job": 1, "number": number}, type=kind, source="jobs", group_id="1", attributes={"eventType": kind})
        for number, kind in enumerate(("JobCreated", "JobSalaryUpdated", "JobDeleted"))
    ]
    await aws.topic(names.TOPIC).send(*sent)
    for queue in (names.ANALYTICS, names.INVENTORY):
        found: list[str | None] = []

        async def note(message: Message[Any], found: list[str | None] = found) -> None:
            found.append(message.type)

        consumer = Consumer(aws.queue(queue), note)
        async with asyncio.timeout(120), consumer:
            wanted = 3 if queue == names.ANALYTICS else 2
            while len(found) < wanted:
                await asyncio.sleep(0.1)
        assert found == sorted(found, key=[each.type for each in sent].index)


async def test_what_is_made_is_tagged_and_removed(aws: AwsTransport, made: Made):
    await topology(visibility=30).apply(aws)
    url = await aws.queue(names.ANALYTICS).url()
    assert (await sdk("sqs", "list_queue_tags", QueueUrl=url))["Tags"][TAG] == RUN
    await made.remove()
    left = (await sdk("sqs", "list_queues", QueueNamePrefix=names.ANALYTICS)).get("QueueUrls", [])
    assert not left or ENDPOINT is None  # the service's list is a minute old
    assert "aioeip-test-rfq" not in await tables()
