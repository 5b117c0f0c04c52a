"""The embedded bus: rules, targets, inputs, what cannot be delivered; the reference for what moto does otherwise."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from eip import Message, SequenceInfo
from eip.codec import load_json
from eip.errors import ConfigurationError, ConnectionLost, InvalidMessage, MessageTooLarge
from eip.matching import EventPattern, FilterPolicy
from eip.patterns.redrive import redrive
from eip.telemetry.meter import UsageMeter
from eip.testing import FaultPlan
from eip.topology import QueueSpec, RuleSpec, TargetSpec
from eip.transports._event_format import SentEvent, entry_of, message_of, sent_event
from eip.transports.memory import MemoryTransport
from eip.transports.memory._targets import Targets
from eip.transports.memory.queue import MemoryQueue

SOLD = EventPattern({"detail-type": ["Sold"]})

OF_A_SERVICE = {
    "version": "0",
    "id": "6a7e8feb",
    "detail-type": "Object Created",
    "source": "aws.s3",
    "account": "111122223333",
    "time": "2026-11-12T00:00:00Z",
    "region": "ca-central-1",
    "resources": ["arn:aws:s3:::bucket"],
    "detail": {"bucket": {"name": "bucket"}, "size": 5},
}


@pytest.fixture
async def memory():
    async with MemoryTransport() as transport:
        yield transport


def sold(number, **envelope):
    return Message({"n": number}, type="Sold", source="shop", id=f"m{number}", **envelope)


def numbers(queue):
    return [message.body["n"] for message in queue.messages()]


def with_targets(memory, *targets, pattern=None, **options):
    """A rule of the bus with these targets; the queues they name are there."""
    for target in targets:
        for name in (target.queue, target.dead_letters):
            if name:
                memory.queue(name)
    memory.bus().put_rule(RuleSpec("default", "r", pattern, targets, dead_letters=False, **options))
    return memory.bus()


async def test_patterns_see_the_event_as_on_the_service(memory):
    bus = memory.bus()
    seen = {
        "region": {"region": ["memory"], "account": ["000000000000"]},
        "time": {"time": [{"prefix": "2026-01-01T00:00:0"}]},
        "envelope": {"detail": {"eip": {"attrs": {"kind": ["a"]}}}},
        "original": {"replay-name": [{"exists": False}]},
        "not": {"detail": {"n": [{"numeric": [">", 1]}]}},
    }
    queues = {name: bus.subscription(name, pattern=EventPattern(pattern)) for name, pattern in seen.items()}
    await bus.send(sold(1, attributes={"kind": "a"}))
    assert {name: len(queue) for name, queue in queues.items()} == {
        "region": 1,
        "time": 1,
        "envelope": 1,
        "original": 1,
        "not": 0,
    }


@pytest.fixture
def asked(monkeypatch):
    """The fields that events were asked for, in order."""
    names: list[str] = []
    make = SentEvent.__getitem__

    def noted(event, name):
        names.append(name)
        return make(event, name)

    monkeypatch.setattr(SentEvent, "__getitem__", noted)
    return names


@pytest.fixture
def parsed(monkeypatch):
    """The details that were parsed."""
    details: list[bytes] = []

    def noted(raw):
        details.append(raw)
        return load_json(raw)

    monkeypatch.setattr(sent_event, "load_json", noted)
    return details


@pytest.mark.parametrize("more", [0, 10], ids=["one rule", "many rules"])
async def test_an_event_is_made_only_as_far_as_rules_and_messages_ask(memory, asked, parsed, more):
    bus = memory.bus()
    every, some = bus.subscription("every"), bus.subscription("some", pattern=SOLD)
    for number in range(more):
        bus.subscription(str(number), pattern=EventPattern({"source": [f"other {number}"]}))
    await bus.send(sold(1, attributes={"kind": "a"}))
    assert numbers(every) == numbers(some) == [1]
    assert set(asked) == {"detail-type", "id", "account", "region", "time"} | ({"source"} if more else set())
    assert parsed == []


async def test_a_detail_is_parsed_once_for_all_who_look_into_it(memory, parsed):
    bus = with_targets(memory, TargetSpec(queue="whole"), TargetSpec(queue="part", input_path="$.detail.n"))
    await bus.archives.create("kept", pattern=EventPattern({"detail": {"n": [1]}}))
    for name in "abcdefgh":
        bus.subscription(name, pattern=EventPattern({"detail": {"n": [{"numeric": ["<", 9]}]}}))
    await bus.send(sold(1))
    assert numbers(memory.queue("default-a")) == [1]
    assert memory.queue("part").messages()[0].body == 1
    assert len(parsed) == 1


async def test_predicates_share_no_body_with_each_other_and_with_targets(memory):
    bus, seen = memory.bus(), []

    def changes(message):
        seen.append(message.body["n"])
        message.body["n"] = "changed"
        return True

    one, two = bus.subscription("one", pattern=changes), bus.subscription("two", pattern=changes)
    await bus.send(sold(1))
    assert (seen, numbers(one), numbers(two)) == ([1, 1], [1], [1])


async def test_predicates_and_policies_on_attributes_are_evaluated_on_the_message(memory):
    bus = memory.bus()
    a = bus.subscription("a", pattern=FilterPolicy({"kind": ["a"]}))
    odd = bus.subscription("odd", pattern=lambda message: message.body["n"] % 2 == 1)
    await bus.send(sold(1, attributes={"kind": "b"}), sold(2, attributes={"kind": "a"}))
    assert (numbers(a), numbers(odd)) == ([2], [1])


async def test_an_event_of_a_service_is_consumed(memory):
    bus = memory.bus()
    queue = bus.subscription("objects", pattern=EventPattern({"source": ["aws.s3"]}))
    await bus.put_event(OF_A_SERVICE)
    (message,) = queue.messages()
    assert (message.id, message.type, message.body) == ("6a7e8feb", "Object Created", OF_A_SERVICE["detail"])
    assert message.headers["event-account"] == "111122223333"
    for missing in ("source", "detail-type", "detail"):
        with pytest.raises(ConfigurationError):
            await bus.put_event({**OF_A_SERVICE, missing: None})


async def test_consumers_share_nothing(memory):
    bus = memory.bus()
    one, two = bus.subscription("one"), bus.subscription("two")
    await bus.send(Message({"items": [1]}, type="T", source="s"))
    one.messages()[0].body["items"].append(2)
    assert two.messages()[0].body == {"items": [1]}


async def test_what_is_no_event_reaches_nobody(memory):
    bus = memory.bus()
    queue = bus.subscription("all")
    no_events: list[Message] = [
        Message([1], type="T", source="s"),
        Message({}),
        Message({"eip": 1}, type="T", source="s"),
    ]
    for wrong in no_events:
        with pytest.raises(InvalidMessage):
            await bus.send(sold(1), wrong)
    with pytest.raises(MessageTooLarge):
        await bus.send(sold(1), Message({"x": "x" * 1024 * 1024}, type="T", source="s"))
    assert len(queue) == 0


async def test_a_target_gets_what_its_input_makes_of_the_event(memory):
    bus = with_targets(
        memory,
        TargetSpec(queue="event"),
        TargetSpec(queue="constant", input='{"hello": "you"}'),
        TargetSpec(queue="part", input_path="$.detail.n"),
        TargetSpec(
            queue="object",
            template='{"number": <n>, "rule": "<aws.events.rule-name>"}',
            input_paths={"n": "$.detail.n"},
        ),
        TargetSpec(queue="text", template='"<type> happened"', input_paths={"type": "$.detail-type"}),
    )
    await bus.send(sold(1))
    bodies = {name: memory.queue(name).messages()[0].body for name in ("event", "constant", "part", "object", "text")}
    assert bodies == {
        "event": {"n": 1},
        "constant": {"hello": "you"},
        "part": 1,
        "object": {"number": 1, "rule": "r"},
        "text": "Sold happened",
    }
    assert memory.queue("part").messages()[0].type is None, "no envelope: the text is all that the target gets"


async def test_a_template_that_gives_no_json_drops_the_event(memory):
    """As on the service, where it vanishes without a trace; here it is logged."""
    bus = with_targets(
        memory,
        TargetSpec(queue="q", template='{"d": "<detail>"}', input_paths={"detail": "$.detail"}, dead_letters="dead"),
    )
    with capture_logs() as logs:
        await bus.send(sold(1))
    assert len(memory.queue("q")) == len(memory.queue("dead")) == 0
    assert [each["event"] for each in logs] == ["event_dropped"]


async def test_a_disabled_rule_delivers_nothing(memory):
    bus = with_targets(memory, TargetSpec(queue="q"), enabled=False)
    await bus.send(sold(1))
    assert len(memory.queue("q")) == 0


async def test_a_topic_filters_the_events_text_and_has_no_attributes(memory):
    """SNS gets the event as the message's text: policies on attributes let nothing through, those on the body do."""
    topic = memory.topic("t")
    every = topic.subscription("every")
    attributes = topic.subscription("attributes", filter=FilterPolicy({"kind": ["a"]}))
    body = topic.subscription("body", filter=FilterPolicy({"detail": {"n": [1]}}, scope="MessageBody"))
    await with_targets(memory, TargetSpec(topic="t")).send(sold(1, attributes={"kind": "a"}), sold(2))
    assert (numbers(every), numbers(attributes), numbers(body)) == ([1, 2], [], [1])
    assert dict(every.messages()[0].attributes) == {"kind": "a"}


async def test_a_fifo_queue_drops_only_what_is_the_same_to_the_letter(memory):
    """Two events differ by their ids; two inputs that a template made alike do not."""
    bus = with_targets(
        memory,
        TargetSpec(queue="events.fifo", group_id="g"),
        TargetSpec(queue="inputs.fifo", group_id="g", input='{"n": 5}'),
    )
    await bus.send(sold(1), sold(1))
    assert (numbers(memory.queue("events.fifo")), numbers(memory.queue("inputs.fifo"))) == ([1, 1], [5])


async def test_a_stream_gets_events_by_partition_key(memory):
    stream = memory.stream("clicks")
    group = stream.group("g")
    bus = with_targets(memory, TargetSpec(stream="clicks", role="arn:aws:iam::1:role/r", partition_key="$.detail.who"))
    await bus.send(*(Message({"who": who, "n": n}, type="T", source="s") for n in range(3) for who in "ab"))
    async with group.receiver() as receiver:
        got: list[Message] = []
        while len(got) < 6:
            for each in await receiver.receive(10):
                got.append(each.message)
                await each.ack()
    assert [each.body["n"] for each in got if each.group_id == "a"] == [0, 1, 2]
    assert {each.group_id for each in got} == {"a", "b"}


async def test_a_forwarded_event_keeps_what_it_is_and_is_not_forwarded_again(memory):
    """To a third bus, or back: EventBridge routes no event on that another bus sent."""
    one, two, three = memory.bus("one"), memory.bus("two"), memory.bus("three")
    one.put_rule(RuleSpec("one", "out", None, (TargetSpec(bus="two"),)))
    two.put_rule(RuleSpec("two", "on", None, (TargetSpec(bus="three"), TargetSpec(bus="one"))))
    got, first, third = two.subscription("got"), one.subscription("got"), three.subscription("got")
    with capture_logs() as logs:
        await one.put_event({**OF_A_SERVICE, "replay-name": "again"})
    (message,) = got.messages()
    assert message.replay_name == "again"
    assert message.headers["event-time"] == OF_A_SERVICE["time"]
    assert (len(first), len(third)) == (1, 0)
    assert [each["event"] for each in logs] == ["event_dropped"] * 2


async def test_a_target_that_is_not_there_goes_to_the_dead_letter_queue_at_once(memory):
    bus = with_targets(memory, TargetSpec(topic="gone", dead_letters="dead"))
    await bus.send(sold(1))
    (message,) = memory.queue("dead").messages()
    assert (message.body, message.type) == ({"n": 1}, "Sold")
    assert message.headers["dead-letter-reason"] == "NO_RESOURCE: there is no topic gone"
    assert message.headers["dead-letter-source"] == "r"


async def test_what_could_not_be_delivered_is_redriven(memory):
    bus = with_targets(memory, TargetSpec(topic="gone", dead_letters="dead"))
    await bus.send(sold(1, attributes={"kind": "a"}))
    progress = await redrive(memory.queue("dead"), memory.queue("q"))
    assert (progress.moved, len(memory.queue("dead"))) == (1, 0)
    (message,) = memory.queue("q").messages()
    assert (message.body, message.type, dict(message.attributes)) == ({"n": 1}, "Sold", {"kind": "a"})
    assert "dead-letter-reason" not in message.headers


async def test_without_a_dead_letter_queue_it_is_logged_and_the_others_get_theirs(memory):
    bus = with_targets(memory, TargetSpec(topic="gone"), TargetSpec(queue="q"))
    with capture_logs() as logs:
        await bus.send(sold(1))
    assert numbers(memory.queue("q")) == [1]
    assert [each["event"] for each in logs] == ["event_not_delivered"]


async def test_a_predicate_that_fails_stops_no_other_rule(memory):
    bus, dead = memory.bus(), memory.queue("dead")
    broken = bus.subscription("broken", pattern=lambda message: message.body["missing"], dead_letters=dead)
    fine = bus.subscription("fine")
    await bus.send(sold(1))
    assert (len(broken), numbers(fine), numbers(dead)) == (0, [1], [1])


class Shaky(MemoryTransport):
    """Its queue ``shaky`` fails as often as told."""

    def __init__(self):
        super().__init__()
        self.failures = 0
        self.tried = []

    def _find(self, kind, name):
        found = super()._find(kind, name)
        return _ShakyQueue(self, found) if found is not None and name == "shaky" else found


class _ShakyQueue:
    def __init__(self, owner, inner):
        self.owner, self.inner = owner, inner

    async def send(self, *messages):
        self.owner.tried.append(asyncio.get_running_loop().time())
        if self.owner.failures:
            self.owner.failures -= 1
            raise ConnectionLost("not now")
        await self.inner.send(*messages)


@pytest.fixture
async def shaky():
    async with Shaky() as transport:
        yield transport


async def test_a_delivery_that_fails_for_the_moment_is_tried_again_with_growing_pauses(shaky):
    bus = with_targets(shaky, TargetSpec(queue="shaky", dead_letters="dead"))
    shaky.failures = 3
    await bus.send(sold(1))
    async with shaky.queue("shaky").receiver() as receiver:
        (got,) = await receiver.receive(1, wait=60)
        assert got.message.body == {"n": 1}
    assert len(shaky.tried) == 4
    assert len(shaky.queue("dead")) == 0


@pytest.mark.parametrize("limit", [{"max_attempts": 2}, {"max_age": timedelta(minutes=1)}])
async def test_retries_end_by_number_and_by_age(shaky, limit):
    bus = with_targets(shaky, TargetSpec(queue="shaky", dead_letters="dead", **limit))
    shaky.failures = 1000
    await bus.send(sold(1))
    async with shaky.queue("dead").receiver() as receiver:
        (got,) = await receiver.receive(1, wait=120)
    assert got.message.headers["dead-letter-reason"] == "ERROR_FROM_TARGET: not now"
    assert shaky.tried[-1] <= 60
    if "max_attempts" in limit:
        assert len(shaky.tried) == 3


async def test_a_retry_that_finds_the_target_gone_gives_up(shaky):
    bus = with_targets(shaky, TargetSpec(queue="shaky", dead_letters="dead"))
    shaky.failures = 1
    await bus.send(sold(1))
    del shaky._channels["queue/shaky"]
    async with shaky.queue("dead").receiver() as receiver:
        (got,) = await receiver.receive(1, wait=120)
    assert got.message.headers["dead-letter-reason"].startswith("NO_RESOURCE")
    assert got.message.headers["dead-letter-count"] == "1"


async def test_closing_ends_what_is_retried():
    async with Shaky() as shaky:
        bus = with_targets(shaky, TargetSpec(queue="shaky"))
        shaky.failures = 1000
        await bus.send(sold(1))
    assert len([task for task in asyncio.all_tasks() if "retry" in task.get_name()]) == 0


async def test_an_event_for_a_queue_with_room_waits_for_nothing(memory, monkeypatch):
    """No coroutine of the queue and of the delivery: an event passes them more often than anything else."""
    bus = memory.bus()
    queue = bus.subscription("s")
    for channel, name in ((MemoryQueue, "send"), (Targets, "_send")):
        monkeypatch.setattr(channel, name, None)
    await bus.send(sold(1), sold(2))
    assert numbers(queue) == [1, 2]


async def test_what_a_bus_puts_into_a_queue_is_metered_and_deduplicated_there():
    meter = UsageMeter()
    async with MemoryTransport(meter=meter) as memory:
        queue = memory.queue("r", fifo=True)
        memory.bus().put_rule(RuleSpec("default", "r", None, (TargetSpec(queue="r"),), dead_letters=False))
        await memory.bus().send(sold(1, group_id="g"), sold(1, group_id="g"), sold(2, group_id="g"))
        assert numbers(queue) == [1, 2]
    (usage,) = [usage for call, usage in meter.usage().items() if call.channel == "r"]
    assert (usage.calls, usage.messages) == (3, 3)


async def test_a_full_queue_holds_the_publisher(memory):
    memory.queue("q", capacity=1)
    bus = with_targets(memory, TargetSpec(queue="q"))
    sending = asyncio.create_task(bus.send(sold(1), sold(2)))
    async with memory.queue("q").receiver() as receiver:
        for number in (1, 2):
            (got,) = await receiver.receive(1)
            assert got.message.body["n"] == number
            await got.ack()
    await sending


async def test_rules_are_changed_and_removed(memory):
    bus = with_targets(memory, TargetSpec(queue="q"), TargetSpec(queue="p"), pattern=SOLD)
    bus.put_rule(
        RuleSpec("default", "r", EventPattern({"detail-type": ["Lost"]}), (TargetSpec(queue="q"),), dead_letters=False)
    )
    assert set(bus.targets("r")) == {"queue-q", "queue-p"}, "targets that it had besides stay"
    bus.remove_target("r", "queue-p")
    await bus.send(sold(1), Message({"n": 2}, type="Lost", source="shop"))
    assert (numbers(memory.queue("q")), numbers(memory.queue("p"))) == ([2], [])
    bus.remove_rule("r")
    await bus.send(Message({"n": 3}, type="Lost", source="shop"))
    assert numbers(memory.queue("q")) == [2]
    assert bus.rules == {}


async def test_a_subscription_can_be_asked_for_again_but_not_made_another(memory):
    bus = memory.bus()
    queue = bus.subscription("s", pattern=SOLD)
    assert bus.subscription("s") is queue
    assert bus.subscription("s", pattern=EventPattern({"detail-type": ["Sold"]})) is queue
    with pytest.raises(ConfigurationError, match="exists"):
        bus.subscription("s", pattern=EventPattern({"source": ["x"]}))
    bus.put_rule(RuleSpec("default", "t", None, (TargetSpec(queue="q"),)))
    with pytest.raises(ConfigurationError, match="targets of its own"):
        bus.subscription("t")
    with pytest.raises(ConfigurationError, match="for the bus default"):
        bus.put_rule(RuleSpec("other", "r"))
    bus.put_rule(RuleSpec("default", "named", queue=QueueSpec("elsewhere")))
    assert bus.subscription("named").name == "elsewhere"


async def test_the_meter_is_told_the_bytes_of_the_entries():
    meter = UsageMeter()
    async with MemoryTransport(meter=meter) as memory:
        await memory.bus("b").send(sold(1), sold(2))
    (usage,) = [usage for call, usage in meter.usage().items() if call.channel == "b"]
    assert (usage.messages, usage.calls) == (2, 1)
    assert usage.size > 2 * len('{"n":1}')


async def test_a_bus_has_faults_too(memory):
    plan = FaultPlan(seed=3, send_failures=0.5)
    bus = plan.wrap(memory).bus()
    queue = memory.bus().subscription("all")
    failed = 0
    for number in range(40):
        try:
            await bus.send(sold(number))
        except ConnectionLost:
            failed += 1
    assert 0 < failed < 40
    assert 40 - failed <= len(queue) <= 40
    assert json.loads(queue.messages()[0].encode())["n"] >= 0


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"headers": {"history": "a b", "event-id": "theirs"}, "attributes": {"n": 7, "list": ["x", 1], "on": True}},
        {
            "correlation_id": "é c",
            "group_id": "g",
            "deduplication_id": "d",
            "return_address": "memory:queue/x",
            "sequence": SequenceInfo("s", 1, 2),
            "created_at": 1_764_000_000.123456789,
            "expires_at": 1_864_000_000.5,
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "extensions": {"later": [1, {"x": None}]},
        },
    ],
    ids=["plain", "headers and attributes", "all fields"],
)
def test_a_message_that_a_bus_hands_on_is_the_one_that_its_event_reads_as(fields: dict[str, Any]):
    message = Message({"number": 1.5, "text": "é"}, type="T", source="test", **fields)
    event = SentEvent(message, entry_of(message, channel="bus"), id="e-1", account="0", region="memory")
    sent, error = message_of(event)
    assert error is None
    assert (sent, None) == message_of(dict(event))
    assert sent.encode() == message_of(dict(event))[0].encode()
