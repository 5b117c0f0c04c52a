"""The verbs on applications and channels: output for people and pipes, exit codes, errors that say what to do."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from eip import Message
from eip.cli._common import console, errors, stderr
from eip.cli._tails import followed
from eip.cli._targets import Place
from eip.cli.app import app
from eip.errors import AccessDenied, ConfigurationError, ConnectionLost, StoreError, Throttled
from eip.topology import BusSpec, RuleSpec, StreamSpec, SubscriptionSpec, TopicSpec, Topology
from eip.transports.activemq import ActiveMQTransport
from eip.transports.aws import AwsTransport
from eip.transports.memory import MemoryTransport

APPS = "tests.cli.apps"


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    for each in (console, stderr):
        monkeypatch.setattr(each, "width", 200)


def ran(*arguments: str, stdin: str | None = None, **environment: str) -> Any:
    return CliRunner(env={"NO_COLOR": "1", **environment}).invoke(app, arguments, input=stdin)


def lines(result: Any) -> list[dict[str, Any]]:
    assert result.exit_code in (0, 1), result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


# Targets and errors.


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("describe", "--app", f"{APPS}:not_an_app"), 2, "must be an App"),
        (("describe", "--app", f"{APPS}:missing"), 2, "has no 'missing'"),
        (("describe", "--app", "nowhere.to.be:found"), 2, "there is no module"),
        (("describe", "--app", "tests.cli.apps"), 2, "must be module:attribute"),
        (("describe", "--app", f"{APPS}:broken"), 2, "it cannot be"),
        (("describe",), 2, "name a channel, or give --app"),
        (("peek", "q"), 2, "no other process can reach the memory transport"),
        (("peek", "q", "--transport", "carrier-pigeon"), 2, "EIP_TRANSPORT"),
        (("send", "q", "{nonsense", "--transport", "aws"), 2, "the body is no JSON"),
        (("send", "q", "{}", "-a", "novalue", "--transport", "aws"), 2, "an attribute is name=value"),
        (("topology", "plan", f"{APPS}:not_an_app"), 2, "must be a Topology or an App"),
        (("run", f"{APPS}:broken"), 2, "it cannot be"),
    ],
)
def test_what_cannot_be_is_said_in_a_line_with_exit_code_2(arguments, code, text):
    result = ran(*arguments)
    assert (result.exit_code, text in result.output) == (code, True), result.output


@pytest.mark.parametrize(
    ("error", "code", "hint"),
    [
        (ConnectionLost("away"), 3, "Check that the service can be reached"),
        (AccessDenied("no"), 3, "Check the credentials"),
        (Throttled("slow"), 3, "Wait a little"),
        (StoreError("away"), 3, ""),
        (ConfigurationError("no such option"), 2, ""),
        (KeyboardInterrupt(), 130, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_errors_have_an_exit_code_and_a_hint(error, code, hint, capsys):
    with pytest.raises(typer.Exit) as caught, errors():
        raise error
    assert caught.value.exit_code == code
    assert hint in capsys.readouterr().err


def test_completion_can_be_installed():
    assert "--install-completion" in ran("--help").output


def test_describe_shows_what_an_app_is_made_of():
    found = lines(ran("describe", "--app", f"{APPS}:make_app"))
    assert found[0]["channel"] == "queue cli-orders"
    assert found[0]["takes"] == "Order"
    assert found[1] == {"channel": "topic cli-events", "sends": "Order"}
    assert ran("describe", "--app", f"{APPS}:module_level").exit_code == 0


def test_topology_plan_and_drift_have_exit_code_1_while_it_is_not_in_force():
    result = ran("topology", "plan", f"{APPS}:make_app")
    assert result.exit_code == 1
    assert {"action": "create", "kind": "queue", "name": "cli-orders", "detail": ""} in lines(result)
    assert ran("topology", "drift", f"{APPS}:make_app").exit_code == 1
    applied = ran("topology", "apply", f"{APPS}:TOPOLOGY", "--transport", "memory")
    assert (applied.exit_code, "no other process can reach" in applied.output) == (2, True)


def test_topology_policy_names_what_a_process_may_do():
    place = ("--account", "123456789012", "--region", "eu-central-1")
    found = ran(
        "topology", "policy", f"{APPS}:TOPOLOGY", "--consumes", "queue:orders", "--uses", "topic:quotes", *place
    )
    statements = json.loads(found.stdout)["Statement"]
    assert "sqs:ReceiveMessage" in statements[0]["Action"]
    assert statements[1]["Resource"] == ["arn:aws:sns:eu-central-1:123456789012:quotes"]
    assert "must be kind:name" in ran("topology", "policy", f"{APPS}:TOPOLOGY", "--uses", "orders", *place).stderr


def test_topology_export_can_be_a_template_for_sam():
    found = json.loads(ran("topology", "export", f"{APPS}:TOPOLOGY", "--format", "sam").stdout)
    assert found["Transform"] == "AWS::Serverless-2016-10-31"


def test_topology_export_is_a_cloudformation_template():
    found = json.loads(ran("topology", "export", f"{APPS}:TOPOLOGY").stdout)
    assert {each["Type"] for each in found["Resources"].values()} >= {"AWS::SQS::Queue", "AWS::SNS::Topic"}


# Against services.


@pytest.fixture
def aws(moto_server, monkeypatch) -> dict[str, str]:
    return {"EIP_TRANSPORT": "aws", "EIP_ENDPOINT_URL": moto_server.url, "EIP_REGION": moto_server.region}


async def in_thread(*arguments: str, stdin: str | None = None, **environment: str) -> Any:
    return await asyncio.to_thread(lambda: ran(*arguments, stdin=stdin, **environment))


@pytest.mark.aws
def test_topology_is_applied_once_and_then_in_force(aws):
    first = ran("topology", "apply", f"{APPS}:TOPOLOGY", **aws)
    assert {each["action"] for each in lines(first)} == {"create"}
    second = ran("topology", "apply", f"{APPS}:TOPOLOGY", **aws)
    assert (lines(second), "everything is as declared" in second.stderr) == ([], True)
    assert ran("topology", "plan", f"{APPS}:TOPOLOGY", **aws).exit_code == 0
    assert ran("topology", "drift", f"{APPS}:TOPOLOGY", **aws).exit_code == 0


@pytest.mark.aws
def test_messages_are_sent_peeked_and_purged_on_sqs(aws):
    ran("topology", "apply", f"{APPS}:TOPOLOGY", **aws)
    assert ran("purge", "cli-orders", "--yes", **aws).exit_code == 0
    sent = lines(ran("send", "cli-orders", '{"id": 1}', "--type", "Order", "-a", "n=7", "-a", "s=x", **aws))
    more = lines(ran("send", "cli-orders", "-", "--lines", stdin='{"id": 2}\n\n{"id": 3}\n', **aws))
    result = ran("peek", "cli-orders", **aws)
    found = {each["id"]: each for each in lines(result)}
    assert found.keys() == {each["id"] for each in (*sent, *more)}
    assert "each look counts as a receive" in result.stderr
    first = found[sent[0]["id"]]
    assert (first["type"], first["attributes"], first["body"]) == ("Order", {"n": 7, "s": "x"}, {"id": 1})
    described = json.loads(ran("describe", "cli-orders", **aws).stdout)
    assert (described["system"], sum(described["depth"].values())) == ("aws_sqs", 3)
    refused = ran("purge", "cli-orders", stdin="n\n", **aws)
    assert (refused.exit_code, "Remove about 3 messages of cli-orders for good?" in refused.output) == (1, True)
    assert len(lines(ran("peek", "cli-orders", **aws))) == 3


@pytest.mark.aws
def test_a_queue_that_is_not_there_says_what_to_do(aws):
    result = ran("peek", "cli-nowhere", **aws)
    assert (result.exit_code, "eip topology apply" in result.output) == (3, True)


@pytest.mark.aws
async def test_tail_follows_a_topic_without_taking_and_leaves_nothing(aws, moto_server):
    transport = AwsTransport(
        region=moto_server.region, session=moto_server.session, endpoint_url=moto_server.url, long_poll=1.0
    )
    async with transport:
        await Topology(TopicSpec("cli-tailed"), SubscriptionSpec("cli-tailed", "real")).apply(transport)
        topic = transport.topic("cli-tailed")
        tailing = asyncio.create_task(in_thread("tail", "topic/cli-tailed", "-n", "1", **aws))
        async with asyncio.timeout(30):
            while len(await topic.subscribers()) < 2:
                await asyncio.sleep(0.1)
            await topic.send(Message({"id": 1}))
            assert [each["body"] for each in lines(await tailing)] == [{"id": 1}]
        assert await topic.subscribers() == {"cli-tailed-real"}
        assert len(await transport.queue("cli-tailed-real").peek(10)) == 1


@pytest.mark.aws
async def test_tail_follows_a_bus_by_a_rule_of_its_own_and_leaves_nothing(aws, moto_server):
    where = {"region": moto_server.region, "session": moto_server.session, "endpoint_url": moto_server.url}
    async with AwsTransport(**where, long_poll=1.0) as transport:
        await Topology(BusSpec("cli-bus"), RuleSpec("cli-bus", "real")).apply(transport)
        events = await transport.client("events")
        bus = transport.bus("cli-bus")

        async def rules():
            return {each["Name"] for each in (await events.list_rules(EventBusName="cli-bus"))["Rules"]}

        tailing = asyncio.create_task(in_thread("tail", "bus/cli-bus", "-n", "1", **aws))
        async with asyncio.timeout(30):
            while len(await rules()) < 2 or not await has_target(events, await rules() - {"real"}):
                await asyncio.sleep(0.1)
            await bus.send(Message({"id": 1}, type="Sold", source="shop"))
            assert [each["body"] for each in lines(await tailing)] == [{"id": 1}]
        assert await rules() == {"real"}
        assert not await bus.unsubscribe("nowhere")


async def has_target(events, names):
    return all([(await events.list_targets_by_rule(EventBusName="cli-bus", Rule=each))["Targets"] for each in names])


@pytest.mark.aws
@pytest.mark.parametrize("channel", ["bus/cli-nowhere", "topic/cli-nowhere"])
def test_tail_makes_no_bus_and_no_topic(aws, channel):
    result = ran("tail", channel, "-n", "1", **aws)
    assert (result.exit_code, "cli-nowhere does not exist" in result.output) == (3, True)


async def tailed(transport, channel, count, send):
    """What `tail` brings of a channel, sent once its receiver has begun."""
    place, found = Place(transport, Topology()), list[Any]()
    async with asyncio.timeout(30), aclosing(followed(place, channel, 0.05)) as messages, asyncio.TaskGroup() as tasks:

        async def go_on_sending():
            while len(found) < count:
                await send()
                await asyncio.sleep(0.05)

        tasks.create_task(go_on_sending())
        async for message in messages:
            found.append(message.body)
            if len(found) == count:
                break
    return found


async def test_tail_follows_a_stream_and_a_bus_in_memory():
    async with MemoryTransport() as memory:
        stream, bus = memory.stream("clicks"), memory.bus("shop")
        await stream.send(Message("before", group_id="g"))
        found = await tailed(memory, "stream/clicks", 3, lambda: stream.send(Message("now", group_id="g")))
        assert found == ["now"] * 3
        event = Message({"n": 1}, type="Sold", source="shop")
        assert await tailed(memory, "bus/shop", 1, lambda: bus.send(event)) == [{"n": 1}]
        assert "rules=0" in repr(bus)


@pytest.mark.aws
async def test_tail_follows_a_stream_without_a_trace(aws, moto_server):
    where = {"region": moto_server.region, "session": moto_server.session, "endpoint_url": moto_server.url}
    async with AwsTransport(**where) as transport:
        await Topology(StreamSpec("cli-clicks", shards=2)).apply(transport)
        stream = transport.stream("cli-clicks")
        click = Message({"n": 1}, group_id="g")
        tables = await transport.client("dynamodb")
        before = (await tables.list_tables())["TableNames"]
        assert await tailed(transport, "stream/cli-clicks", 2, lambda: stream.send(click)) == [{"n": 1}] * 2
        assert (await tables.list_tables())["TableNames"] == before, "its leases are kept by the command"


@pytest.mark.activemq
async def test_the_depth_of_a_broker_s_queue_is_shown_as_unknown(activemq_broker, monkeypatch):
    url = f"stomp://{activemq_broker.user}:{activemq_broker.password}@127.0.0.1:{activemq_broker.port}"
    (line,) = (await in_thread("describe", "cli-deep", "--broker", url)).stdout.splitlines()
    depth = json.loads(line)["depth"]
    monkeypatch.setattr(console, "_force_terminal", True)
    shown = await in_thread("describe", "cli-deep", "--broker", url)
    assert ("unknown: the service does not tell" in shown.output) is (depth is None)
    topic = await in_thread("describe", "topic/cli-deep", "--broker", url)
    assert (topic.exit_code, "depth" in topic.output) == (0, False)


@pytest.mark.activemq
async def test_activemq_s_messages_are_looked_at_without_a_trace(activemq_broker):
    url = f"stomp://{activemq_broker.user}:{activemq_broker.password}@127.0.0.1:{activemq_broker.port}"
    async with ActiveMQTransport(url) as transport:
        queue = transport.queue("cli-browsed")
        await queue.send(*(Message({"id": number}) for number in range(5)))
        for _ in range(2):
            result = await in_thread("peek", "cli-browsed", "-n", "3", "--broker", url)
            assert [each["body"]["id"] for each in lines(result)] == [0, 1, 2]
            assert "counts as a receive" not in result.stderr
        tailed = await in_thread("tail", "cli-browsed", "-n", "5", "--broker", url)
        assert [each["body"]["id"] for each in lines(tailed)] == [0, 1, 2, 3, 4]
        assert await queue.peek(0 + 100)
        assert len(await queue.peek(100, max_bytes=1)) == 1
        async with queue.receiver() as receiver:
            deliveries = await receiver.receive(1)
            assert deliveries[0].receive_count == 1
        purged = await in_thread("purge", "cli-browsed", "--yes", "--broker", url)
        assert (purged.exit_code, "removed 5 messages" in purged.stderr) == (0, True)
        assert not await queue.peek()


@pytest.mark.activemq
async def test_scatter_asks_once_and_prints_the_replies(activemq_broker, monkeypatch):
    url = f"stomp://{activemq_broker.user}:{activemq_broker.password}@127.0.0.1:{activemq_broker.port}"
    monkeypatch.setenv("EIP_TRANSPORT", "activemq")
    monkeypatch.setenv("EIP_BROKER_URL", url)
    from .apps import pricing

    async with pricing():
        result = await in_thread("scatter", "cli-prices", '{"id": 21}', "--expected", "1", "--deadline", "20")
        assert [each["body"] for each in lines(result)] == [{"price": 42}]
        assert result.exit_code == 0
    late = await in_thread("scatter", "cli-nobody", "{}", "--deadline", "0.2")
    assert (late.exit_code, "0 replied" in late.stderr) == (1, True)
