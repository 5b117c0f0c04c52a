"""Buses of partners: associated with a partner event source, which the partner makes and deletes."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from eip import Message
from eip.errors import ChannelNotFound, ConfigurationError
from eip.topology import BusSpec, QueueSpec, RuleSpec, Topology
from eip.transports.aws import AwsTransport
from eip.transports.aws.cloudformation import template
from eip.transports.memory import MemoryTransport
from tests.transports.aws.test_cloudformation import findings

SOURCE = "aws.partner/example.com/123/orders"


def topology(source: str, queue: str = "partner-events") -> Topology:
    return Topology(BusSpec(event_source=source), RuleSpec(source, "everything", queue=QueueSpec(queue)))


def test_a_partners_bus_has_the_name_of_its_event_source():
    assert BusSpec(event_source=SOURCE) == BusSpec(SOURCE, event_source=SOURCE)
    with pytest.raises(ConfigurationError, match="must be its event_source"):
        BusSpec("orders", event_source=SOURCE)
    with pytest.raises(ConfigurationError, match=r"only a partner's bus has a / in its name; give event_source="):
        BusSpec(SOURCE)


@pytest.mark.parametrize(
    "source", ["", "orders", "aws.partner/x", "aws.partner//a/b", "aws.partner/a/b/", "aws.partner/a/ü", "x" * 300]
)
def test_a_name_that_no_partner_has_is_refused(source):
    with pytest.raises(ConfigurationError, match="event_source must be aws"):
        BusSpec(event_source=source)


def test_an_event_source_is_a_string():
    wrong: Any = 7
    with pytest.raises(TypeError, match="event_source must be a string"):
        BusSpec(event_source=wrong)


async def test_the_embedded_bus_takes_a_partners_events_and_a_rule_takes_them_all():
    async with MemoryTransport() as memory:
        assert [step.action for step in (await topology(SOURCE).apply(memory)).steps].count("create") == 6
        assert (await topology(SOURCE).plan(memory)).in_force
        event = {"source": SOURCE, "detail-type": "Contract", "detail": {"Id": "c1"}}
        await memory.bus(SOURCE).put_event(event)
        async with memory.queue("partner-events").receiver() as receiver:
            (found,) = await receiver.receive(10, wait=1)
        message: Message[Any] = found.message
        assert (message.source, message.type, message.body) == (SOURCE, "Contract", {"Id": "c1"})


def test_the_template_associates_the_bus():
    made = template(topology(SOURCE))
    buses = [each["Properties"] for each in made["Resources"].values() if each["Type"] == "AWS::Events::EventBus"]
    assert buses == [{"Name": SOURCE, "EventSourceName": SOURCE}]
    assert findings(made) == []


@pytest.fixture
def source():
    return f"aws.partner/example.com/{uuid4().hex[:8]}/orders"


def connected(emulator):
    return AwsTransport(region=emulator.region, session=emulator.session, endpoint_url=emulator.url, long_poll=1.0)


@pytest.mark.aws
async def test_a_bus_is_associated_once_the_partner_has_made_its_source(source, moto_server):
    """Moto makes no rules of such a bus: it takes the last part of the name for the whole."""
    declared, partner = Topology(BusSpec(event_source=source)), moto_server.client("events")
    async with connected(moto_server) as aws:
        with pytest.raises(ChannelNotFound, match=f"no partner event source {source} .*ask the partner"):
            await declared.apply(aws)
        partner.create_partner_event_source(Name=source, Account=moto_server.account)
        assert [step.name for step in (await declared.plan(aws))["create"]] == [source]
        await declared.apply(aws)
        assert {step.action for step in (await declared.plan(aws)).steps} == {"same"}
        partner.delete_partner_event_source(Name=source, Account=moto_server.account)
        (drift,) = (await declared.plan(aws))["drift"]
    assert (drift.kind, drift.name) == ("bus", source)
    assert drift.detail == "its event source is DELETED: no events come; ask the partner"


@pytest.mark.aws
async def test_a_rule_takes_every_event_of_a_partners_bus(source, ministack):
    """No emulator delivers PutPartnerEvents to the partner's bus, so the partner's events are put as others are."""
    queue, partner = f"q{uuid4().hex[:8]}", ministack.client("events")
    partner.create_partner_event_source(Name=source, Account=ministack.account)
    async with connected(ministack) as aws:
        await topology(source, queue).apply(aws)
        assert {step.action for step in (await topology(source, queue).plan(aws)).steps} == {"same"}
        assert partner.describe_event_bus(Name=source)["Name"] == source
        event = {"Source": source, "DetailType": "Contract", "Detail": json.dumps({"Id": "c1"}), "EventBusName": source}
        assert partner.put_events(Entries=[event])["FailedEntryCount"] == 0
        async with aws.queue(queue).receiver() as receiver:
            (found,) = await receiver.receive(1, wait=10)
            await found.ack()
    assert (found.message.source, found.message.type, found.message.body) == (source, "Contract", {"Id": "c1"})
