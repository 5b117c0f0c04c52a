"""The console over real services: SQS, where a look is a receive, and ActiveMQ, which cannot tell depths."""

from __future__ import annotations

from typing import Any

import pytest

from eip import App, Message, QueueSpec, Topology
from eip.channels import Transport
from eip.console import Console
from eip.console._jobs import ended
from eip.console._selection import Selection
from eip.transports.activemq import ActiveMQTransport
from eip.transports.aws import AwsTransport

BY: dict[str, Any] = {"by": "ada"}


async def _operated(transport: Transport, name: str, *, tells_depth: bool, traceless: bool) -> None:
    """Look, read, redrive one edited and then the group; nothing but that changes."""
    app = App(transport, topology=Topology(QueueSpec(name)))
    dead_name = f"{name}-dead"
    async with app.inspected():
        await app.topology.apply(transport)
        console, dead = Console(app), transport.queue(dead_name)
        for number in range(12):
            why = {"dead-letter-reason": f"ValueError: no price of {number}", "dead-letter-source": name}
            await dead.send(Message({"n": number, "token": "x"}, headers=why, attributes={"exact": 2**60}))
        await console.view.refresh()
        (shown,) = console.view.dead_letter_queues()
        assert (shown["total"], shown["peek_is_receive"]) == (12 if tells_depth else None, not traceless)
        for _ in range(2):
            look = await console.view.letters.look(dead_name)
            assert (len(look.letters), look.is_complete, look.is_receive) == (12, True, not traceless)
        (group,) = look.groups
        assert (group.reason, group.count) == ("ValueError: no price of …", 12)
        first = look.letters[0]
        letter = await console.view.letter(dead_name, first.key)
        assert letter["attributes"] == {"exact": str(2**60)}
        edited = letter["body"]["text"].replace('"n": ', '"n": 10')
        job = await ended(
            await console.operations.send_edited(
                dead_name, first.key, body=edited, attributes=letter["attributes"], **BY
            ),
            within=60,
        )
        assert (job.status, job.moved) == ("done", 1)
        job = await ended(await console.operations.redrive(dead_name, Selection(group=group.key), **BY), within=60)
        assert (job.status, job.moved, job.failed) == ("done", 11, 0)
        async with transport.queue(name).receiver(capacity=20) as receiver:
            messages: list[Message[Any]] = []
            while len(messages) < 12:
                taken = await receiver.receive(10)
                messages += [each.message for each in taken]
                await receiver.ack(taken)
        assert {each.body["token"] for each in messages} == {"x"}
        assert {each.attributes["exact"] for each in messages} == {2**60}
        assert sum(each.body["n"] >= 100 for each in messages) == 1
        assert not any(each.headers for each in messages)
        await console.aclose()


@pytest.mark.aws
async def test_on_sqs_a_look_is_a_receive_and_said_to_be_one(moto_server):
    transport = AwsTransport(region=moto_server.region, endpoint_url=moto_server.url, long_poll=1)
    await _operated(transport, "console-orders", tells_depth=True, traceless=False)


@pytest.mark.activemq
async def test_on_activemq_depths_are_unknown_and_a_look_leaves_no_trace(activemq_broker):
    url = f"stomp://{activemq_broker.user}:{activemq_broker.password}@127.0.0.1:{activemq_broker.port}"
    await _operated(ActiveMQTransport(url), "console-orders", tells_depth=False, traceless=True)
