"""The bus on EventBridge: what a call holds, what is sent again, what arrives; and moto's rules, as far as they go."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from eip import Consumer, Message
from eip.errors import (
    AddressRefused,
    ChannelNotFound,
    ConfigurationError,
    Conflict,
    ConnectionLost,
    InvalidMessage,
    InvalidPattern,
    MessageTooLarge,
    PartialSendError,
    Throttled,
)
from eip.limits import KIB
from eip.matching import EventPattern
from eip.telemetry.meter import UsageMeter
from eip.topology import ArchiveSpec, BusSpec, QueueSpec, RuleSpec, TargetSpec, Topology
from eip.topology.archives import ReplayState
from eip.transports.aws import AwsTransport
from eip.transports.aws.arns import Arns
from eip.transports.aws.eventbridge._buses import provision_bus
from eip.transports.aws.eventbridge.archives import EventBridgeArchives


def sold(number, **envelope):
    return Message({"n": number}, type="Sold", source="shop", id=f"m{number}", **envelope)


class Service(AwsTransport):
    """Answers PutEvents itself, as told; moto refuses no entry for the moment."""

    def __init__(self, *answers, **options):
        super().__init__(region="eu-central-1", account="123456789012", **options)
        self.answers = list(answers)
        self.calls = []
        self._client.call = self._answer

    async def _answer(self, service, operation, **parameters):
        assert (service, operation) == ("events", "PutEvents")
        self.calls.append(parameters)
        told = self.answers.pop(0) if self.answers else {}
        if isinstance(told, Exception):
            raise told
        entries = [
            {"ErrorCode": told[index], "ErrorMessage": "as told"} if index in told else {"EventId": f"e{index}"}
            for index in range(len(parameters["Entries"]))
        ]
        return {"FailedEntryCount": len(told), "Entries": entries}

    def sent(self):
        return [[json.loads(each["Detail"])["n"] for each in call["Entries"]] for call in self.calls]


async def test_calls_hold_ten_entries_and_a_mebibyte():
    async with Service() as service:
        await service.bus("b").send(*(sold(number) for number in range(23)))
        assert sorted(len(call["Entries"]) for call in service.calls) == [3, 10, 10]
        service.calls.clear()
        large = [Message({"n": n, "x": "x" * 400 * KIB}, type="T", source="s") for n in range(5)]
        await service.bus("b").send(*large)
        assert sorted(map(len, service.sent())) == [1, 2, 2]
        assert all(call["size"] <= 1024 * KIB for call in service.calls)
        assert sum(call["units"] for call in service.calls) == 5 * 7, "each event is billed by its 64 KB chunks"


async def test_an_entry_is_what_the_service_takes():
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with Service() as service:
        await service.bus("b").send(sold(1, created_at=1_795_000_000.9, traceparent=trace))
        ((entry,),) = [call["Entries"] for call in service.calls]
        detail = json.loads(entry.pop("Detail"))
        assert entry == {
            "Source": "shop",
            "DetailType": "Sold",
            "Time": 1_795_000_000,
            "EventBusName": "arn:aws:events:eu-central-1:123456789012:event-bus/b",
            "TraceHeader": "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1",
        }
        assert detail["n"] == 1
        assert detail["eip"] == {"v": 1, "id": "m1", "at": 1_795_000_000.9, "trace": trace}


async def test_only_what_was_refused_for_the_moment_is_sent_again():
    async with Service({1: "ThrottlingException", 3: "InternalFailure"}) as service:
        await service.bus("b").send(*(sold(number) for number in range(5)))
        assert service.sent() == [[0, 1, 2, 3, 4], [1, 3]]


async def test_an_entry_with_an_error_was_not_put_whatever_else_it_has():
    """Kind of fault 8: an id beside an error is no confirmation."""
    odd = {"Entries": [{"EventId": "e0", "ErrorCode": "InternalFailure"}, {"EventId": "e1"}]}
    async with Service({}) as service:
        first = service._answer

        async def answer(*names, **parameters):
            own = await first(*names, **parameters)
            return odd if len(parameters["Entries"]) == 2 else own

        service._client.call = answer
        await service.bus("b").send(sold(0), sold(1))
        assert service.sent() == [[0, 1], [0]]


async def test_what_is_refused_for_good_is_told_and_the_rest_was_sent():
    async with Service({0: "MalformedDetail", 2: "InvalidArgument", 3: "AccessDeniedException"}) as service:
        with pytest.raises(PartialSendError) as refused:
            await service.bus("b").send(*(sold(number) for number in range(5)))
        assert [each.message.id for each in refused.value.failed] == ["m0", "m2", "m3"]
        assert isinstance(refused.value.failed[0].error, InvalidMessage)
        assert refused.value.sent == 2
        assert len(service.calls) == 1


async def test_a_call_that_fails_is_made_again_whole():
    async with Service(ConnectionLost("no answer"), Throttled("slow down")) as service:
        await service.bus("b").send(sold(0), sold(1))
        assert service.sent() == [[0, 1]] * 3


async def test_one_message_that_is_no_event_stops_the_whole_call():
    async with Service() as service:
        with pytest.raises(InvalidMessage):
            await service.bus("b").send(sold(0), Message([1], type="T", source="s"))
        with pytest.raises(MessageTooLarge):
            await service.bus("b").send(sold(0), Message({"x": "x" * 1024 * KIB}, type="T", source="s"))
        assert service.calls == []


async def test_addresses_and_names():
    async with Service() as service:
        bus = service.bus("b")
        assert service.resolve(bus.address) is bus
        assert service.bus(bus.address) is bus
        assert service.bus().name == "default"
        assert service._arns.rule("default", "r").endswith(":rule/r")
        assert service._arns.rule("b", "r").endswith(":rule/b/r")
        for address in (bus.address.replace("eu-central-1", "us-east-1"), "arn:aws:events:eu-central-1:1:event-bus/b"):
            with pytest.raises(AddressRefused):
                service.resolve(address)
        for name in ("", "no good", "x" * 257, "arn:aws:sqs:eu-central-1:123456789012:q"):
            with pytest.raises(ConfigurationError):
                service.bus(name)


# On moto.


@pytest.fixture
async def bus(aws, harness):
    return await harness.bus()


@pytest.mark.aws
async def test_the_ordinary_consumer_handles_a_rules_events(aws, bus, harness):
    rule = await harness.rule(bus, "all")
    got, done = [], asyncio.Event()

    async def handle(message: Message) -> None:
        got.append((message.body, message.type, message.source, message.id, dict(message.attributes)))
        done.set()

    consumer = Consumer(rule, handle)
    await bus.send(sold(1, attributes={"kind": "a", "n": 1.5}))
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(harness.timeout):
        tasks.create_task(consumer.run())
        await done.wait()
        await consumer.stop()
    assert got == [({"n": 1}, "Sold", "shop", "m1", {"kind": "a", "n": 1.5})]


@pytest.mark.aws
async def test_events_of_others_are_messages(aws, bus, harness, moto_server):
    rule = await harness.rule(bus, "all")
    entry = {"Source": "other", "DetailType": "Told", "Detail": '{"a": [1]}', "EventBusName": bus.name}
    moto_server.client("events").put_events(Entries=[{**entry, "Resources": ["arn:aws:s3:::b"]}])
    async with rule.receiver() as receiver:
        (message,) = await harness.take_and_ack(receiver)
    assert (message.body, message.type, message.source) == ({"a": [1]}, "Told", "other")
    assert message.headers["event-region"] == moto_server.region
    assert json.loads(message.headers["event-resources"]) == ["arn:aws:s3:::b"]
    assert message.headers["event-time"].endswith("Z")


@pytest.mark.aws
async def test_a_rules_dead_letter_tells_why(aws, bus, harness, moto_server):
    """As EventBridge writes it; moto never fails to deliver."""
    queue = await harness.queue()
    told = {
        "RULE_ARN": aws._arns.rule(bus.name, "r"),
        "TARGET_ARN": "arn:aws:sqs:eu-central-1:123456789012:gone",
        "ERROR_CODE": "NO_RESOURCE",
        "ERROR_MESSAGE": "The queue does not exist.",
        "RETRY_ATTEMPTS": "0",
    }
    event = {"id": "e", "source": "shop", "detail-type": "Sold", "detail": {"n": 1}}
    moto_server.client("sqs").send_message(
        QueueUrl=await queue.url(),
        MessageBody=json.dumps(event),
        MessageAttributes={name: {"DataType": "String", "StringValue": text} for name, text in told.items()},
    )
    async with queue.receiver() as receiver:
        (message,) = await harness.take_and_ack(receiver)
    assert message.body == {"n": 1}
    assert message.headers["dead-letter-reason"] == "NO_RESOURCE: The queue does not exist."
    assert message.headers["dead-letter-source"] == "r"


@pytest.mark.aws
async def test_lost_answers_make_duplicates_and_lose_nothing(aws, bus, harness, fault_proxy, moto_server):
    rule = await harness.rule(bus, "all")
    proxy = await fault_proxy(seed=1)
    proxy.once("dropped_after", "PutEvents")
    proxy.once("throttled", "PutEvents")
    proxy.once("errors", "PutEvents")
    async with AwsTransport(region=moto_server.region, endpoint_url=proxy.url) as flaky:
        await flaky.bus(bus.name).send(*(sold(number) for number in range(3)))
    assert proxy.calls["PutEvents"] == 4
    async with rule.receiver() as receiver:
        got = [each.id for each in await harness.take_and_ack(receiver, 6)]
    assert sorted(got) == ["m0", "m0", "m1", "m1", "m2", "m2"]


@pytest.mark.aws
async def test_the_meter_is_told(moto_server, bus):
    meter = UsageMeter()
    async with AwsTransport(region=moto_server.region, endpoint_url=moto_server.url, meter=meter) as metered:
        await metered.bus(bus.name).send(sold(1), Message({"x": "x" * 70 * KIB}, type="T", source="s"))
    (usage,) = [usage for call, usage in meter.usage().items() if call[:1] == ("eventbridge",)]
    assert (usage.calls, usage.messages, usage.units) == (1, 2, 3)


@pytest.mark.aws
async def test_archives_are_made_changed_and_removed(aws, bus):
    archives, name = bus.archives, f"a{bus.name[-12:]}"
    with pytest.raises(ChannelNotFound):
        await archives.describe(name)
    await archives.create(name, pattern=EventPattern({"source": ["shop"]}), description="of the shop")
    with pytest.raises(Conflict, match="already exists"):
        await archives.create(name)
    found = await archives.describe(name)
    assert (found.state, found.pattern, found.retention) == ("ENABLED", EventPattern({"source": ["shop"]}), None)
    assert (found.bus, found.description) == (bus.name, "of the shop")
    assert await archives.list() == [found]
    (managed,) = (await aws._client.call("events", "ListRules", EventBusName=bus.name))["Rules"]
    assert managed["Name"] == f"Events-Archive-{name}"
    assert json.loads(managed["EventPattern"]) == {"source": ["shop"], "replay-name": [{"exists": False}]}
    with pytest.raises(ConfigurationError, match="At least one"):
        await archives.update(name)
    await archives.update(name, pattern=EventPattern({"source": ["other"]}))
    await archives.update(name, description="of another")
    changed = await archives.describe(name)
    assert (changed.pattern, changed.description) == (EventPattern({"source": ["other"]}), "of another")
    await archives.delete(name)
    with pytest.raises(ChannelNotFound):
        await archives.delete(name)


@pytest.mark.aws
async def test_a_replay_brings_events_back_with_its_name_and_none_is_archived_twice(aws, bus, harness):
    """Moto replays at once, whatever the window and the rules chosen: `tests/transports/memory` has what is right."""
    archive = f"a{bus.name[-12:]}"
    rule = await harness.rule(bus, "all")
    await Topology(BusSpec(bus.name), RuleSpec(bus.name, "all"), ArchiveSpec(archive, bus.name)).apply(aws)
    await bus.send(sold(1), sold(2))
    async with rule.receiver() as receiver:
        originals = await harness.take_and_ack(receiver, 2)
        started = await bus.archives.start_replay(
            "again-" + archive, archive=archive, start=0.0, end=4e9, rules=["all"]
        )
        assert (started.archive, started.rules, started.progress) == (archive, ("all",), 1.0)
        assert (await bus.archives.cancel_replay(started.name)).state.over, "on the service only while it runs"
        replayed = await harness.take_and_ack(receiver, 2)
    assert [each.replay_name for each in originals] == [None, None]
    assert {each.replay_name for each in replayed} == {"again-" + archive}
    assert {each.id for each in replayed} == {"m1", "m2"}
    assert (await bus.archives.describe(archive)).events == 2


@pytest.mark.aws
async def test_replays_are_listed_the_latest_first(bus):
    archive = f"a{bus.name[-12:]}"
    await bus.archives.create(archive)
    for name in ("first-", "second-"):
        await bus.archives.start_replay(name + archive, archive=archive, start=1.0, end=2.0, description="why")
    listed = await bus.archives.list_replays(archive)
    assert [each.name for each in listed] == ["second-" + archive, "first-" + archive]
    assert {(each.state, each.start, each.end) for each in listed} == {(ReplayState.COMPLETED, 1.0, 2.0)}
    assert (await bus.archives.describe_replay("first-" + archive)).description == "why"
    assert {each.name for each in await bus.archives.list_replays()} >= {each.name for each in listed}


async def test_a_list_of_many_pages_is_read_to_its_end():
    """Moto gives all replays at once."""
    client: Any = PagedReplays(["r1", "r2"], ["r3"])
    archives = EventBridgeArchives(client, Arns("aws", "eu-west-1", "1" * 12), "b")
    assert {each.name for each in await archives.list_replays("a")} == {"r1", "r2", "r3"}
    assert [call.get("NextToken") for call in client.calls] == [None, "1"]


class PagedReplays:
    """A client that lists replays by the page."""

    def __init__(self, *pages):
        self.pages, self.calls = pages, []

    async def call(self, service, operation, *, channel, **parameters):
        page = len(self.calls)
        self.calls.append(parameters)
        replays = [{"ReplayName": name, "EventSourceArn": "x/a", "State": "RUNNING"} for name in self.pages[page]]
        return {"Replays": replays, **({"NextToken": str(page + 1)} if page + 1 < len(self.pages) else {})}


@pytest.mark.aws
async def test_a_replay_that_began_is_found_although_its_answer_was_lost(bus, fault_proxy, moto_server):
    archive, proxy = f"a{bus.name[-12:]}", await fault_proxy()
    await bus.archives.create(archive)
    async with AwsTransport(region=moto_server.region, endpoint_url=proxy.url) as flaky:
        archives = flaky.bus(bus.name).archives
        proxy.once("dropped_after", "StartReplay")
        status = await archives.start_replay("began-" + archive, archive=archive, start=1.0, end=2.0)
        assert status.name == "began-" + archive
        proxy.once("dropped_before", "StartReplay")
        with pytest.raises(ConnectionLost):
            await archives.start_replay("not-" + archive, archive=archive, start=1.0, end=2.0)
    assert proxy.calls["StartReplay"] == 2, "nothing is begun twice"


@pytest.mark.aws
async def test_a_pattern_given_to_a_subscription_narrows_it_further(bus, harness):
    """It sees what the rule's pattern sees, the attributes in the envelope included."""
    await harness.rule(bus, "all")
    pattern = EventPattern({"detail": {"n": [{"numeric": ["<", 3]}], "eip": {"attrs": {"kind": ["a"]}}}})
    narrow = bus.subscription("all", pattern=pattern)
    await bus.send(
        sold(1, attributes={"kind": "b"}), sold(2, attributes={"kind": "a"}), sold(3, attributes={"kind": "a"})
    )
    async with narrow.receiver() as receiver:
        assert [each.id for each in await harness.take_and_ack(receiver, 1)] == ["m2"]
        await harness.assert_quiet(receiver)


@pytest.mark.aws
async def test_replays_that_cannot_be_are_refused(aws, bus, harness):
    archive, other = f"a{bus.name[-12:]}", await harness.bus()
    await bus.archives.create(archive)
    window = {"start": 1.0, "end": 2.0}
    with pytest.raises(ConfigurationError, match="must be before"):
        await bus.archives.start_replay("r", archive=archive, start=2.0, end=2.0)
    with pytest.raises(ConfigurationError, match="does not exist"):
        await bus.archives.start_replay("r", archive="unknown", **window)
    with pytest.raises(ConfigurationError, match="Cross event bus"):
        await other.archives.start_replay("r", archive=archive, **window)
    with pytest.raises(ChannelNotFound):
        await bus.archives.describe_replay("r" + archive)
    await bus.archives.start_replay("r" + archive, archive=archive, **window)
    with pytest.raises(Conflict, match="already exists"):
        await bus.archives.start_replay("r" + archive, archive=archive, **window)


@pytest.mark.aws
async def test_what_the_service_finds_wrong_with_a_pattern_is_an_invalid_pattern(aws, bus):
    with pytest.raises(InvalidPattern):
        await aws._client.call("events", "PutRule", Name="r", EventBusName=bus.name, EventPattern="{")


@pytest.mark.aws
async def test_a_bus_that_is_not_there_is_told(aws):
    with pytest.raises(ChannelNotFound):
        await aws.bus("nowhere").send(sold(1))


# What moto does otherwise than EventBridge, on the other emulator.


@pytest.fixture
async def second_bus(second_harness):
    return await second_harness.bus()


@pytest.mark.aws
async def test_a_target_gets_its_input(second_aws, second_bus, second_harness):
    aws, bus, harness = second_aws, second_bus, second_harness
    queue = await harness.queue()
    target = TargetSpec(queue=queue.name, input_path="$.detail.n")
    declared = QueueSpec(queue.name, visibility=harness.lease, dead_letters=False)
    await Topology(BusSpec(bus.name), declared, RuleSpec(bus.name, "r", None, (target,))).apply(aws)
    await bus.send(sold(1))
    async with queue.receiver() as receiver:
        (message,) = await harness.take_and_ack(receiver)
    assert message.body == 1


@pytest.mark.aws
async def test_a_disabled_rule_delivers_nothing(second_aws, second_bus, second_harness):
    aws, bus, harness = second_aws, second_bus, second_harness
    await Topology(BusSpec(bus.name), RuleSpec(bus.name, "off", enabled=False)).apply(aws)
    await bus.send(sold(1))
    async with bus.subscription("off").receiver() as receiver:
        await harness.assert_quiet(receiver)


@pytest.mark.aws
async def test_a_replay_keeps_to_its_window(second_bus, second_harness):
    bus, harness = second_bus, second_harness
    rule, archive = await harness.rule(bus, "all"), f"a{bus.name[-12:]}"
    await bus.archives.create(archive)
    await bus.send(sold(1))
    async with rule.receiver() as receiver:
        await harness.take_and_ack(receiver)
        await bus.archives.start_replay(f"r{archive}", archive=archive, start=1.0, end=2.0)
        await harness.assert_quiet(receiver)


@pytest.mark.aws
async def test_a_replay_tells_the_service_its_rules(second_aws, second_bus, ministack):
    """No emulator replays to some rules only: compare what the service was given."""
    bus, archive = second_bus, f"b{second_bus.name[-12:]}"
    await bus.archives.create(archive)
    status = await bus.archives.start_replay("r" + archive, archive=archive, start=1.0, end=2.0, rules=["other"])
    assert status.rules == ("other",)
    found = ministack.client("events").describe_replay(ReplayName="r" + archive)
    assert found["Destination"]["FilterArns"] == [second_aws._arns.rule(bus.name, "other")]


async def test_a_bus_that_another_process_makes_at_the_same_time_is_there():
    """Two applications that start together: both find no bus, and both make it."""

    class Raced:
        calls = 0

        async def call(self, _: str, operation: str, **__: object) -> None:
            self.calls += 1
            raise ChannelNotFound("none") if operation == "DescribeEventBus" else Conflict("there is one")

    client = Raced()
    arns = Arns("aws", "eu-central-1", "1" * 12)
    step = await provision_bus(client, arns, BusSpec("shop"), apply=True)  # type: ignore[arg-type]
    assert (step.action, client.calls) == ("create", 2)
