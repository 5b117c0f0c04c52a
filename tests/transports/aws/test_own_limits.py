"""What a queue or stream itself was made for is known before anything is sent; and fair groups on topics."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any
from uuid import uuid4

import pytest

from eip import Message
from eip.errors import AccessDenied, ConfigurationError, MessageTooLarge, Throttled
from eip.limits import KIB, MIB
from eip.topology import QueueSpec, SubscriptionSpec, TopicSpec, Topology
from eip.transports.aws import AwsTransport
from tests.support.environment import REGION


class Scripted:
    """Answers the calls of a transport by operation, and counts them; everything else is accepted."""

    def __init__(self, aws: AwsTransport, **answers: Any) -> None:
        self.calls: Counter[str] = Counter()
        self.sent: list[dict[str, Any]] = []
        self._answers = answers
        aws._client._answer = self._answer

    async def _answer(self, service: str, operation: str, parameters: dict[str, Any]) -> Any:
        self.calls[operation] += 1
        answer = self._answers.get(operation)
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            return answer(parameters)
        if answer is not None:
            return answer
        if operation == "GetQueueUrl":
            return {"QueueUrl": "https://q"}
        entries = parameters.get("Entries") or parameters.get("PublishBatchRequestEntries") or []
        self.sent += entries or parameters.get("Records", [])
        return {
            "Successful": [{"Id": each["Id"]} for each in entries],
            "Records": [{"SequenceNumber": "1", "ShardId": "s"} for _ in parameters.get("Records", ())],
        }


def transport(**options: Any) -> AwsTransport:
    return AwsTransport(region="us-east-1", account="1" * 12, **options)


def queue_of(size: int) -> dict[str, Any]:
    return {"Attributes": {"MaximumMessageSize": str(size)}}


# A queue's own limit.


async def test_a_queues_own_limit_is_read_once_before_a_large_message_is_sent():
    async with transport() as aws:
        script, queue = Scripted(aws, GetQueueAttributes=queue_of(2 * KIB)), aws.queue("q")
        await queue.send(Message("small"))
        assert script.calls["GetQueueAttributes"] == 0  # every queue takes a KiB
        with pytest.raises(MessageTooLarge) as raised:
            await queue.send(Message("x" * 3 * KIB))
        assert raised.value.limit == queue.limits.message_bytes == 2 * KIB
        await queue.send(Message("x" * 1200))
        assert (script.calls["GetQueueAttributes"], script.calls["SendMessageBatch"]) == (1, 2)
        queue.forget_attributes()
        with pytest.raises(MessageTooLarge):
            await queue.send(Message("x" * 3 * KIB))
        assert script.calls["GetQueueAttributes"] == 2


async def test_who_may_only_send_is_left_to_the_service():
    async with transport() as aws:
        script, queue = Scripted(aws, GetQueueAttributes=AccessDenied("no")), aws.queue("q")
        for _ in range(2):
            await queue.send(Message("x" * 3 * KIB))
        assert (script.calls["GetQueueAttributes"], script.calls["SendMessageBatch"]) == (1, 2)


@pytest.mark.aws
async def test_the_emulators_queue_has_its_limit(aws):
    name = f"l{uuid4().hex[:12]}"
    await Topology(QueueSpec(name, max_message_bytes=2 * KIB, dead_letters=False)).apply(aws)
    with pytest.raises(MessageTooLarge):
        await aws.queue(name).send(Message("x" * 3 * KIB))
    await Topology(QueueSpec(name, max_message_bytes=4 * KIB, dead_letters=False)).apply(aws)  # forgets what was read
    await aws.queue(name).send(Message("x" * 3 * KIB))


# A stream's own limit.


def stream_of(**summary: Any) -> dict[str, Any]:
    return {"StreamDescriptionSummary": summary}


async def test_a_streams_record_size_is_heeded_when_sending():
    async with transport() as aws:
        script = Scripted(aws, DescribeStreamSummary=stream_of(MaxRecordSizeInKiB=4096))
        stream = aws.stream("s")
        await stream.send(Message("x"))
        assert script.calls["DescribeStreamSummary"] == 0
        await stream.send(Message("x" * 3 * MIB), Message("y" * 3 * MIB))
        assert len(script.sent) == 3
        with pytest.raises(MessageTooLarge) as raised:
            await stream.send(Message("x" * 5 * MIB))
        assert raised.value.limit == 4 * MIB
        assert script.calls["DescribeStreamSummary"] == 1


@pytest.mark.parametrize("answer", [stream_of(MaxRecordSizeInKiB=1024), stream_of(), AccessDenied("no")], ids=str)
async def test_a_stream_that_says_nothing_else_takes_a_mebibyte(answer):
    async with transport() as aws:
        script, stream = Scripted(aws, DescribeStreamSummary=answer), aws.stream("s")
        for _ in range(2):
            with pytest.raises(MessageTooLarge):
                await stream.send(Message("x" * 2 * MIB))
        assert (script.calls["DescribeStreamSummary"], script.sent) == (1, [])


async def test_groups_are_refused_where_a_stream_would_lose_their_order():
    automatic = stream_of(RecordDistributionStrategy="AUTO")
    async with transport() as aws:
        script, stream = Scripted(aws, DescribeStreamSummary=automatic), aws.stream("s")
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="s distributes records automatically"):
                await stream.send(Message(1, group_id="g"))
        await stream.send(Message(2))
        assert (script.calls["DescribeStreamSummary"], len(script.sent)) == (1, 1)
    async with transport() as aws:
        script = Scripted(aws, DescribeStreamSummary=stream_of(RecordDistributionStrategy="USER_PARTITION_KEY"))
        await aws.stream("s").send(Message(1, group_id="g"))
        assert script.sent[0]["PartitionKey"] == "g"


# Fair groups on standard topics.


def entry_of(script: Scripted) -> dict[str, Any]:
    (entry,) = script.sent
    return entry


async def test_a_standard_topic_carries_the_group_and_so_does_the_envelope():
    """Whatever it is: subscribers that are no standard queue have only the envelope."""
    async with transport() as aws:
        script = Scripted(aws)
        await aws.topic("t").send(Message(1, group_id="any text ä\n"))
        entry = entry_of(script)
        assert entry["MessageGroupId"].startswith("eip.sha256.")
        assert json.loads(entry["MessageAttributes"]["eip"]["StringValue"])["group"] == "any text ä\n"
        assert "MessageDeduplicationId" not in entry


async def test_groups_can_be_left_off_standard_topics():
    async with transport(fair_queues=False) as aws:
        script = Scripted(aws, GetTopicAttributes={"Attributes": {}})
        await aws.topic("t").send(Message(1, group_id="g"))
        await aws.topic("t.fifo").send(Message(1, group_id="g"))
        assert ["MessageGroupId" in each for each in script.sent] == [False, True]


@pytest.mark.parametrize("whole", [True, False])
async def test_a_topic_that_refuses_groups_is_noticed_once(whole, caplog):
    text = "Invalid parameter: The request includes MessageGroupId parameter that is not valid for this topic type"

    def refuse(parameters: dict[str, Any]) -> dict[str, Any]:
        entries = parameters["PublishBatchRequestEntries"]
        bad = [each["Id"] for each in entries if "MessageGroupId" in each]
        if bad and whole:
            raise ConfigurationError(text)
        failed = [{"Id": each, "Code": "InvalidParameter", "SenderFault": True, "Message": text} for each in bad]
        kept = [each for each in entries if each["Id"] not in bad]
        accepted.extend(each["Message"] for each in kept)
        return {"Successful": [{"Id": each["Id"]} for each in kept], "Failed": failed}

    accepted: list[str] = []
    async with transport() as aws:
        script = Scripted(aws, PublishBatch=refuse)
        topic = aws.topic("t")
        await topic.send(Message(1, group_id="g"), Message(2), Message(3, group_id="h"))
        await topic.send(Message(4, group_id="g"))
        assert sorted(accepted) == ["1", "2", "3", "4"]
        assert script.calls["PublishBatch"] == 3
    assert caplog.text.count("fair_queues_refused") == 1


async def test_an_error_about_anything_else_is_not_taken_for_a_refusal_of_groups():
    async with transport() as aws:
        script = Scripted(aws, PublishBatch=Throttled("MessageGroupId and others: slow down"))
        topic = aws.topic("t")
        topic._accumulator._attempts = 2
        with pytest.raises(Throttled):
            await topic.send(Message(1, group_id="g"))
        assert script.calls["PublishBatch"] == 2


@pytest.mark.aws
@pytest.mark.parametrize("emulator", ["moto_server", "ministack"])
async def test_a_group_goes_through_a_standard_topic_to_a_standard_queue(emulator, request):
    server, name = request.getfixturevalue(emulator), f"g{uuid4().hex[:12]}"
    async with AwsTransport(REGION, server.url, session=server.session, long_poll=1.0) as aws:
        await Topology(TopicSpec(name), SubscriptionSpec(name, "s")).apply(aws)
        await aws.topic(name).send(Message(1, group_id="customer 7"), Message(2))
        async with aws.topic(name).subscription("s").receiver() as receiver:
            groups: dict[int, str | None] = {}
            while len(groups) < 2:
                groups |= {each.message.body: each.message.group_id for each in await receiver.receive(10)}
    assert groups == {1: "customer 7", 2: None}
