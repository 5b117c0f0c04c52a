"""Each test has channels of its own on the session's moto server."""

from __future__ import annotations

import pytest

from eip.testing.conformance import Harness
from eip.topology import BusSpec, QueueSpec, RuleSpec, StreamSpec, SubscriptionSpec, TopicSpec, Topology
from eip.transports.aws import AwsTransport, lambda_host


@pytest.fixture
async def aws(moto_server):
    # Short polls: moto goes on with a poll whose client has gone, and hands messages to nobody.
    async with AwsTransport(
        region=moto_server.region, session=moto_server.session, endpoint_url=moto_server.url, long_poll=1.0
    ) as transport:
        yield transport


@pytest.fixture
async def proxy(fault_proxy):
    return await fault_proxy()


@pytest.fixture
async def proxied_aws(moto_server, proxy):
    async with AwsTransport(
        region=moto_server.region, session=moto_server.session, endpoint_url=proxy.url, long_poll=1.0
    ) as transport:
        yield transport


@pytest.fixture
async def second_aws(ministack):
    async with AwsTransport(
        region=ministack.region, session=ministack.session, endpoint_url=ministack.url, long_poll=1.0
    ) as transport:
        yield transport


class AwsHarness(Harness):
    """Makes its channels by topology."""

    def __init__(self, transport, emulator):
        super().__init__(transport, lease=3.0, quiet=0.5, timeout=60.0)
        self._emulator = emulator

    async def queue(self, *, fifo=False, dead_letters=None, max_receive_count=None):
        name = self.fresh("queue", fifo=fifo)
        declared = QueueSpec(name, visibility=self.lease, dead_letters=False)
        resources = [declared]
        if dead_letters is not None:
            resources = [
                QueueSpec(dead_letters.name, visibility=self.lease, dead_letters=False),
                QueueSpec(
                    name, visibility=self.lease, dead_letters=dead_letters.name, max_receive_count=max_receive_count
                ),
            ]
        await Topology(*resources).apply(self.transport)
        return self.transport.queue(name)

    async def topic(self, *, fifo=False):
        name = self.fresh("topic", fifo=fifo)
        await Topology(TopicSpec(name)).apply(self.transport)
        return self.transport.topic(name)

    async def subscription(self, topic, name, *, filter=None):  # noqa: A002 - the harness's name
        await Topology(TopicSpec(topic.name), SubscriptionSpec(topic.name, name, filter=filter)).apply(self.transport)
        return topic.subscription(name)

    async def bus(self):
        name = self.fresh("bus")
        await Topology(BusSpec(name)).apply(self.transport)
        return self.transport.bus(name)

    async def rule(self, bus, name, *, pattern=None):
        await Topology(BusSpec(bus.name), RuleSpec(bus.name, name, pattern)).apply(self.transport)
        return bus.subscription(name)

    async def stream(self):
        name = self.fresh("stream")
        await Topology(StreamSpec(name, shards=3)).apply(self.transport)
        return self.transport.stream(name)

    async def group(self, stream, name):
        return stream.group(name, start="trim_horizon")  # its leases are in DynamoDB

    async def send_raw(self, queue, raw):
        sqs = self._emulator.client("sqs")
        url = sqs.get_queue_url(QueueName=queue.name)["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody=raw.decode())


@pytest.fixture
def harness(aws, moto_server):
    return AwsHarness(aws, moto_server)


@pytest.fixture
def second_harness(second_aws, ministack):
    return AwsHarness(second_aws, ministack)


@pytest.fixture
def lambda_handler():
    """Makes entry points, and closes their loops."""
    made = []

    def make(handler, **options):
        made.append(lambda_host.lambda_handler(handler, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()
