"""Real services that go away: the right part turns red within 30 s, and green after recovery."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from eip import App, Message, QueueSpec, Topology
from eip.transports.activemq import ActiveMQTransport
from eip.transports.aws import AwsTransport
from tests.support.fault_proxy import Faults
from tests.support.tcp_proxy import TcpProxy

WITHIN_S = 30


def make_app(transport: Any, name: str, **options: Any) -> App:
    app = App(transport, **options)

    @app.consumer(name)
    async def handle(message: Message) -> None: ...

    return app


async def turns(app: App, part: str, *, ok: bool) -> str:
    """Wait until the part is; returns why."""
    began = time.monotonic()
    while app.parts()[part].ok is not ok:
        assert time.monotonic() - began < WITHIN_S, app.parts()
        await asyncio.sleep(0.05)
    return app.parts()[part].reason or ""


@pytest.mark.aws
async def test_a_deleted_queue_turns_its_consumer_red(moto_server):
    transport = AwsTransport(
        region=moto_server.region, session=moto_server.session, endpoint_url=moto_server.url, long_poll=1.0
    )
    topology = Topology(QueueSpec("doomed", dead_letters=False), QueueSpec("healthy", dead_letters=False))
    app = make_app(transport, "doomed", topology=topology)
    app.consumer("healthy")(print)
    async with app:
        await turns(app, "consumer doomed", ok=True)
        sqs = await transport.client("sqs")
        url = (await sqs.get_queue_url(QueueName="doomed"))["QueueUrl"]
        await sqs.delete_queue(QueueUrl=url)
        assert "doomed" in await turns(app, "consumer doomed", ok=False)
        assert app.parts()["consumer healthy"].ok
        await topology.apply(transport)
        await app.sender("doomed").send(Message(1))  # or it is known when the long poll ends
        await turns(app, "consumer doomed", ok=True)
        assert app.health().ok


@pytest.mark.aws
async def test_expired_credentials_turn_the_transport_and_its_consumers_red(fault_proxy, moto_server):
    proxy = await fault_proxy()
    transport = AwsTransport(
        region=moto_server.region, session=moto_server.session, endpoint_url=proxy.url, long_poll=1.0
    )
    app = make_app(transport, "expiring", topology=Topology(QueueSpec("expiring", dead_letters=False)))
    async with app:
        await turns(app, "consumer expiring", ok=True)
        proxy.faults = Faults(expired=1.0)
        assert "ExpiredToken" in await turns(app, "transport", ok=False)
        assert "ExpiredToken" in await turns(app, "consumer expiring", ok=False)
        proxy.calm()
        await app.sender("expiring").send(Message(1))
        await turns(app, "consumer expiring", ok=True)
        await turns(app, "transport", ok=True)


@pytest.mark.activemq
async def test_a_broker_that_is_away_turns_the_transport_red(activemq_broker):
    async with TcpProxy(activemq_broker.port) as proxy:
        url = f"stomp://{activemq_broker.user}:{activemq_broker.password}@127.0.0.1:{proxy.port}"
        app = make_app(ActiveMQTransport(url, heartbeat=1.0, answer_timeout=2.0, connect_timeout=1.0), "away")
        async with app:
            await turns(app, "transport", ok=True)
            assert (await asyncio.to_thread(app.parts))["transport"].ok  # as the health server asks
            proxy.stall()
            proxy.cut()
            assert await turns(app, "transport", ok=False)
            proxy.resume()
            await turns(app, "transport", ok=True)
            assert app.health().ok
