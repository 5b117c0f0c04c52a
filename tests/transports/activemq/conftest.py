"""Each test has channels of its own on the session's broker."""

from __future__ import annotations

import pytest
import stomp

from eip.testing.conformance import Harness
from eip.topology import SubscriptionSpec, TopicSpec, Topology
from eip.transports.activemq import ActiveMQTransport


@pytest.fixture
async def activemq(activemq_broker):
    async with ActiveMQTransport(activemq_broker.url, max_message_bytes=1_000_000) as transport:
        yield transport


class ActiveMQHarness(Harness):
    """Its channels are made by the broker, at their first use."""

    def __init__(self, transport, broker):
        super().__init__(transport, quiet=0.25, timeout=30.0)
        self._broker = broker

    async def queue(self, *, fifo=False, dead_letters=None, max_receive_count=None):
        name = self.fresh("queue", fifo=fifo)
        assert isinstance(self.transport, ActiveMQTransport)
        return self.transport.queue(name, dead_letters=dead_letters, max_receive_count=max_receive_count)

    async def subscription(self, topic, name, *, filter=None):  # noqa: A002 - the harness's name
        await Topology(TopicSpec(topic.name), SubscriptionSpec(topic.name, name, filter=filter)).apply(self.transport)
        return topic.subscription(name)

    async def send_raw(self, queue, raw):
        connection = stomp.Connection12([(self._broker.host, self._broker.port)])
        connection.connect(self._broker.user, self._broker.password, wait=True)
        connection.send(f"/queue/{queue.name}", raw.decode())
        connection.disconnect()


@pytest.fixture
def harness(activemq, activemq_broker):
    return ActiveMQHarness(activemq, activemq_broker)
