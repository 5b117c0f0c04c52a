"""EventBridge Scheduler: declared schedules and groups, and messages that the service sends at their time."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from eip import Message
from eip.errors import ConfigurationError, InvalidMessage
from eip.patterns import MessageScheduler
from eip.stores import MemoryStore
from eip.topology import BusSpec, QueueSpec, RuleSpec, TargetSpec, TopicSpec, Topology
from eip.transports.aws import AwsTransport, ScheduleGroupSpec, ScheduleSpec
from eip.transports.aws.cloudformation import template
from eip.transports.aws.scheduler import provisioning
from eip.transports.aws.scheduler._expressions import cron_expression, rate_expression
from eip.transports.memory import MemoryTransport
from tests.transports.aws.test_bus_topology import differing, emulator
from tests.transports.aws.test_cloudformation import findings

__all__ = ["emulator"]

pytestmark = pytest.mark.aws


@pytest.fixture
async def aws(emulator):
    async with AwsTransport(
        region=emulator.region, session=emulator.session, endpoint_url=emulator.url, long_poll=1.0
    ) as aws:
        yield aws


@pytest.fixture
def name():
    return f"s{uuid4().hex[:8]}"


def every_schedule(name: str, **options: Any) -> Topology:
    return Topology(
        QueueSpec(name),
        QueueSpec(f"{name}.fifo", content_based_deduplication=True),
        TopicSpec(name),
        BusSpec(name),
        ScheduleGroupSpec(name, tags={"team": "shop"}, sends_to=(TargetSpec(queue=name), TargetSpec(topic=name))),
        ScheduleSpec(
            "fifo",
            "rate(5 minutes)",
            TargetSpec(queue=f"{name}.fifo", group_id="g", input='{"n": 1}', dead_letters=f"{name}-dead"),
            group=name,
            window=timedelta(minutes=2),
            **options,
        ),
        ScheduleSpec("topic", "cron(0 3 ? * MON *)", TargetSpec(topic=name), group=name, timezone="Europe/Berlin"),
        ScheduleSpec(
            "event",
            "at(2030-01-01T00:00:00)",
            TargetSpec(bus=name),
            group=name,
            source="shop",
            detail_type="Closed",
            input='{"n": 1}',
            start=datetime(2029, 1, 1, tzinfo=UTC),
        ),
        ScheduleSpec("run", "rate(1 day)", TargetSpec(state_machine="orders", input="{}"), group=name),
    )


async def test_schedules_are_made_compared_changed_and_ended(aws, emulator, name):
    declared = every_schedule(name)
    plan = await declared.plan(aws)
    assert {each.action for each in plan.steps} == {"create"}
    assert (await declared.apply(aws)).steps == plan.steps
    assert differing(await declared.plan(aws)) == []
    scheduler, iam = emulator.client("scheduler"), emulator.client("iam")
    found = scheduler.get_schedule(Name="fifo", GroupName=name)
    assert found["Target"]["SqsParameters"] == {"MessageGroupId": "g"}
    role = found["Target"]["RoleArn"].rpartition("/")[2]
    (may,) = iam.get_role_policy(RoleName=role, PolicyName="eip")["PolicyDocument"]["Statement"]
    assert may["Action"] == ["sqs:SendMessage"]
    assert {each.rpartition(":")[2] for each in may["Resource"]} == {f"{name}.fifo", f"{name}-dead"}
    (trusted,) = iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]["Statement"]
    assert trusted["Principal"] == {"Service": "scheduler.amazonaws.com"}
    assert trusted["Condition"]["ArnLike"]["aws:SourceArn"].endswith(f":schedule-group/{name}")
    changed = every_schedule(name, enabled=False, description="paused")
    (step,) = (await changed.plan(aws))["change"]
    assert step.detail == "State: ENABLED -> DISABLED, Description: none -> paused"
    await changed.apply(aws)
    assert differing(await changed.plan(aws)) == []
    fewer = Topology(ScheduleGroupSpec(name, tags={"team": "sales"}))
    plan = await fewer.apply(aws)
    assert {each.name for each in plan["drift"]} == {f"{name} > {each}" for each in ("fifo", "topic", "event", "run")}
    assert [each.detail for each in plan["change"]] == ["tag team: shop -> sales"]
    await fewer.apply(aws, delete=True)
    assert differing(await fewer.plan(aws)) == []
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_role(RoleName=role)


async def test_a_role_that_is_not_known_everywhere_yet_is_waited_for(monkeypatch):
    """IAM says so by a failed validation; no emulator does."""
    waits: list[float] = []

    async def sleep(delay: float) -> None:
        waits.append(delay)

    class Late:
        calls = 0

        async def call(self, *_: str, **__: object) -> dict[str, Any]:
            self.calls += 1
            if self.calls < 3:
                raise ConfigurationError(
                    "The execution role you provide must allow AWS EventBridge Scheduler to assume"
                )
            return {}

    monkeypatch.setattr(asyncio, "sleep", sleep)
    late, schedule = Late(), ScheduleSpec("s", "rate(1 day)", TargetSpec(queue="q"))
    await provisioning._call_when_role_is_known(late, "CreateSchedule", schedule, {})  # type: ignore[arg-type]
    assert (late.calls, len(waits)) == (3, 2)


# Messages.


def carry_out(emulator: Any, name: str, *, group: str = "default") -> str:
    """What EventBridge Scheduler does at a schedule's time: no emulator has universal targets."""
    found = emulator.client("scheduler").get_schedule(Name=name, GroupName=group)
    text = found["Target"]["Input"].replace("<aws.scheduler.scheduled-time>", "2030-01-01T00:00:00Z")
    service, _, operation = found["Target"]["Arn"].rpartition("aws-sdk:")[2].partition(":")
    client = emulator.client({"eventbridge": "events"}.get(service, service))
    operations = {"sendMessage": "send_message", "publish": "publish", "putEvents": "put_events"}
    getattr(client, operations[operation])(**json.loads(text))
    return str(found["ScheduleExpression"])


def names(emulator: Any, group: str) -> list[str]:
    return [each["Name"] for each in emulator.client("scheduler").list_schedules(GroupName=group)["Schedules"]]


async def received(source: Any) -> Message[Any]:
    async with source.receiver() as receiver:
        (found,) = await receiver.receive(1, wait=5)
        await found.ack()
        message: Message[Any] = found.message
        return message


async def scheduler_of(aws: AwsTransport, name: str) -> MessageScheduler:
    await Topology(
        ScheduleGroupSpec(name, sends_to=(TargetSpec(queue=name),)),
        QueueSpec(name),
        QueueSpec(f"{name}.fifo"),
        TopicSpec(name),
        BusSpec(name),
        RuleSpec(name, "all", queue=QueueSpec(f"{name}-all")),
    ).apply(aws)
    channels = {
        "queue": aws.queue(name),
        "fifo": aws.queue(f"{name}.fifo"),
        "topic": aws.topic(name),
        "bus": aws.bus(name),
    }
    return MessageScheduler(MemoryStore(), channels, schedules=aws.schedules(name))


async def test_a_message_is_sent_by_the_service_as_it_would_be_at_once(aws, emulator, name):
    scheduler = await scheduler_of(aws, name)
    message = Message({"n": 1}, type="Late", attributes={"kind": "a", "price": 1.5}, correlation_id="c")
    key = await scheduler.send(message, to="queue", at=datetime(2030, 1, 1, tzinfo=UTC), native=True)
    held = await scheduler.get(key)
    assert held is not None
    assert held.native
    (schedule,) = names(emulator, name)
    assert carry_out(emulator, schedule, group=name) == "at(2030-01-01T00:00:00)"
    found = await received(aws.queue(name))
    assert (found.id, found.body, found.type, found.correlation_id) == (message.id, {"n": 1}, "Late", "c")
    assert dict(found.attributes) == {"kind": "a", "price": 1.5}
    (role,) = {emulator.client("scheduler").get_schedule(Name=schedule, GroupName=name)["Target"]["RoleArn"]}
    made = role.rpartition("/")[2]
    (may,) = emulator.client("iam").get_role_policy(RoleName=made, PolicyName="eip")["PolicyDocument"]["Statement"]
    assert may["Resource"] == [aws.queue(name).address], "the role of the group's messages"


async def test_a_repeated_message_has_an_id_for_each_sending_on_a_fifo_queue_too(aws, emulator, name):
    scheduler = await scheduler_of(aws, name)
    message = Message("tick", group_id="clock")
    await scheduler.send(message, to="fifo", interval=3600, key="hourly", native=True)
    (schedule,) = names(emulator, name)
    first = emulator.client("scheduler").get_schedule(Name=schedule, GroupName=name)["StartDate"]
    await scheduler.send(message, to="fifo", interval=3600, key="hourly", native=True)  # each process declares it
    again = emulator.client("scheduler").get_schedule(Name=schedule, GroupName=name)["StartDate"]
    assert first == again, "its next time stays"
    assert carry_out(emulator, schedule, group=name) == "rate(1 hour)"
    found = await received(aws.queue(f"{name}.fifo"))
    assert (found.body, found.group_id) == ("tick", "clock")
    assert found.id.endswith(".2030-01-01T00:00:00Z")
    assert found.deduplication_id == found.id


async def test_topics_and_buses_get_scheduled_messages(aws, emulator, name):
    scheduler = await scheduler_of(aws, name)
    await scheduler.send(Message({"n": 1}, type="T", source="shop"), to="topic", delay=3600, key="t", native=True)
    await scheduler.send(Message({"n": 2}, type="T", source="shop"), to="bus", cron="0 3 * * *", key="b", native=True)
    expressions = {carry_out(emulator, schedule, group=name) for schedule in names(emulator, name)}
    assert "cron(0 3 * * ? *)" in expressions
    assert (await received(aws.queue(f"{name}-all"))).body == {"n": 2}


async def test_a_scheduled_message_is_moved_replaced_and_cancelled(aws, emulator, name):
    scheduler = await scheduler_of(aws, name)
    await scheduler.send(Message(1), to="queue", delay=3600, key="k", native=True)
    assert await scheduler.move("k", at=datetime(2031, 1, 1, tzinfo=UTC))
    (schedule,) = names(emulator, name)
    assert carry_out(emulator, schedule, group=name) == "at(2031-01-01T00:00:00)"
    await scheduler.send(Message(2), to="queue", delay=3600, key="k")
    assert names(emulator, name) == [], "the store's from now on"
    await scheduler.send(Message(3), to="queue", delay=3600, key="k", native=True)
    assert await scheduler.cancel("k")
    assert not await scheduler.cancel("k")
    assert names(emulator, name) == []
    assert await scheduler.get("k") is None
    declared = Topology(ScheduleGroupSpec(name))
    await scheduler.send(Message(4), to="queue", delay=3600, native=True)
    assert (await declared.plan(aws))["drift"] == (), "a program's message is nobody's drift"


async def test_what_the_service_cannot_do_is_refused_and_nothing_is_kept(aws, emulator, name):
    scheduler = await scheduler_of(aws, name)
    cases: list[tuple[Message[Any], dict[str, Any], type[Exception], str]] = [
        (Message(1), {"interval": 90}, ConfigurationError, "whole minutes"),
        (Message(1), {"cron": "0 3 1 * mon"}, ConfigurationError, "days of the month and of the week"),
        (Message(1, attributes={"b": b"x"}), {"delay": 60}, InvalidMessage, "attribute 'b' must be a text"),
        (Message("x" * 270_000), {"delay": 60}, InvalidMessage, "at most 262,144 bytes"),
        (Message("<aws.scheduler.execution-id>"), {"delay": 60}, InvalidMessage, "must not contain"),
        (Message(1, expires_at=2e9), {"interval": 60}, InvalidMessage, "must not expire"),
    ]
    for message, when, kind, complaint in cases:
        with pytest.raises(kind, match=complaint):
            await scheduler.send(message, to="queue", key="k", native=True, **when)
        assert await scheduler.get("k") is None
    assert names(emulator, name) == []
    async with MemoryTransport() as memory:
        other = MessageScheduler(MemoryStore(), {"q": memory.queue("q")}, schedules=aws.schedules(name))
        with pytest.raises(ConfigurationError, match="queues, topics and buses of AWS"):
            await other.send(Message(1), to="q", delay=60, native=True)


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 3 * * *", "cron(0 3 * * ? *)"),
        ("*/15 9-17 * * 1-5", "cron(*/15 9-17 ? * MON-FRI *)"),
        ("0 9 * * mon-fri", "cron(0 9 ? * mon-fri *)"),
        ("0 0 1 1 *", "cron(0 0 1 1 ? *)"),
        ("0 0 * * 0,7", "cron(0 0 ? * SUN,SUN *)"),
    ],
)
def test_cron_of_five_fields_becomes_one_of_six(cron, expected):
    assert cron_expression(cron) == expected


@pytest.mark.parametrize(
    ("interval", "expected"),
    [(60, "rate(1 minute)"), (120, "rate(2 minutes)"), (7200, "rate(2 hours)"), (86400.0, "rate(1 day)")],
)
def test_an_interval_becomes_a_rate(interval, expected):
    assert rate_expression(interval) == expected


def test_the_template_has_schedules():
    made = template(every_schedule("x"))
    assert findings(made) == []
    types = [each["Type"] for each in made["Resources"].values()]
    assert types.count("AWS::Scheduler::Schedule") == 4
    assert types.count("AWS::IAM::Role") == 5


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: ScheduleSpec("s", "every day", TargetSpec(queue="q")), "expression must be"),
        (lambda: ScheduleSpec("s", "rate(0 days)", TargetSpec(queue="q")), "expression must be"),
        (lambda: ScheduleSpec("no good", "rate(1 day)", TargetSpec(queue="q")), "name of a schedule"),
        (lambda: ScheduleSpec("eip-message-1", "rate(1 day)", TargetSpec(queue="q")), "must not begin with"),
        (lambda: ScheduleSpec("s", "rate(1 day)", TargetSpec(bus="b")), "source and detail_type"),
        (lambda: ScheduleSpec("s", "rate(1 day)", TargetSpec(stream="s")), "partition_key"),
        (lambda: ScheduleSpec("s", "rate(1 day)", TargetSpec(queue="q", input_path="$.a")), "no input_path"),
        (
            lambda: ScheduleSpec("s", "rate(1 day)", TargetSpec(queue="q"), window=timedelta(seconds=5)),
            "window must be whole minutes",
        ),
        (
            lambda: ScheduleSpec("s", "rate(1 day)", TargetSpec(queue="q"), start=datetime(2030, 1, 1)),  # noqa: DTZ001
            "start must have a time zone",
        ),
        (lambda: ScheduleGroupSpec("g", sends_to=(TargetSpec(function="f"),)), "sends_to must have"),
        (lambda: ScheduleGroupSpec(tags={"a": "b"}), "tags of the group default"),
    ],
)
def test_what_the_service_would_refuse_is_refused(make, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        make()
