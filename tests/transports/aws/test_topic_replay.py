"""Replay of a topic's archive to a subscription: in general, and as SNS has it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from eip.errors import ChannelNotFound, ConfigurationError, TransportError
from eip.patterns import TopicReplay, start_topic_replay
from eip.topology import QueueSpec, SubscriptionSpec, TopicSpec, Topology
from eip.topology.archives import ReplayState
from eip.transports.aws import AwsTransport
from eip.transports.memory import MemoryTransport
from tests.cli.test_cli import ran

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)


class Archived:
    """SNS's attributes of a replay on the emulator's subscriptions, which know none of them."""

    def __init__(self, aws: AwsTransport) -> None:
        self._call = aws._client.call
        self.policy, self.status = "", "Pending"
        aws._client.call = self.call

    async def call(self, service: str, operation: str, **given: Any) -> dict[str, Any]:
        if operation == "SetSubscriptionAttributes" and given["AttributeName"] == "ReplayPolicy":
            self.policy = given["AttributeValue"]
            return {}
        answer = await self._call(service, operation, **given)
        if operation == "GetSubscriptionAttributes" and self.policy:
            answer["Attributes"] |= {"ReplayPolicy": self.policy, "ReplayStatus": self.status}
        return answer


@pytest.fixture
async def aws(moto_server):
    async with AwsTransport(
        region=moto_server.region, session=moto_server.session, endpoint_url=moto_server.url
    ) as aws:
        await Topology(
            TopicSpec("replayed.fifo"),
            SubscriptionSpec("replayed.fifo", "s", queue=QueueSpec("replayed-s.fifo", dead_letters=False)),
        ).apply(aws)
        yield aws


@pytest.mark.aws
async def test_a_topics_archive_is_replayed_watched_and_ended(aws):
    service, topic = Archived(aws), aws.topic("replayed.fifo")
    assert await TopicReplay(topic, "s").state() is None
    replay = await start_topic_replay(topic, "s", start=MONDAY, end=MONDAY.timestamp() + 60.25)
    assert json.loads(service.policy) == {
        "PointType": "Timestamp",
        "StartingPoint": "2026-11-23T00:00:00.000Z",
        "EndingPoint": "2026-11-23T00:01:00.250Z",
    }
    seen = []
    async for state in replay.watch(interval=0.01):
        seen.append(state)
        service.status = {"Pending": "In progress", "In progress": "Completed"}.get(service.status, "")
    assert seen == [ReplayState.STARTING, ReplayState.RUNNING, ReplayState.COMPLETED]
    service.status = "Failed"
    with pytest.raises(TransportError, match="the replay to s failed"):
        await replay.wait(interval=0.01)
    await replay.cancel()
    assert await replay.state() is None


@pytest.mark.aws
async def test_what_cannot_be_replayed_is_refused(aws):
    topic = aws.topic("replayed.fifo")
    with pytest.raises(ChannelNotFound, match="has no subscription nobody"):
        await start_topic_replay(topic, "nobody", start=MONDAY)
    with pytest.raises(ConfigurationError, match="start must be before end"):
        await start_topic_replay(topic, "s", start=MONDAY, end=MONDAY)
    with pytest.raises(ConfigurationError, match="must be FIFO"):
        await start_topic_replay(aws.topic("standard"), "s", start=MONDAY)
    async with MemoryTransport() as memory:
        with pytest.raises(ConfigurationError, match="replays nothing to its subscriptions"):
            await start_topic_replay(memory.topic("t.fifo"), "s", start=MONDAY)


@pytest.mark.aws
async def test_the_command_shows_how_a_replay_is(aws, moto_server, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    where = ("--transport", "aws", "--region", moto_server.region, "--endpoint-url", moto_server.url, "--json")
    shown = await asyncio.to_thread(ran, "replay", "topic", "replayed.fifo", "s", *where)
    assert json.loads(shown.output) == {"topic": "replayed.fifo", "subscription": "s", "state": "none"}
    refused = await asyncio.to_thread(ran, "replay", "topic", "replayed.fifo", "s", "--start", "monday", *where)
    assert refused.exit_code == 2
